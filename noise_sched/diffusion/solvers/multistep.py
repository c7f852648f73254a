r"""What multistep methods share: a history, and polynomials through it.

A method looks back at values f_i (predictions of x0 or eps) that were made at steps' distances from here.
With s in units of the step to be taken, 0 here and 1 at its end, the earlier ones lie at nodes r_i < 0, and
a method is an integral of the polynomial through them with some kernel K:

    (1)  int_0^1 K(s) f(s) ds = M_0 f_0 + sum_i w_i (f_i - f_0) / r_i,     M_k = int_0^1 K(s) s^k ds
    (2)  sum_i w_i r_i^(k-1) = M_k,     k = 1 ... number of nodes

Each method measures the step in its own variable, lambda = ln(alpha / sigma) or sigma / alpha. A value that
lies infinitely far away (made at zero SNR, or none at all yet) is left out, so that start-up and zero SNR
are no special cases.
"""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp

from noise_sched.diffusion.numbers import Leaf
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import combination


@register_pytree
@dataclasses.dataclass(frozen=True)
class Earlier:
    """A multistep solver's history.

    Attributes:
      values: earlier predictions, of x0 or of eps, latest first, each [batch, ...].
      steps: the steps that led from them, each [batch]; infinite before there are any.
      remaining: the number of steps left, or large where that does not matter.
    """

    values: tuple[Leaf, ...]
    steps: tuple[Leaf, ...]
    remaining: Leaf

    def extended(self, value: Images, step: Leaf) -> "Earlier":
        """The history after a step: its prediction and length in, the oldest ones out."""
        return Earlier(
            (value, *self.values[:-1]) if self.values else (),
            (step, *self.steps[:-1]) if self.steps else (),
            self.remaining - 1,
        )


@register_pytree
@dataclasses.dataclass(frozen=True)
class Corrected:
    """What a corrector needs of the step before.

    Attributes:
      earlier: predictions and steps, latest first; `steps[0]` is the step to be corrected.
      base: that step's first-order result, [batch, ...].
      order: how many predictions the corrector uses beside the new one, [batch]; 0 before there was a step.
    """

    earlier: Earlier
    base: Leaf
    order: Leaf


def nothing_earlier(count: int, x: Images, levels: NoiseLevel, counts_down: bool) -> Earlier:
    """The history before the first step, with room for `count` predictions."""
    steps = levels.alpha.shape[0] - 1
    return Earlier(
        values=(jnp.zeros_like(x),) * count,
        steps=(jnp.full(x.shape[:1], jnp.inf, levels.alpha.dtype),) * count,
        remaining=jnp.asarray(steps if counts_down else 2 * steps + 3, jnp.int32),
    )


def is_short(levels: NoiseLevel) -> bool:
    """Whether a run has fewer than 15 steps, where the published methods lower their order at the end."""
    return levels.alpha.shape[0] - 1 < 15


def reachable_order(limit: int, step: Leaf, earlier: Earlier) -> Leaf:
    """The order [batch] that a step can have: one more than there are values at finite distances."""
    order = jnp.ones(step.shape, jnp.int32)
    for k in range(limit - 1):
        order = order + (jnp.isfinite(earlier.steps[k]) & (order == k + 1)).astype(jnp.int32)
    order = jnp.minimum(order, earlier.remaining)
    return jnp.where(jnp.isfinite(step), order, 1)


def nodes_of(step: Leaf, before: Sequence[Leaf]) -> list[Leaf]:
    """The r of the levels that lie `before` steps back, in units of `step`."""
    nodes, total = [], jnp.zeros_like(step)
    for each in before:
        total = total + each
        nodes.append(-total / step)
    return nodes


def solve(nodes: Sequence[Leaf], moments: Sequence[Leaf]) -> list[Leaf]:
    """Solves equation (2): its right side, M_1 first, applied to the nodes' Lagrange polynomials."""
    weights = []
    for i, node in enumerate(nodes):
        polynomial, scale = [jnp.ones_like(node)], jnp.ones_like(node)  # constant term first
        for other in (*nodes[:i], *nodes[i + 1 :]):
            shifted = [jnp.zeros_like(node), *polynomial]
            scaled = [*(other * c for c in polynomial), jnp.zeros_like(node)]
            polynomial = [a - b for a, b in zip(shifted, scaled, strict=True)]
            scale = scale * (node - other)
        total = sum(c * m for c, m in zip(polynomial, moments[: len(polynomial)], strict=True))
        weights.append(total / scale)
    return weights


def extrapolation(
    order: Leaf,
    nodes: Sequence[Leaf],
    moments: Sequence[Leaf],
    end: Sequence[Leaf] = (),
    single: Leaf = None,
) -> list[Leaf]:
    """Weights [batch] of f_i - f_0 in equation (1), for a step of this `order` [batch].

    Args:
      order: how many of f_0 and the earlier values are used; the others have weight 0, and at order 0 all.
      nodes: the r_i of the earlier values.
      moments: M_1, M_2, ...
      end: the node of a value at the step's end, 1, which a corrector uses at every order; or nothing.
      single: what a method puts in the place of M_1 where it uses one node only; None is M_1.
    """
    count = len(nodes) + len(end)
    totals = [jnp.zeros_like(node) for node in (*nodes, *end)]
    for p in range(len(nodes) + 1):
        places = [*range(p), *range(len(nodes), count)]
        used = [*nodes[:p], *end]
        solved = [single] if single is not None and len(used) == 1 else solve(used, moments)
        for i, node, weight in zip(places, used, solved, strict=True):
            totals[i] = jnp.where(order == p + 1, weight / node, totals[i])
    return totals


def ddim_with(
    prediction: Prediction, next_level: NoiseLevel, weights: Sequence[Leaf], eps: Sequence[Images]
) -> Images:
    """DDIM's step with another slope: alpha x0 + sigma eps_0 + sum_i w_i (eps_i - eps_0)."""
    own = next_level.sigma - sum(weights, start=jnp.zeros_like(next_level.sigma))
    return combination((next_level.alpha, own, *weights), (prediction.x0, prediction.eps, *eps))
