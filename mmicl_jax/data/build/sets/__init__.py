"""One file for each dataset or family: official items to the builder's items.

Nothing is opened here but annotation files; pictures are named, not read.
"""
