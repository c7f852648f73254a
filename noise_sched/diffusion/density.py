r"""At which t training spends its draws: as the schedule says, or where the loss varies most.

A training loss is an integral over t, L = E_{u ~ U(0, 1)} l(u). Drawing t = W(u) with an increasing W and
weighing each draw by dW/du leaves it as it is,

    (1)  L = E_u [ l(W(u)) W'(u) ],

and changes the variance of what one batch makes of it, and of its gradient. Draws of density q(t) = 1 / W'
have the least where q ~ sqrt(E[l^2 | t]) (importance sampling). That is estimated while training goes on,
over K equal cells of t, which have equal shares of the schedule's own draws, whatever their logSNR:

    (2)  S_k <- d S_k + mean_i [t_i in k] l_i^2,      N_k <- d N_k + mean_i [t_i in k]
    (3)  r_k = sqrt( (S~_k + m / K) / (N~_k + 1 / K) ),      m = sum_k S_k / sum_k N_k
    (4)  q_k = (1 - share) r_k / mean(r) + share,

~ being a running mean over three neighbours. The share that stays uniform bounds the weights by 1 / share.
Before the first step all q are 1.

Sources: loss-second-moment resampling of Nichol & Dhariwal 2021 (arXiv 2102.09672, section 3.3), there for
numbered levels and with a history of ten losses each; Kingma & Gao 2023 (arXiv 2303.00848, appendix F) keep a
running mean over bins of logSNR.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from noise_sched.diffusion import by_level, times
from noise_sched.diffusion.numbers import Leaf, check_fraction, check_share, require
from noise_sched.diffusion.pytrees import register_pytree

# None, or what is carried from step to step: a dict of arrays.
State = Any

PREFIX = "density/"


@runtime_checkable
class Density(Protocol):
    """Where training spends its draws."""

    def init(self) -> State:
        """What is carried, before the first step."""
        ...

    def draw(
        self, state: State, u: Float[Array, "batch"]
    ) -> tuple[Float[Array, "batch"], Float[Array, "batch"]]:
        """Uniform draws -> times t, and the weight dt/du of each, equation (1)."""
        ...

    def seen(self, t: Float[Array, "batch"], loss: Float[Array, "batch"]) -> dict[str, Array]:
        """What a batch's losses (without the weight of (1)) tell, as means over the batch."""
        ...

    def update(self, state: State, seen: dict[str, Array]) -> State:
        """What is carried on after a batch."""
        ...


@register_pytree
@dataclasses.dataclass(frozen=True)
class fixed:
    """As the schedule says: t = u."""

    def init(self) -> State:
        """Nothing is carried."""
        return None

    def draw(
        self, state: State, u: Float[Array, "batch"]
    ) -> tuple[Float[Array, "batch"], Float[Array, "batch"]]:
        """Returns t = u, of weight 1."""
        return u, jnp.ones_like(u)

    def seen(self, t: Float[Array, "batch"], loss: Float[Array, "batch"]) -> dict[str, Array]:
        """Nothing."""
        return {}

    def update(self, state: State, seen: dict[str, Array]) -> State:
        """Nothing."""
        return state


@register_pytree
@dataclasses.dataclass(frozen=True)
class adaptive:
    """Equations (1) to (4): more draws where the weighted loss is large, and weighed less there.

    Attributes:
      bins: K.
      share: of the draws that stay as the schedule says, in (0, 1]; 1 is `fixed`.
      decay: d per step, in [0, 1]; 0.99 remembers about a hundred steps.
    """

    bins: int = dataclasses.field(default=64, metadata={"static": True})
    share: Leaf = 0.1
    decay: Leaf = 0.99

    def __post_init__(self):
        require(
            1 <= self.bins <= 10_000,
            f"adaptive(bins) must be at least 1 and at most 10,000, got {self.bins}; 64 is usual.",
        )
        check_fraction("adaptive(share)", self.share, "0.1 bounds the weights of draws by 10")
        check_share("adaptive(decay)", self.decay, "0 is the last batch alone, 1 all there were")

    def init(self) -> State:
        """S and N of equation (2), [bins] each."""
        zeros = jnp.zeros(self.bins)
        return {"square": zeros, "draws": zeros}

    def rates(self, state: State) -> Float[Array, "bins"]:
        """The q of equation (4): the density of t in each cell, 1 on average."""
        square, draws = (_smooth(state[name]) for name in ("square", "draws"))
        total = jnp.sum(state["draws"])
        mean = jnp.sum(state["square"]) / jnp.maximum(total, jnp.finfo(total.dtype).tiny)
        prior = 1.0 / self.bins
        root = jnp.sqrt((square + mean * prior) / (draws + prior))
        known = (jnp.sum(root) > 0) & jnp.isfinite(jnp.sum(root))
        relative = jnp.where(known, root / jnp.where(known, jnp.mean(root), 1.0), 1.0)
        return (1.0 - self.share) * relative + self.share

    def draw(
        self, state: State, u: Float[Array, "batch"]
    ) -> tuple[Float[Array, "batch"], Float[Array, "batch"]]:
        """Returns t = W(u), linear in each cell, and its slope."""
        rates = self.rates(state).astype(u.dtype)
        ends = jnp.cumsum(rates) / jnp.sum(rates)  # of the cells, in u
        starts = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
        cell = jnp.searchsorted(ends[:-1], u, side="right")
        within = (u - starts[cell]) / (ends - starts)[cell]
        first, last = times.ends(u.dtype)
        t = jnp.clip((cell.astype(u.dtype) + within) / self.bins, first, last)
        return t, 1.0 / rates[cell]

    def seen(self, t: Float[Array, "batch"], loss: Float[Array, "batch"]) -> dict[str, Array]:
        """The two sums of equation (2) that a batch adds."""
        cell = jnp.clip(jnp.floor(t * self.bins).astype(jnp.int32), 0, self.bins - 1)
        hot = by_level.one_hot(cell, self.bins)
        loss = jax.lax.stop_gradient(loss)
        return {
            "square": by_level.share(hot, jnp.square(loss)),
            "draws": by_level.share(hot, jnp.ones_like(loss)),
        }

    def update(self, state: State, seen: dict[str, Array]) -> State:
        """Equation (2)."""
        return {name: self.decay * state[name] + seen[name] for name in state}


def _smooth(values: Float[Array, "bins"]) -> Float[Array, "bins"]:
    """Means over a cell and its two neighbours; beyond the ends the outermost cells go on."""
    padded = jnp.concatenate([values[:1], values, values[-1:]])
    return (padded[:-2] + padded[1:-1] + padded[2:]) / 3.0
