"""Learning rates as functions of the step: linear warm-up, then a decay.

With base rate η, W warm-up steps, T steps in all and the end factor e,

    η(s) = η · s / W                                     while s < W                          (1)
    η(s) = η · (e + (1 − e) · d(p)),  p = min(s − W, T − W) / (T − W)   from then on           (2)

where d falls from d(0) = 1:

    "none"       d(p) = 1, whatever e
    "linear"     d(p) = 1 − p
    "cosine"     d(p) = (1 + cos π p) / 2
    "cosine@r"   d(p) = (1 + cos π r p) / 2, the first fraction r of the half cosine            (3)

or, counted from the start of the run and without an end factor, so that the warm-up multiplies it,

    "inverse_sqrt@N"   η(s) = η · min(s / W, 1) / √max(s / N, 1)                               (4)

which is EDM2's (Karras et al. 2024, arXiv 2312.02696, section 2.4), N its t_ref.

`cosine@r` stops the decay before it gets to nothing: with e = 0 the last rate is η(1 + cos πr)/2,
that is 0.0955 η for r = 0.8 and 0.206 η for r = 0.7, the values of the RIN recipes (arXiv
2212.11972; 3e-3 with cosine@0.8 for CIFAR-10, 2e-3 with cosine@0.7 for ImageNet-64, 10,000 warm-up
steps of 150,000). EDM (arXiv 2206.00364) counts the warm-up in images, min(images / ramp, 1): then W
is ramp / batch size, which need not be whole. A schedule is an optax schedule: a function from the
step, counted from 0, to the rate. By (1) the first update of a warmed-up run has the rate 0, as published.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from noise_sched.messages import did_you_mean

Schedule = Callable[[jax.typing.ArrayLike], jax.Array]

_DECAYS = ("none", "linear", "cosine", "cosine@r", "inverse_sqrt@N")


def warmup_and_decay(
    base: int | float | jax.Array,
    *,
    total_steps: int,
    decay: str = "none",
    warmup_steps: int | float = 0,
    end_factor: float = 0.0,
) -> Schedule:
    """A linear warm-up followed by a decay, equations (1) to (4) of this module.

    Args:
      base: the rate η at the end of the warm-up, a number or a traced scalar.
      total_steps: T, the steps of the whole run; the rate stays constant beyond it.
      decay: "none", "linear", "cosine", "cosine@r" with 0 < r <= 1, or
        "inverse_sqrt@N" with N >= 1.
      warmup_steps: W; 0 for no warm-up.
      end_factor: e, the rate at the end of a full decay as a fraction of `base`.

    Returns:
      A function from the step (an integer, possibly traced, of any shape) to the rate, a float
      array of the same shape. Safe under jit and vmap.

    Raises:
      ValueError: for an unknown decay (the nearest name is given), a fraction or an end factor
        outside its range, or a warm-up that leaves no step to decay over.
    """
    reference = _reference_steps(decay)
    fraction = None if reference else _fraction(decay)
    if not 0.0 <= end_factor <= 1.0:
        raise ValueError(f"end_factor must be between 0 and 1, got {end_factor}")
    if total_steps < 1 or warmup_steps < 0:
        raise ValueError(
            f"total_steps must be at least 1 and warmup_steps at least 0; got "
            f"total_steps={total_steps}, warmup_steps={warmup_steps}"
        )
    decay_steps = total_steps - warmup_steps
    if fraction is not None and decay_steps < 1:
        raise ValueError(
            f"the warm-up steps (warmup_steps={warmup_steps}) leave no step of total_steps={total_steps} "
            f"for the decay {decay!r}: shorten the warm-up or train for longer"
        )

    def schedule(step: jax.typing.ArrayLike) -> jax.Array:
        # The default float type: float32, or float64 where x64 is enabled.
        step = jnp.asarray(step).astype(jnp.result_type(float))
        if reference:
            ramp = jnp.minimum(step / warmup_steps, 1.0) if warmup_steps else 1.0
            return base * ramp * jax.lax.rsqrt(jnp.maximum(step / reference, 1.0))
        if fraction is None:
            decayed = jnp.full_like(step, base)
        else:
            progress = jnp.clip((step - warmup_steps) / decay_steps, 0.0, 1.0)
            if decay == "linear":
                shape = 1.0 - progress
            else:
                shape = 0.5 * (1.0 + jnp.cos(math.pi * fraction * progress))
            decayed = base * (end_factor + (1.0 - end_factor) * shape)
        if not warmup_steps:
            return decayed
        return jnp.where(step < warmup_steps, step / warmup_steps * base, decayed)

    return schedule


def _reference_steps(decay: str) -> float | None:
    """N of "inverse_sqrt@N"; None for any other decay."""
    name, _, argument = decay.partition("@")
    if name != "inverse_sqrt":
        return None
    try:
        steps = float(argument)
    except ValueError:
        steps = math.nan
    if not 1 <= steps < math.inf:
        raise ValueError(
            f"the number of steps in {decay!r} must be at least 1, as in 'inverse_sqrt@35000'"
        )
    return steps


def _fraction(decay: str) -> float | None:
    """The fraction of the decay's curve that is run through; None when there is no decay."""
    name, at, argument = decay.partition("@")
    if not at and name == "none":
        return None
    if not at and name in ("linear", "cosine"):
        return 1.0
    if at and name == "cosine":
        try:
            fraction = float(argument)
        except ValueError:
            fraction = math.nan
        if not 0.0 < fraction <= 1.0:
            raise ValueError(
                f"the fraction in {decay!r} must be a number above 0 and at most 1, as in "
                f"'cosine@0.8'"
            )
        return fraction
    raise ValueError(f"unknown learning-rate decay {decay!r}. {did_you_mean(name, _DECAYS)}")
