"""Refusing what no scheduler_config.json says."""

from typing import Any


class CannotExpress(ValueError):
    """A set-up that no scheduler_config.json says; the message says what of it."""


def need(condition: bool, reason: str) -> None:
    """Refuses where `condition` is false.

    Raises:
      CannotExpress: with the reason.
    """
    if not condition:
        raise CannotExpress(f"no scheduler_config.json says this: {reason}")


def need_equal(what: str, found: Any, wanted: Any, why: str) -> None:
    """Refuses a choice that is not the one that a class has.

    Raises:
      CannotExpress: naming both.
    """
    need(found == wanted, f"{what} is {found!r}, and {why} has {wanted!r}.")
