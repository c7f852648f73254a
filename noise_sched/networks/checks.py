"""What several networks check when they are built, with one wording."""

from collections.abc import Iterable, Sequence
from typing import Any

from noise_sched.messages import did_you_mean


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
    """Refuses a word that is not one of `known`, with the nearest one."""
    if value not in known:
        raise ValueError(f"Unknown {field} '{value}'. {did_you_mean(value, known)}")
