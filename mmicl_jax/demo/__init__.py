"""The embedded default: a small model that learns in context, on real images.

In: a seed. Out: checkpoints, held-out records, plots and a page.
"""
