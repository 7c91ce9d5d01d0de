"""Reads MIC records and makes batches of them.

In: JSON Lines or ArrayRecord files, a vocabulary. Out: a Loader of batches.
"""
