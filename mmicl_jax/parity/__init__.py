"""Is a conversion exact? Both models on the same inputs, place by place.

In: a PyTorch checkpoint, and ours. Out: a report of differences.
"""
