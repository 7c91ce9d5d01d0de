"""Benchmarks: official files to questions, predictions, scores and a report.

A declaration of tasks/benchmarks/ says all of it. Predictions are made once;
scores and report come from the folder alone. explanation.py and what it imports
are `mmicl explain`: what the demonstrations of prompts did.
"""
