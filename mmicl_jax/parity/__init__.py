"""Shows whether a conversion is exact: runs both models on the same inputs.

In: a PyTorch checkpoint and ours. Out: how far each layer's values differ.
"""
