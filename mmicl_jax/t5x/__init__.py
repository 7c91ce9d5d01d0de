"""Runs the same model and data under T5X; no other folder imports this one.

In: gin files of gin_configs/t5x. Out: what t5x.train, eval and infer call.
"""
