"""Schedule x resolution: the twelve rows of Table 3 of Chen 2023 (arXiv 2301.10972), at b = 1.

    python -m noise_sched.sweep --sweep=configs/sweeps/noise_schedule_grid.py:digits --workdir=runs/schedules

Behind the colon: a data set at our scale (digits, mnist5k, dead_leaves), tiny, or nothing for the paper's
ImageNet at 64, 128 and 256 pixels, which takes TPU pods. Expected: docs/results/grids.md.
"""

from configs import imagenet64_rin
from configs.sweeps import imagenet, small
from configs.sweeps.cells import choices, product, seeds

ROWS, COLUMNS, WITHIN = ("schedule",), ("size",), ("size",)
FIGURES = ("class_fd/distance", "swd/distance", "class_agreement/agreement")

SCHEDULES = (
    "linear()",
    "cosine(0.0, 1.0, tau=1.0)",
    "cosine(0.2, 1.0, tau=1.0)",
    "cosine(0.2, 1.0, tau=2.0)",
    "cosine(0.2, 1.0, tau=3.0)",
    "sigmoid(-3.0, 3.0, tau=0.9)",
    "sigmoid(-3.0, 3.0, tau=1.1)",
    "sigmoid(0.0, 3.0, tau=0.3)",
    "sigmoid(0.0, 3.0, tau=0.5)",
    "sigmoid(0.0, 3.0, tau=0.7)",
    "sigmoid(0.0, 3.0, tau=0.9)",
    "sigmoid(0.0, 3.0, tau=1.1)",
)


def get_config(variant=None):
    """The base config; `variant` as above."""
    return small.config_of(variant, imagenet64_rin.get_config)


def sweep(variant=None):
    """The cells: every schedule at every resolution, with three training seeds at our scale."""
    variant = small.variant_of(variant)
    if not variant:
        return product(choices("schedule", SCHEDULES), imagenet.sizes())
    if variant == "tiny":
        return choices("schedule", SCHEDULES[:4])
    return product(choices("schedule", SCHEDULES), small.sizes(variant), seeds(3))
