r"""Pseudo numerical methods (PNDM, Liu et al. 2022, arXiv 2202.09778): PLMS, its starts, and iPNDM.

DDIM's step with a better eps' in the place of eps (the paper's "transfer part"):

    (1)  x_s = phi(x_t, eps') = (alpha_s / alpha_t) x_t + (sigma_s - alpha_s sigma_t / alpha_t) eps'

eps' is that of classical multistep methods with equal steps, whatever the levels are, from the latest
predictions eps_0, eps_1, ...:

    (2)  eps' = [55 eps_0 - 59 eps_1 + 37 eps_2 - 9 eps_3] / 24
                [23 eps_0 - 16 eps_1 + 5 eps_2] / 12,    [3 eps_0 - eps_1] / 2,    eps_0

Fewer are known at first. "heun" begins with one step of eps' = (eps_0 + eps(phi(x_t, eps_0), s)) / 2 and
then lets the order grow, which is what Stable Diffusion's PLMS does (diffusers: skip_prk_steps); "euler" lets
it grow from 1: iPNDM (Zhang & Chen 2023, arXiv 2204.13902). "runge_kutta" is the paper's own: three pseudo
Runge-Kutta steps through the level m in the middle of the step in `clock`, four evaluations each,

    (3)  eps' = [eps_0 + 2 eps_a + 2 eps_b + eps_c] / 6,      eps_a = eps(phi(x_t, eps_0), m),
         eps_b = eps(phi(x_t, eps_a), m),                     eps_c = eps(phi(x_t, eps_b), s)

In (1) x_t = alpha_t x0 + sigma_t eps_0, so that with eps' = eps_0 + d it is DDIM's step and
alpha_s (rho_s - rho_t) d, rho = sigma / alpha. From zero SNR, rho_t = inf, only d = 0 gives a finite state:
that step is DDIM's, its eps joins the history. The step to clean data has the full order, and lands beside
x0. Unequal steps that are taken for equal ones leave the whole at second order.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from noise_sched.diffusion.clocks import Clock, by_angle
from noise_sched.diffusion.denoiser import Denoise, Memory
from noise_sched.diffusion.numbers import Leaf, check_choice
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import State, combination, landing, select
from noise_sched.diffusion.solvers.multistep import ddim_with
from noise_sched.diffusion.solvers.ode import direction_of, level_towards

STARTS = ("heun", "euler", "runge_kutta")
# Weights of eps_i - eps_0, i = 1, 2, 3, by order: equation (2).
ADAMS = (
    (0.0, 0.0, 0.0),
    (-1 / 2, 0.0, 0.0),
    (-16 / 12, 5 / 12, 0.0),
    (-59 / 24, 37 / 24, -9 / 24),
)


@register_pytree
@dataclasses.dataclass(frozen=True)
class Latest:
    """The latest predictions of eps.

    Attributes:
      eps: latest first, each [batch, ...].
      count: how many of them there are, [].
    """

    eps: tuple[Leaf, ...]
    count: Leaf


@register_pytree
@dataclasses.dataclass(frozen=True)
class pndm:
    """PNDM, equations (1) to (3); one network evaluation per step, two or four while it starts.

    Attributes:
      order: of the multistep part, 1 to 4; published 4.
      start: "heun", "euler" or "runge_kutta".
      clock: where the middle of a Runge-Kutta step lies, one of `noise_sched.diffusion.clocks`;
        `by_schedule(...)` is the schedule's own t, as published.
    """

    order: int = dataclasses.field(default=4, metadata={"static": True})
    start: str = dataclasses.field(default="heun", metadata={"static": True})
    clock: Clock = dataclasses.field(default=by_angle(), metadata={"kind": "clock"})
    # How many steps the start takes.
    _started: ClassVar[dict[str, int]] = {"heun": 1, "euler": 0, "runge_kutta": 3}
    stochastic = False

    def __post_init__(self):
        check_choice("pndm(order)", self.order, (1, 2, 3, 4), "4 is published")
        note = "'heun' is Stable Diffusion's PLMS, 'euler' is iPNDM, 'runge_kutta' the paper's own"
        check_choice("pndm(start)", self.start, STARTS, note)

    def init(self, x: Images, levels: NoiseLevel) -> Latest:
        """No predictions yet."""
        return Latest((jnp.zeros_like(x),) * 3, jnp.zeros((), jnp.int32))

    def step(
        self,
        denoise: Denoise,
        state: State,
        level: NoiseLevel,
        next_level: NoiseLevel,
        noise: Images,
    ) -> tuple[State, Prediction]:
        """One step: one network evaluation, two or four while it starts."""
        prediction, memory = denoise(state.x, level, state.memory)
        latest: Latest = state.history
        regular = jnp.isfinite(level.ratio)
        size = jnp.where(regular, next_level.alpha * (next_level.ratio - level.ratio), 0.0)
        weights = jnp.asarray(ADAMS, size.dtype)[jnp.minimum(latest.count, self.order - 1)]
        x = ddim_with(prediction, next_level, [size * weight for weight in weights], latest.eps)
        starts = (latest.count < self._started[self.start]) & regular & (next_level.sigma > 0)
        if self._started[self.start]:
            transfer = Transfer(denoise, state.x, prediction, level, next_level)
            method = self._heun if self.start == "heun" else self._runge_kutta

            def started():
                better, next_memory = method(transfer, memory)
                return select(starts, better, x), next_memory

            x, memory = jax.lax.cond(jnp.any(starts), started, lambda: (x, memory))
        latest = Latest((prediction.eps, *latest.eps[:-1]), jnp.minimum(latest.count + 1, 3))
        return State(x, memory, latest), landing(prediction, x, next_level)

    def _heun(self, transfer: "Transfer", memory: Memory) -> tuple[Images, Memory]:
        first = transfer.prediction.eps
        second, memory = transfer.eps(
            transfer(first, transfer.next_level), transfer.next_level, memory
        )
        return transfer(0.5 * (first + second), transfer.next_level), memory

    def _runge_kutta(self, transfer: "Transfer", memory: Memory) -> tuple[Images, Memory]:
        """Equation (3)."""
        level, end, first = transfer.level, transfer.next_level, transfer.prediction.eps
        times = [self.clock.time(*direction_of(each)) for each in (level, end)]
        middle = level_towards(level, end, *self.clock.direction(0.5 * (times[0] + times[1])))
        a, memory = transfer.eps(transfer(first, middle), middle, memory)
        b, memory = transfer.eps(transfer(a, middle), middle, memory)
        c, memory = transfer.eps(transfer(b, end), end, memory)
        return transfer((first + 2.0 * (a + b) + c) / 6.0, end), memory


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Equation (1) from one state, with the denoiser that is asked on the way.

    Attributes:
      denoise: the denoiser.
      x, prediction, level: where the step starts.
      next_level: where it ends.
    """

    denoise: Denoise
    x: Images
    prediction: Prediction
    level: NoiseLevel
    next_level: NoiseLevel

    def __call__(self, eps: Images, target: NoiseLevel) -> Images:
        """phi(x_t, eps) at `target`; of no account from zero SNR."""
        kept = target.alpha / self.level.alpha
        return combination((kept, target.sigma - kept * self.level.sigma), (self.x, eps))

    def eps(self, x: Images, level: NoiseLevel, memory: Memory) -> tuple[Images, Memory]:
        """The denoiser's eps at another state."""
        prediction, memory = self.denoise(x, level, memory)
        return prediction.eps, memory
