"""Converts weights from PyTorch and back, exactly, one parameter at a time.

In: a Hugging Face, MIC or T5X checkpoint. Out: a MODEL_DIR; and the inverse.
"""
