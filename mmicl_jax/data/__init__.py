"""Reads MIC records and makes batches of them.

In: records, or pictures with captions, and a vocabulary. Out: a Loader of
batches.
"""
