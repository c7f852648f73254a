"""Input scale x resolution on two synthetic sets: the experiment that could refute `calibrate`.

    python -m noise_sched.sweep --sweep=configs/sweeps/calibration_grid.py:random_fields --workdir=runs/fields
    python -m noise_sched.sweep --sweep=configs/sweeps/calibration_grid.py:large_leaves --workdir=runs/leaves

Behind the colon: a data set at our scale whose scenes exist at two resolutions at least (random_fields,
large_leaves, dead_leaves, mnist5k) or tiny. `benchmarks.calibration_check` fits a parabola in ln b at each
resolution, and holds the ratio of the two best b beside what `calibrate` says of the images alone. Expected:
docs/results/calibration.md.
"""

from configs.sweeps import small
from configs.sweeps.cells import named, product, seeds

ROWS, COLUMNS, WITHIN = ("b",), ("size",), ("size",)
FIGURES = ("class_fd/distance", "spectrum/distance", "swd/distance")

SCALES = tuple(round(1.4**k, 4) for k in range(-4, 5))


def get_config(variant=None):
    """The base config; `variant` as above."""
    config = small.config_of(variant or "random_fields", lambda: small.base("random_fields"))
    config.schedule = "cosine(0.2, 1.0, tau=1.0)"
    if variant != "tiny":
        labelled = "class_fd," if config.network.num_classes else ""
        config.eval.metrics = f"{labelled}spectrum,kernel_distance,swd"
    return config


def sweep(variant=None):
    """The cells: every b at every resolution, with two training seeds."""
    variant = small.variant_of(variant or "random_fields")
    if variant == "tiny":
        return _scales(SCALES[2:7:4])
    return product(_scales(SCALES), small.sizes(variant), seeds(2))


def _scales(values):
    return [named("b", value, {"process": f"vp(input_scale={value})"}) for value in values]
