r"""Moving averages of power-function shape, several at once, and any other width after the fact.

Karras et al. 2024, arXiv 2312.02696, section 3 and appendix C. After T steps the average weighs the
parameters of a time tau in (0, T] by

    p(tau; T, g) = (g + 1) / T  (tau / T)^g                                                    (1)

a peak at the newest parameters, whose width grows with the run. A run is given its relative standard
deviation

    std^2 = (g + 1) / ((g + 2)^2 (g + 3)),       0 < std < 12^(-1/2), g > 0                    (2)

The update number t = 1, 2, ... is

    ema <- b_t ema + (1 - b_t) params,      b_t = (1 - 1 / t)^(g + 1)                          (3)

Nothing is remembered of the parameters before the first update (b_1 = 0).

Post-hoc reconstruction: an average of any width at step T is approximated by a linear combination of
stored ones, snapshots i of widths g_i at steps T_i <= T, with the profile nearest to the wanted one in
the mean square. Its coefficients c solve

    sum_j <p_i, p_j> c_j = <p_i, p>   for all i                                                (4)

    <p_a, p_b> = (g_a + 1) (g_b + 1) / (g_a + g_b + 1)
                 (T_min / T_a)^g_a (T_min / T_b)^g_b / T_max,    T_min, T_max of T_a, T_b      (5)

and are divided by their sum, 1 up to what the approximation lacks.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Width of the plain mean of all parameters, g = 0 in (2). Wider ones would prefer old parameters.
MAX_STD = 12**-0.5


def exponent(std: float) -> float:
    """The g of equation (2), the cubic's one positive root.

    Raises:
      ValueError: if `std` is not in (0, 12^(-1/2)).
    """
    if not 0 < std < MAX_STD:
        raise ValueError(
            f"the relative width of a power-function average must be above 0 and below {MAX_STD:.4f} "
            f"(the mean of everything), got {std}; published are 0.05 and 0.1."
        )
    # (g + 2)^2 (g + 3) = (g + 1) / std^2
    cubic = np.polynomial.Polynomial([12.0, 16.0, 7.0, 1.0])
    return float((cubic - std**-2 * np.polynomial.Polynomial([1.0, 1.0])).roots().real.max())


def width(exponent: float) -> float:
    """The relative standard deviation, equation (2)."""
    return math.sqrt((exponent + 1) / (exponent + 3)) / (exponent + 2)


def name(std: float) -> str:
    """What a width is called among several: "0.05"."""
    return str(float(std))


def arrange(params: Any, stds: Sequence[float]) -> Any:
    """A tree of parameters in the layout of their averages: itself, or one under each width's name.

    Raises:
      ValueError: if a width is out of range, or given twice.
    """
    for std in stds:
        exponent(std)
    if len({name(std) for std in stds}) < len(stds):
        raise ValueError(f"each width once, got {tuple(stds)}.")
    return {name(std): params for std in stds} if stds else params


def choose(averages: Any, stds: Sequence[float], std: float = 0.0) -> Any:
    """One average out of those of `arrange`: that of width `std`, or with 0 the first.

    Raises:
      ValueError: if there is none of that width.
    """
    if not stds:
        if std:
            raise ValueError(f"there is no average of width {std}: this run has a plain one only.")
        return averages
    names = [name(s) for s in stds]
    wanted = name(std) if std else names[0]
    if wanted not in names:
        near = min(stds, key=lambda s: abs(s - std))
        raise ValueError(
            f"there is no average of width {std}: this run has those of {', '.join(names)}; the "
            f"nearest is {name(near)}. Others can be made by `python -m noise_sched.reconstruct`."
        )
    return averages[wanted]


def update(averages: Mapping[str, Any], params: Any, step: jax.typing.ArrayLike) -> dict[str, Any]:
    """One update of each average, equation (3).

    Args:
      averages: one tree under each width's name.
      params: the parameters after the optimizer's update.
      step: how many updates the averages have had.
    """
    count = jnp.asarray(step).astype(jnp.result_type(float)) + 1.0

    def updated(std: str) -> Any:
        # 1 - b_t, to all its digits however small: g / t is 1e-5 at the end of long runs.
        weight = -jnp.expm1((exponent(float(std)) + 1.0) * jnp.log1p(-1.0 / count))
        return towards(averages[std], params, weight)

    return {std: updated(std) for std in averages}


def towards(average: Any, params: Any, weight: jax.Array) -> Any:
    """An average moved towards `params` by the share `weight` of the distance.

    The two rounded factors of (1 - weight) old + weight new need not add up to 1: with weight 3e-5 in
    float32 the sum is 1 + 2e-8, and the average of parameters that move is off by 6e-4 in the long run.
    """
    return jax.tree.map(
        lambda old, new: old + weight.astype(old.dtype) * (new - old), average, params
    )


def inner_products(
    steps: np.ndarray, stds: np.ndarray, other_steps: np.ndarray, other_stds: np.ndarray
) -> np.ndarray:
    """Equation (5) for each of [n] averages with each of [m] others: float64 [n, m]."""
    g_a, g_b = (np.vectorize(exponent, otypes=[float])(s) for s in (stds, other_stds))
    t_a, t_b = np.asarray(steps, np.float64)[:, None], np.asarray(other_steps, np.float64)[None]
    g_a, g_b = g_a[:, None], g_b[None]
    least, most = np.minimum(t_a, t_b), np.maximum(t_a, t_b)
    overlap = (least / t_a) ** g_a * (least / t_b) ** g_b / most
    return (g_a + 1) * (g_b + 1) / (g_a + g_b + 1) * overlap


def coefficients(
    steps: Sequence[int], stds: Sequence[float], *, step: int, std: float
) -> np.ndarray:
    """How much of each stored average makes up another one, equation (4).

    Args:
      steps: of the snapshots, [n], none after `step`.
      stds: the widths that each of them holds, [m].
      step: of the wanted average.
      std: its width.

    Returns:
      float64 [n, m], of sum 1.

    Raises:
      ValueError: if a width is out of range.
    """
    stored = np.repeat(steps, len(stds)), np.tile(stds, len(steps))
    wanted = np.asarray([step]), np.asarray([std])
    found = np.linalg.solve(inner_products(*stored, *stored), inner_products(*stored, *wanted))
    return (found / found.sum()).reshape(len(steps), len(stds))
