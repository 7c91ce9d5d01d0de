"""Training, both stages: what trains, the step, the loop, its log.

In: a config, a stage and a source of batches. Out: checkpoints and metrics.
"""
