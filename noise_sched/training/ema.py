"""The exponential moving average of the parameters, which sampling uses.

    ema ← d · ema + (1 − d) · params                                                           (1)

d is constant (0.9999 in arXiv 2212.11972 and 2301.10972) from the first step on, or warms up: at
the t-th update, counted from 0,

    d_t = min(d, (1 + t) / (10 + t))                                                           (2)

or is given by a half-life of H images (EDM, arXiv 2206.00364; its released training code), which grows with
the run as a share r of the images before the step, so that the beginning is forgotten: with B images a step,

    d_t = (1 / 2)^(B / min(H, r t B))                                                          (3)

that is 0 at t = 0.

What is computed is 1 − d itself, to all its digits: made of a float32 d = 0.9999 it has four. The average
then moves by that share of its distance (`power_ema.towards`).

The average starts as a copy of the parameters. The reference code averages into a second network
with an initialization of its own, whose weight is still 0.9999^10000 ≈ 0.37 after 10,000 steps:
harmless in its runs of 150,000 steps, ruinous in short ones. There is no such memory to lose here;
in all else the average is the published one, without any correction of the initial bias.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike


def constant(new_weight: ArrayLike, step: ArrayLike, *, warmup: bool = False) -> jax.Array:
    """1 - d of the update at `step` (counted from 0), where d is constant or warms up, equation (2).

    Args:
      new_weight: 1 - d, which has all its digits only if a plain 1.0 - d, in float64, made it.
      step: how many updates the average has had; it matters with `warmup` only.
      warmup: use equation (2), which forgets the initial parameters quickly. For short runs.
    """
    if not warmup:
        return jnp.asarray(new_weight, jnp.result_type(float))
    step = jnp.asarray(step).astype(jnp.result_type(float))
    return jnp.maximum(new_weight, 9.0 / (10.0 + step))


def halflife(
    images: ArrayLike, step: ArrayLike, *, batch_size: int, rampup_ratio: int | float = 0.05
) -> jax.Array:
    """1 - d of the update at `step` (counted from 0), by a half-life, equation (3).

    Args:
      images: H, above 0.
      step: how many updates the average has had.
      batch_size: B.
      rampup_ratio: r; 0 for a half-life of H from the first step on.
    """
    step = jnp.asarray(step).astype(jnp.result_type(float))
    steps = jnp.full_like(step, images / batch_size)
    if rampup_ratio:
        steps = jnp.minimum(steps, rampup_ratio * step)
    return -jnp.expm1(-math.log(2) / steps)  # 1 - 2^-inf = 1 at the first step
