"""The same model and data under T5X's trainer; nothing else imports this.

In: gin files of gin_configs/t5x. Out: what t5x.train, eval and infer call.
"""
