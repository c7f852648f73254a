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
then moves by that share of its distance (`towards`).

The average starts as a copy of the parameters. The reference code averages into a second network
with an initialization of its own, whose weight is still 0.9999^10000 ≈ 0.37 after 10,000 steps:
harmless in its runs of 150,000 steps, ruinous in short ones. There is no such memory to lose here;
in all else the average is the published one, without any correction of the initial bias.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from noise_sched.training.power_ema import towards

# d as a function of the step, counted from 0.
Decay = Callable[[jax.typing.ArrayLike], jax.Array]


@dataclasses.dataclass(frozen=True)
class halflife:
    """The decay by which what an average remembers halves every so many images, equation (3).

    Attributes:
      images: H, above 0.
      batch_size: B.
      rampup_ratio: r; 0 for a half-life of H from the first step on.

    Raises:
      ValueError: if one of them is out of range.
    """

    images: int | float
    _: dataclasses.KW_ONLY
    batch_size: int
    rampup_ratio: int | float = 0.05

    def __post_init__(self):
        if not self.images > 0 or not self.rampup_ratio >= 0:
            raise ValueError(
                f"a half-life must be above 0 images and its rampup_ratio at least 0, got "
                f"{self.images} and {self.rampup_ratio}."
            )

    def __call__(self, step: jax.typing.ArrayLike) -> jax.Array:
        """Returns d of the update at `step`."""
        return jnp.exp2(-1.0 / self._steps(step))  # 2^-inf = 0 at the first step

    def new_weight(self, step: jax.typing.ArrayLike) -> jax.Array:
        """Returns 1 - d of the update at `step`."""
        return -jnp.expm1(-math.log(2) / self._steps(step))

    def _steps(self, step: jax.typing.ArrayLike) -> jax.Array:
        """The half-life in steps."""
        step = jnp.asarray(step).astype(jnp.result_type(float))
        steps = jnp.full_like(step, self.images / self.batch_size)
        return jnp.minimum(steps, self.rampup_ratio * step) if self.rampup_ratio else steps


def ema_decay_at(
    step: jax.typing.ArrayLike, decay: jax.typing.ArrayLike | Decay, *, warmup: bool = False
) -> jax.Array:
    """The decay of the update at `step` (counted from 0): constant, equation (2), or a function."""
    if callable(decay):
        return decay(step)
    if not warmup:
        return jnp.asarray(decay, jnp.result_type(float))
    step = jnp.asarray(step).astype(jnp.result_type(float))
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))


def new_weight_at(
    step: jax.typing.ArrayLike, decay: jax.typing.ArrayLike | Decay, *, warmup: bool = False
) -> jax.Array:
    """1 - `ema_decay_at`, without its cancellation where the decay is a plain number or a half-life."""
    if isinstance(decay, halflife):
        return decay.new_weight(step)
    if callable(decay):
        return 1.0 - decay(step)
    constant = 1.0 - decay  # of a plain number in float64, on the host
    if not warmup:
        return jnp.asarray(constant, jnp.result_type(float))
    step = jnp.asarray(step).astype(jnp.result_type(float))
    return jnp.maximum(constant, 9.0 / (10.0 + step))


def init_ema(params: Any) -> Any:
    """The average before any update: a copy, in buffers of its own, so that both can be donated."""
    return jax.tree.map(jnp.copy, params)


def update_ema(
    ema: Any,
    params: Any,
    step: jax.typing.ArrayLike,
    *,
    decay: jax.typing.ArrayLike | Decay = 0.9999,
    warmup: bool = False,
) -> Any:
    """One update of the average, equation (1).

    Args:
      ema: the average so far, a tree like `params`.
      params: the parameters after the optimizer's update.
      step: how many updates the average has had; it matters with `warmup` only.
      decay: d in [0, 1), or a function of the step such as `halflife`.
      warmup: use equation (2), which forgets the initial parameters quickly. For short runs.
    """
    return towards(ema, params, new_weight_at(step, decay, warmup=warmup))
