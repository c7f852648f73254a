"""Checks of hyper-parameters that may be plain numbers or traced arrays.

A hyper-parameter is a pytree leaf, so inside `jit` or `vmap` it is a tracer whose value nobody
knows. Plain Python numbers, which is what people type, are checked; everything else passes.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

# A pytree leaf: a number, an array, a tracer, or whatever JAX puts in a leaf's place (a grid of
# settings makes it [n], `eval_shape` a ShapeDtypeStruct). Shapes are given in the docstrings.
Leaf: TypeAlias = Any


def is_plain(*values: Any) -> bool:
    """Whether all `values` are plain Python numbers, so that they can be compared now."""
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def is_zero(value: Any) -> bool:
    """Whether `value` is the plain number 0, not something traced that may be it."""
    return is_plain(value) and value == 0


def is_off(value: Any) -> bool:
    """Whether a rate is off for sure, so that its code can be left out: None or a plain 0."""
    return value is None or is_zero(value)


def fits_float32(value: Any) -> bool:
    """Whether `value` is a plain number that float32 holds: finite, and not so small that it becomes 0."""
    if not is_plain(value):
        return False
    smallest, largest = float(jnp.finfo(jnp.float32).tiny), float(jnp.finfo(jnp.float32).max)
    return value == 0 or smallest <= abs(value) <= largest


def require(condition: bool, message: str) -> None:
    """Raises `ValueError(message)` unless `condition`."""
    if not condition:
        raise ValueError(message)


def check_positive(name: str, value: Leaf, note: str) -> None:
    """Refuses a plain number that is not above 0; `note` says what would do."""
    if is_plain(value):
        require(value > 0, f"{name} must be positive, got {value}; {note}.")


def check_not_negative(name: str, value: Leaf, note: str) -> None:
    """Refuses a plain number below 0; `note` says what would do."""
    if is_plain(value):
        require(value >= 0, f"{name} must be non-negative, got {value}; {note}.")


def check_fraction(name: str, value: Leaf, note: str) -> None:
    """Refuses a plain number outside (0, 1]; `note` says what would do."""
    if is_plain(value):
        require(0 < value <= 1, f"{name} must lie in (0, 1], got {value}; {note}.")


def check_share(name: str, value: Leaf, note: str) -> None:
    """Refuses a plain number outside [0, 1]; `note` says what the two ends are."""
    if is_plain(value):
        require(0 <= value <= 1, f"{name} must lie in [0, 1], got {value}; {note}.")


def check_choice(name: str, value: Any, choices: Sequence[Any], note: str = "") -> None:
    """Refuses a value that is not among the `choices`; `note` says more of them."""
    *others, last = map(repr, choices)
    more = f"; {note}" if note else ""
    require(value in choices, f"{name} must be {', '.join(others)} or {last}, got {value!r}{more}.")


def as_float(value: ArrayLike) -> jax.Array:
    """`value` as an array of its own floating type (Python numbers: the default one)."""
    return jnp.asarray(value, jnp.result_type(value, float))
