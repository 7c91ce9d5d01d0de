"""Training, both stages: what trains, the step, the loop, its log.

In: settings of the model, the data, the steps and the run. Out: checkpoints and
metrics.
"""
