"""Benchmarks: ours beside transformers, measured side by side.

In: sizes and cases. Out: rows of medians with spread, and their tables.
"""
