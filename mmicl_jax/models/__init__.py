"""The network in Linen: ViT, Q-Former and T5, and how arrays are sharded.

In: a config and a Batch. Out: logits.
"""
