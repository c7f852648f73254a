r"""Densities of the training noise level, as schedules: t uniform <-> logSNR of that density.

    (1)  P(logsnr(t) >= l) = t     so logsnr is the density's quantile function, read from the top

The tails go on to the exact ends, logsnr(0) = +inf and logsnr(1) = -inf. Training draws t strictly
inside (0, 1); sampling with one of these wants `crop`, for example `crop(lognormal(), 0.001, 0.999)`.
"""

import dataclasses

import jax.numpy as jnp
from jax.scipy.special import ndtri

from noise_sched.diffusion.numbers import Leaf, as_float, check_positive
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.schedules.base import LogSnrSchedule, Time, Value


@register_pytree
@dataclasses.dataclass(frozen=True)
class lognormal(LogSnrSchedule):
    """EDM's p(sigma): ln(sigma / alpha) ~ N(p_mean, p_std^2) (Karras et al. 2022, Table 1).

    Attributes:
      p_mean: published -1.2 (EDM2: -0.8 at 64 px, -0.4 on latents).
      p_std: published 1.2 (EDM2: 1.6 at 64 px, 1 on latents), > 0.
    """

    p_mean: Leaf = -1.2
    p_std: Leaf = 1.2

    def __post_init__(self):
        check_positive("lognormal(p_std)", self.p_std, "published 1.2")

    def logsnr(self, t: Time) -> Value:
        """-2 (p_mean + p_std Phi^-1(t))."""
        return -2.0 * (self.p_mean + self.p_std * ndtri(as_float(t)))


@register_pytree
@dataclasses.dataclass(frozen=True)
class logit_normal(LogSnrSchedule):
    """Rectified flow with logit-normal time (Esser et al. 2024, arXiv 2403.03206, section 3.1).

    Flow's time s = sigmoid(n), n ~ N(mean, std^2), in x = (1 - s) x0 + s eps. Since sigma / alpha = s /
    (1 - s), ln(sigma / alpha) = n: this is `lognormal(mean, std)` by another name.

    Attributes:
      mean: published 0; larger is noisier.
      std: published 1, > 0.
    """

    mean: Leaf = 0.0
    std: Leaf = 1.0

    def __post_init__(self):
        check_positive("logit_normal(std)", self.std, "published 1")

    def logsnr(self, t: Time) -> Value:
        """-2 (mean + std Phi^-1(t))."""
        return -2.0 * (self.mean + self.std * ndtri(as_float(t)))


@register_pytree
@dataclasses.dataclass(frozen=True)
class laplace(LogSnrSchedule):
    r"""logSNR ~ Laplace(mu, b) (Hang et al. 2024, arXiv 2407.03297).

        logsnr(t) = mu - b sgn(1/2 - t) ln(1 - 2 |t - 1/2|)

    A popular library's schedule of this name takes the square root of gamma for gamma.

    Attributes:
      mu: the most trained logSNR; published 0.
      b: scale, > 0; published 0.5.
    """

    mu: Leaf = 0.0
    b: Leaf = 0.5

    def __post_init__(self):
        check_positive("laplace(b)", self.b, "published 0.5")

    def logsnr(self, t: Time) -> Value:
        """Returns mu - b ln 2t in the first half, mu + b ln 2(1 - t) in the second."""
        t = as_float(t)
        return self.mu + self.b * jnp.where(
            t < 0.5,
            -jnp.log(2.0 * jnp.minimum(t, 0.5)),
            jnp.log(2.0 * jnp.minimum(1.0 - t, 0.5)),
        )
