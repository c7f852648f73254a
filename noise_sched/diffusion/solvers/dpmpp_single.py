r"""Singlestep DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095 and 2206.00927).

A group of 1, 2 or 3 steps of the path is one Runge-Kutta step of that order: the levels on the way are its
stages, and each of its steps starts again from the group's first state. So it costs one network evaluation
per level, and its images are those of Runge-Kutta steps three levels long. With the group's first level b,
h = lambda_s - lambda_b, q = exp(-h), D_0 the x0 predicted at b and psi from `exponential`, H = (1 + eta) h:

    (1)  x_s = (sigma_s / sigma_b) q^eta x_b + alpha_s [(1 - q^(1 + eta)) D_0 + w (D - D_0) / r]
             + sigma_s sqrt(1 - q^(2 eta)) z
    (2)  first step of a group: w = 0;    second: w = psi_0(H) / 2 ("midpoint") or psi_1(H) ("heun")
    (3)  third: w = psi_1(H) ("midpoint"), or the parabola through all three predictions ("heun", `multistep`)

with D the latest x0, predicted r h behind b. z is drawn afresh for every step, also for those that start from
the same state.
"""

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, check_choice, check_share, require
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import (
    FreshNoise,
    State,
    combination,
    expand,
    select,
    signal_ratio,
)
from noise_sched.diffusion.solvers.exponential import psi
from noise_sched.diffusion.solvers.multistep import solve


@register_pytree
@dataclasses.dataclass(frozen=True)
class Group:
    """A group of steps that share their first state.

    Attributes:
      x: the group's first state, [batch, ...].
      level: its level, [batch].
      x0: the predictions made since, the group's first one first, each [batch, ...].
      logs: lambda of their levels, less the first one's, each [batch].
      count: how many there are, [batch].
      orders: of every step of the run, [steps].
      index: the step's number.
    """

    x: Leaf
    level: NoiseLevel
    x0: tuple[Leaf, ...]
    logs: tuple[Leaf, ...]
    count: Leaf
    orders: Leaf
    index: Leaf


@register_pytree
@dataclasses.dataclass(frozen=True)
class dpmpp_single(FreshNoise):
    """Singlestep DPM-Solver++, equation (1); one network evaluation per step at every order.

    Attributes:
      order: of a group of steps, 1, 2 or 3.
      eta: 0 is the ODE, 1 the SDE.
      variant: "midpoint" (the published default) or "heun", equations (2) and (3).
      lower_order_final: end with smaller groups, as published; without, the number of steps must be a
        multiple of `order`. The step to clean data is of first order in any case.
    """

    order: int = dataclasses.field(default=2, metadata={"static": True})
    eta: Leaf = 0.0
    variant: str = dataclasses.field(default="midpoint", metadata={"static": True})
    lower_order_final: bool = dataclasses.field(default=True, metadata={"static": True})

    def __post_init__(self):
        check_choice("dpmpp_single(order)", self.order, (1, 2, 3), "2 is the usual choice")
        check_share("dpmpp_single(eta)", self.eta, "0 is the ODE, 1 the SDE")
        check_choice("dpmpp_single(variant)", self.variant, ("midpoint", "heun"))

    def init(self, x: Images, levels: NoiseLevel) -> Any:
        """No group yet."""
        zero = jnp.zeros(x.shape[:1], levels.alpha.dtype)
        orders = group_orders(self.order, levels.alpha.shape[0] - 1, self.lower_order_final)
        return Group(
            x=x,
            level=NoiseLevel(zero, jnp.ones_like(zero), jnp.ones_like(zero)),
            x0=(jnp.zeros_like(x),) * self.order,
            logs=(zero,) * self.order,
            count=jnp.zeros(x.shape[:1], jnp.int32),
            orders=jnp.asarray(orders, jnp.int32),
            index=jnp.zeros((), jnp.int32),
        )

    def step(
        self,
        denoise: Denoise,
        state: State,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Images,
    ) -> tuple[State, Prediction]:
        """One step, one network evaluation."""
        prediction, memory = denoise(state.x, level, state.memory)
        group = self._joined(state, prediction.x0, level, next_level)
        ratio = signal_ratio(group.level, next_level)
        h = -jnp.log(ratio)
        power = jnp.power(ratio, jnp.asarray(self.eta, ratio.dtype)) if self.stochastic else 1.0
        weights = self._weights(h, group)
        first = 1.0 - ratio * power - sum(weights, start=jnp.zeros_like(h))
        shares = [next_level.alpha * share for share in (first, *weights)]
        kept = next_level.sigma / group.level.sigma * power
        x = combination([kept, *shares], [group.x, *group.x0])
        if self.stochastic:
            fresh = next_level.sigma * jnp.sqrt(1.0 - jnp.square(power))
            x = x + expand(fresh, x) * noise
        group = dataclasses.replace(group, index=group.index + 1)
        return State(x, memory, group), prediction

    def _joined(self, state: State, x0: Images, level: NoiseLevel, next_level: NoiseLevel) -> Group:
        """The group with this step's prediction: a new one, where the step begins one."""
        group: Group = state.history
        # From zero SNR and to clean data steps are infinitely long in lambda: groups of their own.
        begins = (
            (group.orders[group.index] == 1) | (group.level.alpha == 0) | (next_level.sigma == 0)
        )
        level = level.map(lambda field: field)  # all of shape [batch]
        first = NoiseLevel(
            *(
                jnp.where(begins, new, old)
                for new, old in zip(_fields(level), _fields(group.level), strict=True)
            )
        )
        away = -jnp.log(signal_ratio(first, level))
        count = jnp.where(begins, 1, group.count + 1)
        joined, logs = [select(begins, x0, group.x0[0])], [jnp.zeros_like(away)]
        for k in range(1, self.order):
            here = count == k + 1
            joined.append(select(here, x0, group.x0[k]))
            logs.append(jnp.where(here, away, group.logs[k]))
        return dataclasses.replace(
            group,
            x=select(begins, state.x, group.x),
            level=first,
            x0=tuple(joined),
            logs=tuple(logs),
            count=count,
        )

    def _weights(self, h: Leaf, group: Group) -> list[Leaf]:
        """Weights [batch] of D_i - D_0, i = 1 ... order - 1."""
        scaled = h * (1.0 + jnp.asarray(self.eta, h.dtype))
        totals = [jnp.zeros_like(h) for _ in range(self.order - 1)]
        if self.order >= 2:
            slope = psi(1, scaled) if self.variant == "heun" else 0.5 * psi(0, scaled)
            totals[0] = jnp.where(group.count == 2, slope * h / group.logs[1], totals[0])
        if self.order == 3:
            nodes = [group.logs[1] / h, group.logs[2] / h]
            if self.variant == "heun":
                moments = [math.factorial(k) * psi(k, scaled) for k in (1, 2)]
                weights = [w / r for w, r in zip(solve(nodes, moments), nodes, strict=True)]
            else:
                weights = [jnp.zeros_like(h), psi(1, scaled) / nodes[1]]
            totals = [
                jnp.where(group.count == 3, new, old)
                for new, old in zip(weights, totals, strict=True)
            ]
        return totals


def _fields(level: NoiseLevel) -> tuple[Leaf, Leaf, Leaf]:
    return level.alpha, level.sigma, level.input_scale


def group_orders(order: int, steps: int, lower_order_final: bool) -> np.ndarray:
    """The orders 1, ..., `order`, 1, ..., `order`, ... of a run's steps, [steps].

    With `lower_order_final` the last step is alone, and of first order (Lu et al. 2022, arXiv 2206.00927).

    Raises:
      ValueError: without it, where the groups do not come out even.
    """
    require(
        lower_order_final or steps % order == 0,
        f"dpmpp_single(order={order}, lower_order_final=False) needs a multiple of {order} steps, got "
        f"{steps}.",
    )
    orders = np.arange(steps) % order + 1
    if lower_order_final:
        if order == 2 and steps % 2 == 0:
            orders[-2:] = 1
        if order == 3 and steps % 3 == 0:
            orders[-3:] = (1, 2, 1)
    return orders
