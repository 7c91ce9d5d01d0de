"""Trains the model, in both stages: what trains, the step, the loop, the log.

In: settings of the model, the data, the steps and the run. Out: checkpoints and
metrics.
"""
