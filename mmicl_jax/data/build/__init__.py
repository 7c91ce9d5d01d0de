"""Official files of datasets to MIC records; what `mmicl data build` does.

In: the tree of files as its makers publish it. Out: records with their images,
and a manifest that says what became of every official item.
"""
