"""What the tokenizer is made of: T5's character map, BERT's word pieces.

In: the bytes of a vocabulary, and text. Out: normalised text; ids.
"""
