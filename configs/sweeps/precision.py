"""bfloat16 against float32: the same runs with the matrix products in either.

    python -m noise_sched.sweep --sweep=configs/sweeps/precision.py:mnist5k --workdir=runs/precision

Behind the colon: a data set at our scale (digits, mnist5k, dead_leaves), tiny, or nothing for ImageNet-64,
which takes TPU pods. Parameters, norms, softmax and the tokens between layers are float32 in both; seeds are
the same, so that two runs see the same images and noise. Expected: docs/results/precision.md.
"""

from configs import imagenet64_rin
from configs.sweeps import small
from configs.sweeps.cells import choices, product, seeds

ROWS, COLUMNS = ("network.dtype",), ()
FIGURES = ("class_fd/distance", "swd/distance", "class_agreement/agreement")

TYPES = ("float32", "bfloat16")


def get_config(variant=None):
    """The base config; `variant` as above."""
    return small.config_of(variant, imagenet64_rin.get_config)


def sweep(variant=None):
    """The cells: both types, with three training seeds at our scale."""
    variant = small.variant_of(variant)
    types = choices("network.dtype", TYPES)
    return product(types, seeds(3)) if variant not in ("", "tiny") else types
