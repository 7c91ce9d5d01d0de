"""Prompts as text: turns with images and demonstrations become one prompt.

In: turns. Out: an Example, its images numbered by position. Python only.
"""
