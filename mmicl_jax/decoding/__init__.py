"""Chooses tokens from logits: greedy, sampling, beam search, stop strings.

In: a model and prompts that it has read. Out: tokens and scores.
"""
