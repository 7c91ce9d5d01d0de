"""Answers prompts with a trained model.

In: a directory with a model; turns. Out: answers, scores, logits.
"""
