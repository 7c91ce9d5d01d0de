"""Saves checkpoints in T5X's layout, and what a MODEL_DIR holds besides.

In: trees of arrays and a directory. Out: the same, verified by checksums.
"""
