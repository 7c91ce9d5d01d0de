"""Writes prompts as text: turns with images become one numbered prompt.

In: turns. Out: an Example, its images numbered by position. Python only.
"""
