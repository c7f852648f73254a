r"""What a schedule is, and the forms it may be given in.

Computing logSNR from gamma loses all digits of 1 - gamma near t = 0 and, with gamma(1) = 0, invites
an epsilon. Instead a `GammaSchedule` gives two powers, each exactly 0 at its own end,

    (3)  signal(t), noise(t) >= 0   with   gamma = signal / (signal + noise)
    (4)  logsnr(t) = log signal(t) - log noise(t)      (+inf at t = 0, -inf at t = 1, both exact)

and nothing is ever subtracted from 1. `clip_min` (the reference implementation's 1e-9) is an option.
"""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from noise_sched.diffusion.numbers import Leaf, as_float, is_plain, require

Time = Float[ArrayLike, "*shape"]
Value = Float[Array, "*shape"]


@runtime_checkable
class Schedule(Protocol):
    """Maps t in [0, 1] (0 = clean, 1 = noise), elementwise, to a noise level."""

    def logsnr(self, t: Time) -> Value:
        """Log signal-to-noise ratio (nats, of power), non-increasing in t."""
        ...

    def gamma(self, t: Time) -> Value:
        """Signal power of the variance-preserving frame, sigmoid(logsnr), in [0, 1]."""
        ...


class GammaSchedule:
    """A schedule given by its signal and noise powers, equations (3) and (4).

    Subclasses are frozen dataclasses that define `powers`; some carry a field `clip_min`.
    """

    clip_min: Leaf = 0.0

    def powers(self, t: Value) -> tuple[Value, Value]:
        """Returns (signal, noise), up to one common positive factor."""
        raise NotImplementedError

    def log_powers(self, t: Value) -> tuple[Value, Value]:
        """Logarithms of `powers`; for those that underflow before their own end."""
        signal, noise = self.powers(t)
        return jnp.log(signal), jnp.log(noise)

    def gamma(self, t: Time) -> Value:
        """Equation (3): signal power in [max(0, clip_min), 1]; exact at both ends."""
        signal, noise = self.powers(as_float(t))
        return jnp.maximum(signal / (signal + noise), self.clip_min)

    def logsnr(self, t: Time) -> Value:
        """Equation (4): exactly +inf where nothing is noise, -inf where nothing is signal."""
        signal, noise = self.log_powers(as_float(t))
        clip_min = jnp.asarray(self.clip_min, signal.dtype)
        return jnp.maximum(signal - noise, jnp.log(clip_min) - jnp.log1p(-clip_min))


class LogSnrSchedule:
    """A schedule given by its logSNR; gamma follows."""

    def logsnr(self, t: Time) -> Value:
        """Log signal-to-noise ratio."""
        raise NotImplementedError

    def gamma(self, t: Time) -> Value:
        """sigmoid(logsnr(t)): signal power of the variance-preserving frame."""
        return jax.nn.sigmoid(self.logsnr(t))


class SigmaSchedule:
    """A schedule given by EDM's sigma (= sigma / alpha), from t -> 0 to t = 1, both finite.

    Clean data is sigma = 0, which no such range contains: t = 0 itself is clean data, so that every
    path that ends at t = 0 ends there exactly, and sigma jumps to its smallest value just above it.
    `grids.edm` puts a step on that smallest value.
    """

    def log_sigma(self, t: Value) -> Value:
        """ln(sigma / alpha) at t in (0, 1], non-decreasing and finite (also in the limit t = 0)."""
        raise NotImplementedError

    def logsnr(self, t: Time) -> Value:
        """-2 ln sigma, and +inf at t = 0."""
        t = as_float(t)
        return jnp.where(t > 0, -2.0 * self.log_sigma(t), jnp.inf)

    def gamma(self, t: Time) -> Value:
        """1 / (1 + sigma^2), and 1 at t = 0."""
        t = as_float(t)
        return jnp.where(t > 0, jax.nn.sigmoid(-2.0 * self.log_sigma(t)), 1.0)


def check_sigmas(name: str, sigma_min: Leaf, sigma_max: Leaf) -> None:
    """Refuses a range of sigma that is empty, reversed or touches 0."""
    if is_plain(sigma_min, sigma_max):
        require(
            0 < sigma_min < sigma_max,
            f"{name} needs 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}. Clean data "
            "(sigma = 0) is added by the sampling grid.",
        )
