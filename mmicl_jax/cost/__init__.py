"""What arithmetic a model asks for, and what chips can give.

In: sizes and lengths. Out: FLOPs, shares of a chip's peak.
"""
