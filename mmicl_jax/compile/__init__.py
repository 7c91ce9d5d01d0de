"""Compiles a run for TPUs without having them, and reads XLA's figures.

In: gin files and a TPU topology. Out: memory, FLOPs, bytes sent, seconds.
"""
