"""Scores answers as a benchmark's official program does, or as a harness does.

In: a folder of official annotations, and answers by id. Out: metrics, a score
for each item, and notes. Python and numpy only: no model, no JAX.
"""
