"""Benchmarks of this package, most of them beside transformers.

In: sizes and cases. Out: rows of medians with their spread, and tables.
"""
