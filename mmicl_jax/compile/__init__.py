"""What XLA says of a run before any accelerator is there.

In: gin files and a TPU topology. Out: memory, FLOPs, bytes sent, time.
"""
