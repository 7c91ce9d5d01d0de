"""`mmicl demo`: a small model learns in context from glyphs, on a CPU.

In: a seed, a preset. Out: checkpoints, held-out records, plots and a page.
"""
