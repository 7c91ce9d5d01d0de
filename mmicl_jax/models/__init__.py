"""The network in Linen: ViT, Q-Former, T5, and where their arrays live.

In: a config and a Batch. Out: logits.
"""
