"""How much of images a linear denoiser can explain, and the input scale at which it explains a given share.

With the images' modes of variance S_k, and x_t = sqrt(gamma) b x_0 + sqrt(1 - gamma) eps, the best linear
denoiser explains of a mode the share

    gamma c / (gamma c + 1 - gamma),      c = b^2 S_k                                             (1)

and on average over gamma = 1 - t, t uniform in [0, 1] (the linear schedule of Chen 2023),

    h(c) = c (c - 1 - ln c) / (c - 1)^2,      h(0) = 0, h(1) = 1/2                                 (2)

Of all the variance it explains

    Phi(b) = sum_k S_k h(b^2 S_k) / sum_k S_k                                                     (3)

which grows with b from 0 to 1. An image of more pixels has larger S_k for the same scene, and is explained
better at the same noise: this is what a smaller b makes up for.
"""

import math
from typing import Any

import numpy as np
from jaxtyping import Float, Float64
from scipy import optimize

_NEAR = 1e-3  # |c - 1| below which (2) is computed from its series
_WIDEST = (1e-6, 1e6)  # where b is looked for


def share_of_mode(c: Float[np.ndarray, "*modes"]) -> Float64[np.ndarray, "*modes"]:
    """Equation (2) for c >= 0."""
    c = np.asarray(c, np.float64)
    x = c - 1
    near = np.abs(x) < _NEAR
    series = 1 / 2 - x / 3 + x**2 / 4 - x**3 / 5  # (x - log1p(x)) / x^2
    apart = np.where(near | (c <= 0), 2.0, c)
    exact = (apart - 1 - np.log(apart)) / (apart - 1) ** 2
    return np.where(c <= 0, 0.0, c * np.where(near, series, exact))


def explained(variances: Float[np.ndarray, " modes"], scale: float) -> float:
    """Equation (3)."""
    variances = np.asarray(variances, np.float64)
    return float(np.sum(variances * share_of_mode(scale**2 * variances)) / np.sum(variances))


def explained_at(
    variances: Float[np.ndarray, " modes"], scale: float, logsnr: Float[np.ndarray, " levels"]
) -> Float64[np.ndarray, " levels"]:
    """The share of the variance that is explained at each noise level: the mean of (1), weighted by S_k.

    Args:
      variances: S_k.
      scale: b.
      logsnr: ln(gamma / (1 - gamma)), of the schedule, without the scale.
    """
    variances = np.asarray(variances, np.float64)
    total = np.sum(variances)
    found = []
    for level in logsnr:
        c = scale**2 * variances * math.exp(level)
        found.append(np.sum(variances * c / (1 + c)) / total)
    return np.asarray(found)


def scale_that_explains(variances: Float[np.ndarray, " modes"], share: float) -> float:
    """The b at which Phi(b) is `share`, in (0, 1).

    Raises:
      ValueError: no b between 1e-6 and 1e6 explains that much.
    """
    low, high = (math.log(end) for end in _WIDEST)

    def missing(log_scale: float) -> float:
        return explained(variances, math.exp(log_scale)) - share

    if missing(low) > 0 or missing(high) < 0:
        raise ValueError(
            f"no input scale between {_WIDEST[0]:g} and {_WIDEST[1]:g} explains {share:.3g} of the variance "
            f"of images whose modes have variances up to {np.max(variances):.3g}."
        )
    found: Any = optimize.brentq(missing, low, high, xtol=1e-7)
    return math.exp(found)
