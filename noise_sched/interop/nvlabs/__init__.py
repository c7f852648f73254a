"""NVlabs' published snapshots of EDM and EDM2 -> a workdir: `python -m noise_sched.convert`.

    unpickler       a pickle as data: an explicit table of names, each an inert stand-in
    torch_tensors   tensors and storages within it -> NumPy, without torch
    snapshot        the tree of modules -> state_dict, constructor arguments
    settings        those -> our config and parameters
    writing         config and checkpoint, as training writes them

The first three know nothing of the rest of the package. Nothing of the pickle is ever imported, compiled
or called, the module sources that it carries included.
"""
