"""Answers many clients' prompts at a time, and each as if it were alone.

In: prompts made by a Predictor, from any thread. Out: tokens as they come.
"""
