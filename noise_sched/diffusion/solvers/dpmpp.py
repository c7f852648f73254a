r"""Multistep DPM-Solver++ (Lu et al. 2022, arXiv 2211.01095), orders 1 to 3, and its SDE form.

With lambda = ln(alpha / sigma), h the step in it and q = exp(-h), from level t to level s:

    (1)  x_s = (sigma_s / sigma_t) q^eta x_t + alpha_s (1 - q^(1 + eta)) x0 + sigma_s sqrt(1 - q^(2 eta)) z
             + alpha_s (w_1 D_1 + w_2 D_2)

The first line is the first-order method: DDIM for eta = 0, the paper's SDE-DPM-Solver++ for eta = 1 (the
family between them as in k-diffusion). In the second, D_1 and D_2 are h dx0/dlambda and h^2 d^2x0/dlambda^2
by divided differences of this and the earlier predictions, and with psi from `exponential` and
H = (1 + eta) h

    (2)  order 2:  w_1 = psi_0(H) / 2 ("midpoint", the published default) or psi_1(H) ("heun")
    (3)  order 3:  w_1 = psi_1(H),  w_2 = psi_2(H)

Everything is a ratio of levels, so any (alpha, sigma) frame gives the same images. A prediction made at
zero SNR lies infinitely far away in lambda and is interpolated through with weight zero; the step to
clean data, itself infinitely long, is of first order and lands on x0.
"""

import dataclasses
import itertools
from typing import Any

import jax.numpy as jnp

from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.numbers import Leaf, check_choice, check_share
from noise_sched.diffusion.parametrization import Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.base import FreshNoise, State, combination, expand, signal_ratio
from noise_sched.diffusion.solvers.exponential import psi
from noise_sched.diffusion.solvers.multistep import Earlier, is_short, nothing_earlier


@register_pytree
@dataclasses.dataclass(frozen=True)
class dpmpp(FreshNoise):
    """DPM-Solver++, equation (1); one network evaluation per step at every order.

    Attributes:
      order: 1, 2 or 3.
      eta: 0 is the ODE, 1 the SDE; the noise is what the paper's "SDE" variant adds.
      variant: of order 2, "midpoint" or "heun", equation (2).
      lower_order_final: let the order fall to 1 towards the end of runs of fewer than 15 steps, as
        published. The step to clean data is of first order in any case.
    """

    order: int = dataclasses.field(default=2, metadata={"static": True})
    eta: Leaf = 0.0
    variant: str = dataclasses.field(default="midpoint", metadata={"static": True})
    lower_order_final: bool = dataclasses.field(default=True, metadata={"static": True})

    def __post_init__(self):
        check_choice("dpmpp(order)", self.order, (1, 2, 3), "2 is the usual choice")
        check_share("dpmpp(eta)", self.eta, "0 is the ODE, 1 the SDE")
        check_choice("dpmpp(variant)", self.variant, ("midpoint", "heun"))

    def init(self, x: Images, levels: NoiseLevel) -> Any:
        """No earlier predictions, `order` - 1 of them."""
        if self.order == 1:
            return ()
        return nothing_earlier(
            self.order - 1, x, levels, self.lower_order_final and is_short(levels)
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
        ratio = signal_ratio(level, next_level)
        length = -jnp.log(ratio)
        # q^eta, and 1 where nothing is random even from zero SNR, where q = 0.
        power = jnp.power(ratio, jnp.asarray(self.eta, ratio.dtype)) if self.stochastic else 1.0
        kept, gained = next_level.sigma / level.sigma * power, 1.0 - ratio * power
        history = state.history
        predictions, shares = [prediction.x0], [gained]
        if self.order > 1:
            predictions += history.values
            # Weights of differences of successive predictions, as weights of the predictions.
            weights = [*self._weights(length, history), 0.0]
            shares = [gained + weights[0]]
            shares += [later - weight for weight, later in itertools.pairwise(weights)]
            history = history.extended(prediction.x0, length)
        x = combination(
            [kept, *(next_level.alpha * share for share in shares)], [state.x, *predictions]
        )
        if self.stochastic:
            fresh = next_level.sigma * jnp.sqrt(1.0 - jnp.square(power))
            x = x + expand(fresh, x) * noise
        return State(x, memory, history), prediction

    def _weights(self, h: Leaf, history: Earlier) -> list[Leaf]:
        """Weights [batch] of the differences of successive predictions, latest first.

        With d_1, d_2 the slopes (difference over step) of the latest two pairs, h_1, h_2 their steps:
        D_1 = h (d_1 + h_1 (d_1 - d_2) / (h_1 + h_2)) and D_2 = h^2 (d_1 - d_2) / (h_1 + h_2).
        """
        scaled = h if not self.stochastic else h * (1.0 + jnp.asarray(self.eta, h.dtype))
        second = jnp.isfinite(h) & jnp.isfinite(history.steps[0]) & (history.remaining >= 2)
        h1 = jnp.where(second, history.steps[0], 1.0)
        h = jnp.where(second, h, 1.0)
        slope = psi(1, scaled) if self.variant == "heun" else 0.5 * psi(0, scaled)
        if self.order == 2:
            return [jnp.where(second, slope * h / h1, 0.0)]
        third = second & jnp.isfinite(history.steps[1]) & (history.remaining >= 3)
        h2 = jnp.where(third, history.steps[1], 1.0)
        bend = (psi(1, scaled) * h * h1 + psi(2, scaled) * jnp.square(h)) / (h1 + h2)
        slope = jnp.where(third, psi(1, scaled) * h + bend, slope * h)
        return [
            jnp.where(second, slope / h1, 0.0),
            jnp.where(third, -bend / h2, 0.0),
        ]
