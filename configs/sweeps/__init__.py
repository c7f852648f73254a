"""Sweeps: a base config and the cells of a grid around it, each a dict of the keys it changes.

    python -m noise_sched.sweep --sweep=configs/sweeps/input_scale_grid.py:digits --workdir=runs/b

A sweep file has three parts; `cells.py` helps to write them, `input_scale_grid.py` is an example:

    def get_config(variant): ...      the base, as in any config file
    def sweep(variant): ...           the cells: {"schedule": "cosine()", "train.steps": 500, "seed": 1}
    ROWS, COLUMNS, WITHIN = ...       how the report lays them out; may be left out
    FIGURES = ("swd/distance",)       which figures matter; may be left out
"""
