"""Input scale x resolution: Table 4 of Chen 2023 (arXiv 2301.10972), b = 0.3 ... 1 with two schedules.

    python -m noise_sched.sweep --sweep=configs/sweeps/input_scale_grid.py:digits --workdir=runs/input_scale

Behind the colon: a data set at our scale (digits, mnist5k, dead_leaves), tiny, or nothing for the paper's
ImageNet at 64, 128 and 256 pixels, which takes TPU pods. Expected: docs/results/grids.md.

A smaller b makes the same schedule noisier, and the network sees an input of another scale: per-example
normalization, which the paper uses with it, is on in every cell.
"""

from configs import imagenet64_rin
from configs.sweeps import imagenet, small
from configs.sweeps.cells import choices, named, product, seeds

ROWS, COLUMNS, WITHIN = ("b",), ("size",), ("size",)
FIGURES = ("class_fd/distance", "swd/distance", "class_agreement/agreement")

SCALES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
SCHEDULES = ("cosine(0.2, 1.0, tau=1.0)", "linear()")


def get_config(variant=None):
    """The base config; `variant` as above."""
    return small.config_of(variant, imagenet64_rin.get_config)


def sweep(variant=None):
    """The cells: every b with both schedules at every resolution, with three training seeds at our scale."""
    variant = small.variant_of(variant)
    if variant == "tiny":
        return product(choices("schedule", SCHEDULES), _scales(SCALES[:4:2]))
    grid = product(choices("schedule", SCHEDULES), _scales(SCALES))
    if not variant:
        return product(grid, imagenet.sizes())
    return product(grid, small.sizes(variant), seeds(3))


def _scales(values):
    return [named("b", value, {"process": f"vp(input_scale={value})"}) for value in values]
