"""MIC records to batches.

In: JSON Lines or ArrayRecord files, a vocabulary. Out: a Loader of batches.
"""
