"""What every network checks, with one wording: sizes when it is built, inputs when it is called."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

from jaxtyping import Array


def height_width(image_size: int | Sequence[int]) -> tuple[int, int]:
    """`image_size` as (height, width).

    Raises:
      ValueError: it is neither one positive number nor two.
    """
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(
            f"image_size must be one positive number or (height, width), but got {image_size}."
        )
    return size


def check_least(network: Any, least: dict[str, int]) -> None:
    """Refuses fields of a network that are smaller than `least` says."""
    for field, minimum in least.items():
        if getattr(network, field) < minimum:
            raise ValueError(
                f"{field} must be at least {minimum}, but got {getattr(network, field)}."
            )


def check_rates(network: Any, fields: Iterable[str]) -> None:
    """Refuses dropout rates outside [0, 1)."""
    for field in fields:
        if not 0 <= getattr(network, field) < 1:
            raise ValueError(
                f"{field} is a probability in [0, 1), but got {getattr(network, field)}."
            )


def check_known(field: str, value: str, known: Sequence[str]) -> None:
    """Refuses a word that is not one of `known`, naming the nearest that is."""
    if value not in known:
        nearest = difflib.get_close_matches(value, known, n=1, cutoff=0.0)
        raise ValueError(
            f"Unknown {field} '{value}': did you mean '{nearest[0]}'? Known are {', '.join(known)}."
        )


def check_images(network: Any, x: Array) -> None:
    """Refuses images of another shape than the network was made for."""
    expected = (*height_width(network.image_size), network.channels)
    if x.ndim != 4 or x.shape[1:] != expected:
        raise ValueError(
            f"This {type(network).__name__} was made for images [batch, height, width, channels] = "
            f"[batch, {', '.join(map(str, expected))}], but x has shape {list(x.shape)}: "
            f"resize the images or change image_size and channels."
        )


def check_label(network: Any, label: Array | None) -> None:
    """Refuses labels for a network without classes, and none for one with classes."""
    name = type(network).__name__
    if network.num_classes and label is None:
        raise ValueError(
            f"This {name} has {network.num_classes} classes, but label is None: pass one integer "
            f"per image, -1 for no class."
        )
    if not network.num_classes and label is not None:
        raise ValueError(
            f"This {name} has no classes (num_classes=0), but got labels: pass label=None or set "
            "num_classes."
        )


def check_augment_label(network: Any, x: Array, augment_label: Array | None) -> None:
    """Refuses augmentation labels that the network has no, or other, inputs for."""
    if augment_label is None:
        return
    name, dim = type(network).__name__, network.augment_dim
    if not dim:
        raise ValueError(
            f"This {name} is told no augmentation (augment_dim=0), but got augment_label of shape "
            f"{list(augment_label.shape)}: pass augment_label=None or set augment_dim="
            f"{augment_label.shape[-1]}."
        )
    if augment_label.shape != (x.shape[0], dim):
        raise ValueError(
            f"augment_label must have shape [batch, augment_dim] = [{x.shape[0]}, {dim}], but has "
            f"{list(augment_label.shape)}: change it or augment_dim, or pass None for zeros."
        )
