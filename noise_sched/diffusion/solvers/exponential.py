r"""Weights of exponential integrators in lambda = ln(alpha / sigma), finite for every step.

From one level to the next, a step h in lambda, the exact solution is (Lu et al. 2022, arXiv 2211.01095)

    (1)  x_next = (sigma_next / sigma) x + alpha_next int_0^1 h exp(-h (1 - s)) x0(lambda + s h) ds

and if x0 is a polynomial in s the integral is made of

    (2)  psi_k(h) = int_0^1 h exp(-h (1 - s)) s^k / k! ds:
         psi_0 = 1 - exp(-h),   psi_k = 1 / k! - psi_{k-1} / h

With h = inf, a step to clean data or from zero SNR, psi_k = 1 / k!. A step towards noise has h < 0. The
same integral of eps instead of x0 has the kernel h exp(h (1 - s)), and is -psi_k(-h).
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def psi(order: int, h: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Equation (2) for h in [-inf, inf], without cancellation."""
    closed = -jnp.expm1(-h)
    for k in range(1, order + 1):
        closed = 1.0 / math.factorial(k) - closed / h
    # psi_k = h sum_j (-h)^j / (j + k + 1)!: the recurrence loses all digits as h -> 0.
    small = jnp.clip(h, -0.5, 0.5)
    series = jnp.zeros_like(h)
    for j in reversed(range(14)):
        series = 1.0 / math.factorial(j + order + 1) - small * series
    return jnp.where(jnp.abs(h) < 0.5, small * series, closed)
