"""Training configurations A to F of EDM (Karras et al. 2022, arXiv 2206.00364, Tables 1, 2 and 6).

Each row adds one thing to the row above, for either of the two networks, vp (DDPM++) and ve (NCSN++):

    A    the baseline: the preconditioning, p(sigma) and weight of Table 1's column VP or VE
    B    batch, learning rate, ramps, half-life, dropout; no gradient clipping
    C    the capacity moved from the highest and lowest resolutions to those between
    D    EDM's preconditioning
    E    EDM's log-normal p(sigma) and lambda(sigma)
    F    EDM's augmentation instead of mirrored data

All rows are sampled by Heun's method on EDM's steps. `variant_of` is one of them for a data
set; `recipe`, `choices` and `unet` are what the other configs share with them.
"""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from configs import common

ROWS = ("A", "B", "C", "D", "E", "F")
KINDS = ("vp", "ve")
CLASSES = ("uncond", "cond")


@dataclasses.dataclass(frozen=True)
class Size:
    """What depends on the data set: from row B on, the capacity from row C on, and of row F."""

    image_size: int
    batch_size: int
    learning_rate: float
    dropout: float
    augment: float
    first_mult: tuple[int, ...]
    channel_mult: tuple[int, ...]
    sample_steps: int


CIFAR10 = Size(32, 512, 1e-3, 0.13, 0.12, (1, 2, 2, 2), (2, 2, 2), 18)
FFHQ64 = Size(64, 256, 2e-4, 0.05, 0.15, (1, 1, 2, 2, 2), (1, 2, 2, 2), 40)
AFHQV2_64 = dataclasses.replace(FFHQ64, dropout=0.25)


def parse(variant: str | None, *groups: tuple[str, ...]) -> list[str]:
    """Picks one word of each group, the group's default where none is named.

    Args:
      variant: what stands behind the colon: words of the groups separated by commas, in any order.
      groups: the words that exclude each other, the default first.

    Raises:
      ValueError: for an unknown word, or two of one group.
    """
    words = [word for word in (variant or "").split(",") if word]
    known = ", ".join(" or ".join(sorted(filter(None, group))) for group in groups)
    for word in words:
        if not any(word in group for group in groups):
            raise ValueError(f"unknown variant {word!r} of this config. Known: {known}.")
    picked = []
    for group in groups:
        named = [word for word in words if word in group]
        if len(named) > 1:
            raise ValueError(
                f"{' and '.join(repr(word) for word in named)} exclude each other: this config takes "
                f"one of {known}."
            )
        picked.append(named[0] if named else group[0])
    return picked


def variant_of(data: str, size: Size, variant: str | None, classes: int = 0) -> ConfigDict:
    """The config of --config=FILE.py:VARIANT for one data set; row F and vp where the variant names none.

    Args:
      data: the data set's name.
      size: what depends on it.
      variant: a row, a kind, tiny; for a data set with classes also uncond (the default) or cond.
      classes: how many classes it has, 0 if they are not used.
    """
    groups = (ROWS[::-1], KINDS, *([CLASSES] if classes else []), ("", "tiny"))
    row, kind, *labels, tiny = parse(variant, *groups)
    made = config(row, kind, size)
    made.data.name = data
    made.network.num_classes = classes if "cond" in labels else 0
    return common.finish(made, tiny)


def config(row: str, kind: str, size: Size) -> ConfigDict:
    """The config of one row, without data set and classes."""
    made = common.base()
    recipe(made)
    _earlier_choices(made, row, kind)
    _training(made, row, kind, size)
    made.network = _network(row, kind, size)
    made.data.update(image_size=size.image_size, channels=3, flip=row != "F")
    made.augment.probability = size.augment if row == "F" else 0.0
    # Column VE's networks were not trained below its smallest sigma.
    smallest = 0.02 if kind == "ve" and row < "E" else 0.002
    made.sample.update(
        schedule=f"karras(sigma_min={smallest}, sigma_max=80.0, rho=7.0)", steps=size.sample_steps
    )
    return made


def recipe(made: ConfigDict) -> None:
    """EDM's recipe, row E: Table 1's last column, Adam, the sum over pixels, deterministic Heun."""
    choices(made)
    made.sigma_data = 0.5
    made.loss.update(self_conditioning=0.0, reduction="sum")
    made.optimizer.update(
        name="adam", decay="none", warmup_steps=0, warmup_images=10_000_000, sanitize=True
    )
    made.ema.update(halflife_images=500_000, rampup_ratio=0.05)


def choices(made: ConfigDict) -> None:
    """Table 1's last column for any sigma_data: noise, the network's two ends, the loss, the sampling."""
    made.process = "ve()"
    made.schedule = "lognormal(p_mean=-1.2, p_std=1.2)"
    made.parametrization = "edm(sigma_data)"
    made.input_scale = "analytic(sigma_data)"
    made.conditioning = "log_sigma(scale=0.25)"
    made.loss.update(space="edm(sigma_data)", weight="edm(sigma_data)")
    made.sample.update(
        schedule="karras(sigma_min=0.002, sigma_max=80.0, rho=7.0)",
        grid="edm()",
        solver="heun()",
        threshold="none()",
    )


def _earlier_choices(made: ConfigDict, row: str, kind: str) -> None:
    """Table 1: p(sigma) and weight before row E, the network's two ends before row D."""
    if row < "E":
        made.schedule = (
            "crop(vp_diffusion(), 1e-5, 1.0)" if kind == "vp" else "geometric(0.02, 100.0)"
        )
        made.loss.weight = "uniform(eps())"  # lambda = 1 / sigma^2
    if row < "D":
        made.parametrization = made.loss.space = "eps()" if kind == "vp" else "score()"
        made.input_scale = "analytic(1.0)" if kind == "vp" else "none()"
        made.conditioning = "vp_time()" if kind == "vp" else "log_sigma(scale=1.0, unit=2.0)"


def _training(made: ConfigDict, row: str, kind: str, size: Size) -> None:
    """Table 6."""
    made.train.update(batch_size=size.batch_size)
    made.optimizer.learning_rate = size.learning_rate
    if row == "A":
        made.train.batch_size = 128
        made.optimizer.update(learning_rate=2e-4, warmup_images=640_000, clip_norm=1.0)
        made.ema.halflife_images = 890_000 if kind == "vp" else 900_000
    made.train.steps = images_to_steps(200_000_000, made.train.batch_size)
    made.train.checkpoint_every = images_to_steps(2_500_000, made.train.batch_size)


def _network(row: str, kind: str, size: Size) -> ConfigDict:
    return unet(
        "DDPMpp" if kind == "vp" else "NCSNpp",
        augment_dim=9 if row == "F" else 0,
        model_channels=128,
        channel_mult=size.first_mult if row < "C" else size.channel_mult,
        num_blocks=4,
        attention_resolutions=(16,),
        dropout=0.1 if row == "A" else size.dropout,
    )


def unet(name: str, **fields: Any) -> ConfigDict:
    """The section network of a U-Net: what all have, and its own fields."""
    made = dict(name=name, num_classes=0, augment_dim=0, dtype="float32", pad_channels=1)
    return ConfigDict(made | dict(remat="none", scan=False) | fields)


def images_to_steps(images: int, batch_size: int) -> int:
    """The steps that see at least so many images."""
    return -(-images // batch_size)
