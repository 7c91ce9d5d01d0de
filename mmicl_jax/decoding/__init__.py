"""From logits to answers: greedy, sampling, beam search, stop strings.

In: a model and prompts it has read. Out: tokens and scores.
"""
