r"""Where the sampling steps fall: times from 1 (noise) to 0 (clean), one more than there are steps.

    (1)  uniform          t_i = 1 - i / N
    (2)  edm(last)        t_i = 1 + i / (N - 1) (last - 1), i < N,  then 0      (EDM's Table 1)
    for a network with T numbered levels, t = k / T, then 0:
    (3)  leading          k = 1 + j floor(T / N)                                (Lin et al., Table 2)
    (4)  linspace         k = 1 + round(j (T - 1) / (N - 1))
    (5)  trailing         k = round(T (N - j) / N)

Every step leads from one time of the grid to the next (on `asymmetric(grid, td)` further), whatever N,
and the last one to clean data exactly. `leading` never samples the last level, where a zero-SNR schedule
has its point (Lin et al. 2024, arXiv 2305.08891, section 3.3); it is here to show what that costs.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from noise_sched.diffusion.asymmetric import asymmetric as asymmetric
from noise_sched.diffusion.numbers import require
from noise_sched.diffusion.pytrees import register_pytree

# The smallest time that is not clean data: the near end of a `SigmaSchedule`, to all digits.
JUST_ABOVE_CLEAN = 1e-30


@runtime_checkable
class Grid(Protocol):
    """Chooses the times of a sampling run."""

    def __call__(self, steps: int) -> Float[Array, "times"]:
        """Returns `steps` + 1 decreasing times; the last is 0, clean data."""
        ...


@register_pytree
@dataclasses.dataclass(frozen=True)
class uniform:
    """Equation (1), as published by Chen 2023: the first step starts from pure noise, t = 1."""

    def __call__(self, steps: int) -> Float[Array, "times"]:
        """Returns [1, 1 - 1 / steps, ..., 0]; both ends exact."""
        _check_steps(steps)
        # In NumPy: compiled, a division by a constant may become a product, and the first t exceed 1.
        return jnp.asarray(np.arange(steps, -1, -1) / steps, float)


@register_pytree
@dataclasses.dataclass(frozen=True)
class edm:
    """Equation (2): N times from 1 to `last`, both among them, then clean data.

    On `karras` these are EDM's t_i, on `geometric` column VE's, both down to sigma_min; on `vp_diffusion`
    with `last` = 1e-3 column VP's (Karras et al. 2022, arXiv 2206.00364, Table 1).

    Attributes:
      last: the last time before clean data; 0 is the limit just above it.
    """

    last: float = dataclasses.field(default=0.0, metadata={"static": True})

    def __post_init__(self):
        require(0 <= self.last < 1, f"edm(last) must lie in [0, 1), got {self.last}.")

    def __call__(self, steps: int) -> Float[Array, "times"]:
        """Returns [1, ..., last, 0]."""
        _check_steps(steps)
        last = max(self.last, JUST_ABOVE_CLEAN)
        part = np.arange(steps) / max(steps - 1, 1)
        return jnp.asarray([*((1 - part) + part * last), 0.0], float)


@register_pytree
@dataclasses.dataclass(frozen=True)
class leading:
    """Equation (3): the older default of DDIM and Stable Diffusion. The last level is never sampled.

    Attributes:
      levels: T.
      offset: added to every k (Stable Diffusion's steps_offset: 1).
    """

    levels: int = dataclasses.field(default=1000, metadata={"static": True})
    offset: int = dataclasses.field(default=0, metadata={"static": True})

    def __call__(self, steps: int) -> Float[Array, "times"]:
        _check_steps(steps, self.levels)
        k = 1 + self.offset + np.arange(steps)[::-1] * (self.levels // steps)
        require(
            bool(k[0] <= self.levels and k[-1] >= 1),
            f"leading(offset={self.offset}) with {steps} steps asks for level {k[0]} of {self.levels}. "
            "Use fewer steps or offset=0.",
        )
        return _times(k, self.levels)


@register_pytree
@dataclasses.dataclass(frozen=True)
class linspace:
    """Equation (4): both ends among the levels. One step starts from the last level.

    Attributes:
      levels: T.
    """

    levels: int = dataclasses.field(default=1000, metadata={"static": True})

    def __call__(self, steps: int) -> Float[Array, "times"]:
        _check_steps(steps, self.levels)
        if steps == 1:
            return _times(np.asarray([self.levels]), self.levels)
        return _times(1 + np.round(np.linspace(self.levels - 1, 0, steps)), self.levels)


@register_pytree
@dataclasses.dataclass(frozen=True)
class trailing:
    """Equation (5): from the last level, the best of the three at few steps (Lin et al., section 3.3).

    Attributes:
      levels: T.
    """

    levels: int = dataclasses.field(default=1000, metadata={"static": True})

    def __call__(self, steps: int) -> Float[Array, "times"]:
        _check_steps(steps, self.levels)
        k = np.round(self.levels * np.arange(steps, 0, -1) / steps)
        return _times(k, self.levels)


@register_pytree
@dataclasses.dataclass(frozen=True)
class iddpm:
    """EDM's Table 1, column iDDPM: numbered levels evenly from T - skip to 1.

    Attributes:
      levels: T (their M).
      skip: how many of the noisiest levels are left out; published 8 (their j_0), as `cosine_betas` has
        useless levels there: sigma goes 20291, 642, ..., 80.2.
    """

    levels: int = dataclasses.field(default=1000, metadata={"static": True})
    skip: int = dataclasses.field(default=8, metadata={"static": True})

    def __call__(self, steps: int) -> Float[Array, "times"]:
        _check_steps(steps, self.levels - self.skip)
        span = self.levels - 1 - self.skip
        j = np.floor(self.skip + span / max(steps - 1, 1) * np.arange(steps) + 0.5)
        return _times(self.levels - j, self.levels)


def _times(k: np.ndarray, levels: int) -> Float[Array, "times"]:
    return jnp.asarray(np.append(k, 0) / levels, float)


def _check_steps(steps: int, levels: int | None = None) -> None:
    require(steps >= 1, f"a sampling run needs at least 1 step, got {steps}.")
    if levels is not None:
        require(
            steps <= levels,
            f"{steps} steps do not fit on {levels} levels. Take at most {levels}, or a continuous "
            "grid such as 'uniform()'.",
        )
