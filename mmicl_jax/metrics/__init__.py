"""Scores answers as each benchmark's official program does, and as harnesses do.

In: a folder of official annotations, and answers by id. Out: metrics, a score
for each item, and notes. Python and numpy only: no model, no JAX.
"""
