"""Pickles and torch's files, read as data: no torch, and nothing that a file names is imported or called.

    unpickler       a pickle as data: an explicit table of names, each an inert stand-in
    torch_tensors   tensors and storages within it -> NumPy, without torch

They know nothing of the rest of the package.
"""
