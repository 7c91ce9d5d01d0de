"""`mmicl demo`: a small model learns in context from real images, on a CPU.

In: a seed. Out: checkpoints, held-out records, plots and a page.
"""
