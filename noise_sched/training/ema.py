"""The exponential moving average of the parameters, which sampling uses.

    ema ← d · ema + (1 − d) · params                                                           (1)

d is constant (0.9999 in arXiv 2212.11972 and 2301.10972) from the first step on, or warms up: at
the t-th update, counted from 0,

    d_t = min(d, (1 + t) / (10 + t))                                                           (2)

The average starts as a copy of the parameters. The reference code averages into a second network
with an initialization of its own, whose weight is still 0.9999^10000 ≈ 0.37 after 10,000 steps:
harmless in its runs of 150,000 steps, ruinous in short ones. There is no such memory to lose here;
in all else the average is the published one, without any correction of the initial bias.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def ema_decay_at(step: jax.typing.ArrayLike, decay: float, *, warmup: bool = False) -> jax.Array:
    """The decay of the update at `step` (counted from 0): constant, or equation (2)."""
    if not warmup:
        return jnp.asarray(decay, jnp.result_type(float))
    step = jnp.asarray(step).astype(jnp.result_type(float))
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def init_ema(params: Any) -> Any:
    """The average before any update: a copy, in buffers of its own, so that both can be donated."""
    return jax.tree.map(jnp.copy, params)


def update_ema(
    ema: Any,
    params: Any,
    step: jax.typing.ArrayLike,
    *,
    decay: float = 0.9999,
    warmup: bool = False,
) -> Any:
    """One update of the average, equation (1).

    Args:
      ema: the average so far, a tree like `params`.
      params: the parameters after the optimizer's update.
      step: how many updates the average has had; it matters with `warmup` only.
      decay: d in [0, 1).
      warmup: use equation (2), which forgets the initial parameters quickly. For short runs.
    """
    new_weight = 1.0 - ema_decay_at(step, decay, warmup=warmup)
    return optax.incremental_update(params, ema, new_weight)
