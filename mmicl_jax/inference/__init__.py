"""A trained model that answers.

In: a directory with a model; turns. Out: answers, scores, logits.
"""
