"""Where training spends its draws: four densities of logSNR, each fixed and as the start of an adaptive one.

    python -m noise_sched.sweep --sweep=configs/sweeps/density_grid.py:digits --workdir=runs/density

Behind the colon: a data set at our scale (digits, mnist5k, dead_leaves, large_leaves) or tiny. With
`adaptive()` the objective of a row is that of its `fixed()` neighbour, and only the gradient's variance
differs. Expected: docs/results/density.md.
"""

from configs.sweeps import small
from configs.sweeps.cells import choices, product, seeds

ROWS, COLUMNS = ("schedule",), ("train.density",)
FIGURES = ("class_fd/distance", "swd/distance", "class_agreement/agreement")

SCHEDULES = (
    "geometric(0.02, 20.0)",  # uniform in logSNR
    "sigmoid(-3, 3, tau=0.9)",
    "lognormal(-1.2, 1.2)",
    "laplace()",
)
DENSITIES = ("fixed()", "adaptive()")


def get_config(variant=None):
    """The base config; `variant` as above."""
    return small.config_of(variant or "digits", lambda: small.base("digits"))


def sweep(variant=None):
    """The cells: every schedule with either density, with two training seeds at our scale."""
    variant = small.variant_of(variant or "digits")
    densities = choices("train.density", DENSITIES)
    if variant == "tiny":
        return densities
    return product(choices("schedule", SCHEDULES), densities, seeds(2))
