"""NVlabs' published snapshots of EDM and EDM2 -> a workdir: `python -m noise_sched.convert`.

    snapshot        the tree of modules -> state_dict, constructor arguments
    settings        those -> our config and parameters
    writing         config and checkpoint, as training writes them

`snapshot` knows nothing of the rest of the package but `pickles`, which reads the file as data. Nothing of
it is ever imported, compiled or called, the module sources that it carries included.
"""
