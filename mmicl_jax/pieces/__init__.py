"""Parts of the tokenizers: T5's character map, and BERT's word pieces.

In: the bytes of a vocabulary, and text. Out: normalised text; ids.
"""
