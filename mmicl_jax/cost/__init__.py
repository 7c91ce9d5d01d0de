"""How much arithmetic a model needs, and how much a chip can do.

In: sizes and lengths. Out: FLOPs, and shares of a chip's peak.
"""
