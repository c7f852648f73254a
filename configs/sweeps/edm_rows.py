"""Training configurations A to F of EDM's Table 2 (Karras et al. 2022, arXiv 2206.00364), one by one.

    python -m noise_sched.sweep --sweep=configs/sweeps/edm_rows.py:digits --workdir=runs/edm_rows

Behind the colon: vp (DDPM++, default) or ve (NCSN++) for CIFAR-10 at the paper's scale, digits, or tiny.
`digits` trains one small U-Net with the choices of each row: what a row says of the network's size (C),
batch and dropout (B) means nothing at 8 pixels and is left out, so that its rows are A, D, E and F.
"""

from configs import common, digits_unet
from configs import edm_rows as rows
from configs.sweeps import small
from configs.sweeps.cells import difference, named, product, seeds

ROWS = ("row",)
FIGURES = ("class_fd/distance", "class_agreement/agreement")


def get_config(variant=None):
    """The base config: row A, `variant` as above."""
    if (variant or "") not in ("", "vp", "ve", "digits", "tiny"):
        raise ValueError(f"unknown variant {variant!r}: use :vp, :ve, :digits, :tiny, or none.")
    if variant in ("digits", "tiny"):
        return small.tiny(_digits("A")) if variant == "tiny" else _digits("A")
    return _cifar10("A", variant or "vp")


def sweep(variant=None):
    """The cells: each row, with three training seeds for digits."""
    base = get_config(variant)
    if variant in ("digits", "tiny"):
        configs = {row: _digits(row) for row in "ADEF"}
        if variant == "tiny":
            configs = {row: small.tiny(config) for row, config in configs.items()}
    else:
        configs = {row: _cifar10(row, variant or "vp") for row in rows.ROWS}
    axis = [named("row", row, difference(base, config)) for row, config in configs.items()]
    return (
        product(axis, seeds(1 if variant == "tiny" else 3))
        if variant in ("digits", "tiny")
        else axis
    )


def _cifar10(row, kind):
    config = rows.config(row, kind, rows.CIFAR10)
    config.data.name = "cifar10"
    return common.finish(config, None)


def _digits(row):
    """The choices of a row for digits_unet."""
    config = digits_unet.get_config()
    config.train.update(steps=400, log_every=50, checkpoint_every=400, keep=1)
    published = rows.config(row, "vp", rows.CIFAR10)
    for key in ("schedule", "parametrization", "input_scale", "conditioning"):
        config[key] = published[key]
    config.loss.update(space=published.loss.space, weight=published.loss.weight)
    config.augment.probability = published.augment.probability
    config.network.augment_dim = 9 if row == "F" else 0
    config.eval.num_images = 1000
    return config
