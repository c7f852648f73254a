r"""The training loss, for any mix of choices.

    t ~ U(0, 1),  eps ~ N(0, I),  x_t = alpha x0 + sigma eps
    (1)  loss = mean over the batch of  weight(level) * mean |target - output|^2    in `loss_space`

The inner mean is over an image's pixels and channels, or their sum with `reduction="sum"` (EDM, arXiv
2206.00364, its released training code), which multiplies loss and gradient by their number.

t is drawn inside the open interval (`times`), since a schedule may be infinite at either end; the last
level of `discrete(...)`, zero SNR included, is drawn like every other. `Objective.met_at` tells what a mix
of choices makes of a level. At `times.ends` that decides whether it can be trained: a loss that grows
without bound towards an end is finite there or is not, and no draw is nearer to it.

`loss_space` is a parametrization and need not be the network's own: with another one, the output goes
through `Prediction`. Where it is the network's own, no conversion happens, so nothing is ever divided
by an alpha or a sigma that is zero.

Offset noise (Lin et al. 2024, arXiv 2305.08891, section 5.4): eps ~ N(offset d, I) with one d ~ N(0, 1)
per image and channel. It lets a flawed schedule change an image's mean brightness, at the price of
images too dark or bright; it is here to be compared with zero terminal SNR.

Latent self-conditioning (Jabri et al. 2022, arXiv 2212.11972, section 3.2): a first pass with empty
memory and the same x_t gives the memory of the second; no gradient flows through it, and each example
keeps it with probability `rate`, by masking.

Uncertainty (Karras et al. 2024, arXiv 2312.02696, eq. 21): the network also learns u(level), the logarithm
of the weighted error to be expected at a level, and each level is weighed by its inverse,

    (2)  loss = mean over the batch of  e / exp(u) + u,      e = weight(level) * mean |target - output|^2

which is least at u = ln E[e | level]: there every level has the same part in the gradient.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from noise_sched.diffusion import by_level, times
from noise_sched.diffusion import density as densities
from noise_sched.diffusion.conditioning import Conditioning
from noise_sched.diffusion.denoiser import Memory, Preconditioner
from noise_sched.diffusion.density import Density
from noise_sched.diffusion.input_scale import InputScale
from noise_sched.diffusion.numbers import Leaf, is_off, is_plain, require
from noise_sched.diffusion.parametrization import Parametrization
from noise_sched.diffusion.process import Images, NoiseLevel, Process, diffuse
from noise_sched.diffusion.pytrees import leaves_named, register_pytree
from noise_sched.diffusion.schedules import Schedule
from noise_sched.diffusion.times import Times
from noise_sched.diffusion.weighting import Weighting

# A network in training: (dropout key, x, noise_cond, memory) -> (out, memory).
TrainNetwork: TypeAlias = Callable[
    [Any, Images, Float[Array, "batch"], Memory], tuple[Images, Memory]
]

# u of equation (2): the network's condition -> one number per example.
LogVariance: TypeAlias = Callable[[Float[Array, "batch"]], Float[Array, "batch"]]


class Met(NamedTuple):
    """What training meets at given levels: all of it must be finite.

    Attributes:
      seen: what the network sees of an image, its largest value.
      condition: what the network is conditioned on.
      weight: of the error.
      loss: of one image, for an output that is off by about 1.
      gradient: of that loss with respect to the output, its largest value.
    """

    seen: Float[Array, "batch"]
    condition: Float[Array, "batch"]
    weight: Float[Array, "batch"]
    loss: Float[Array, "batch"]
    gradient: Float[Array, "batch"]


@register_pytree
@dataclasses.dataclass(frozen=True)
class Objective:
    """Everything that defines the loss (1) or (2).

    Attributes:
      schedule: the training schedule, t -> logSNR.
      process: logSNR -> (alpha, sigma).
      parametrization, input_scale, conditioning: the network's two ends, see `preconditioner`.
      loss_space: the parametrization in which the error is measured.
      weight: of each noise level.
      self_conditioning: probability that an example keeps its first pass's memory; a plain 0 (or None)
        leaves the first pass out. RIN: 0.9.
      clip_x0: clip the predicted x0 to [-1, 1] in the loss, as the reference does when the loss is in
        x0 or the network predicts x0. Outside the range it has no gradient, hence off by default.
      reduction: "mean" or "sum" over an image's pixels and channels.
      offset_noise: how far each channel's noise is shifted; a plain 0 (or None) leaves it out. Lin et
        al. compare 0.1.
      uncertainty: weigh the levels by what the network makes of their error, equation (2).
      time: how the times of a batch are drawn.
      density: at which of them training spends its draws; the expected loss is the same.

    Raises:
      ValueError: where a value is out of range; and from `loss`, where two parts have different ideas of
        sigma_data. Whether the parts fit in all else, the rules of an experiment say.
    """

    schedule: Schedule
    process: Process
    parametrization: Parametrization
    input_scale: InputScale
    conditioning: Conditioning
    loss_space: Parametrization
    weight: Weighting
    self_conditioning: Leaf = 0.0
    clip_x0: bool = dataclasses.field(default=False, metadata={"static": True})
    offset_noise: Leaf = 0.0
    reduction: str = dataclasses.field(default="mean", metadata={"static": True})
    uncertainty: bool = dataclasses.field(default=False, metadata={"static": True})
    time: Times = times.uniform()
    density: Density = densities.fixed()

    def __post_init__(self):
        if is_plain(self.offset_noise):
            require(
                self.offset_noise >= 0,
                f"offset_noise must be non-negative, got {self.offset_noise}.",
            )
        if is_plain(self.self_conditioning):
            require(
                0 <= self.self_conditioning <= 1,
                f"self_conditioning must be a probability, got {self.self_conditioning}.",
            )
        require(
            self.reduction in ("mean", "sum"),
            f"reduction is 'mean' or 'sum' over an image's pixels, got {self.reduction!r}.",
        )

    @property
    def preconditioner(self) -> Preconditioner:
        """The network's two ends together."""
        return Preconditioner(self.parametrization, self.input_scale, self.conditioning)

    @property
    def sigma_data(self) -> dict[str, Any]:
        """Every standard deviation of the data that a part assumes, by the part's place."""
        return leaves_named(self, "sigma_data")

    def loss(
        self,
        key: Key[Array, ""],
        network: TrainNetwork,
        x0: Images,
        memory: Memory,
        log_variance: LogVariance | None = None,
        carried: densities.State = None,
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The loss of one batch.

        Args:
          key: for t, eps, the self-conditioning mask and the network's dropout.
          network: (dropout key, x, noise_cond, memory) -> (out, memory).
          x0: images in [-1, 1], [batch, ...].
          memory: the network's empty memory.
          log_variance: u of equation (2), from the network's condition; needed with `uncertainty` only.
          carried: the state of `density`; None is that before the first step.

        Returns:
          The scalar loss and the metrics: "mse", the unweighted error; with `uncertainty` "log_variance", the
          mean of u; "levels/...", sums by noise level (`by_level`); and "density/...", what `density` has
          seen.
        """
        _check_one_sigma_data(self.sigma_data)
        t_key, eps_key, memory_key, first_key, key = jax.random.split(key, 5)
        u = self.time(t_key, x0.shape[0], x0.dtype)
        t, importance = self.density.draw(self.density.init() if carried is None else carried, u)
        eps = self._noise(eps_key, x0)
        level, rate = self.level_at(t)
        x = diffuse(level, x0, eps)

        if not is_off(self.self_conditioning):
            first = lambda *args: network(first_key, *args)  # noqa: E731
            _, found = self.preconditioner.output(first, x, level, memory)
            memory = _keep_some(memory_key, jax.lax.stop_gradient(found), self.self_conditioning)
        out, _ = self.preconditioner.output(lambda *args: network(key, *args), x, level, memory)

        errors = self.errors(level, x, out, x0, eps)
        values = weighted = self.weight(level, self.loss_space, rate) * errors
        metrics = {"mse": jnp.mean(importance * errors)}
        if self.uncertainty:
            if log_variance is None:
                raise ValueError("uncertainty needs the network's log_variance.")
            u = log_variance(self.conditioning(level))
            weighted = values * jnp.exp(-u)
            values, metrics["log_variance"] = weighted + u, jnp.mean(importance * u)
        seen = self.density.seen(t, weighted)
        metrics |= {densities.PREFIX + name: value for name, value in seen.items()}
        found = self.parametrization.to_prediction(level, x, out).x0
        x0_error = jnp.mean(jnp.square(x0 - found), axis=tuple(range(1, x0.ndim)))
        metrics |= by_level.recorded(level.logsnr, importance, values, x0_error, x0)
        loss = jnp.mean(importance * values)
        if self.reduction == "sum":
            loss *= math.prod(x0.shape[1:])
        return loss, metrics

    def _noise(self, key: Key[Array, ""], x0: Images) -> Images:
        eps = jax.random.normal(key, x0.shape, x0.dtype)
        if is_off(self.offset_noise):
            return eps
        shape = (x0.shape[0], *(1,) * (x0.ndim - 2), x0.shape[-1])
        offset = jax.random.normal(jax.random.fold_in(key, 1), shape, x0.dtype)
        return eps + jnp.asarray(self.offset_noise, x0.dtype) * offset

    def level_at(self, t: Float[Array, "batch"]) -> tuple[NoiseLevel, Float[Array, "batch"]]:
        """The levels at `t`, and -d logsnr / dt there (zeros where the weight does not ask)."""
        if not self.weight.per_logsnr:
            return self.process.level(self.schedule.logsnr(t)), jnp.zeros_like(t)
        logsnr, slope = jax.jvp(self.schedule.logsnr, (t,), (jnp.ones_like(t),))
        return self.process.level(logsnr), -slope

    def met_at(self, level: NoiseLevel, rate: Float[Array, "batch"]) -> Met:
        """What training meets at `level`, whose -d logsnr / dt is `rate`.

        Found by computing it, on an image and noise of four pixels, +-1 in all combinations, and a
        network that puts out 1/2: whatever is divided by an alpha or a sigma that is 0, or overflows,
        shows.
        """
        shape = (*level.alpha.shape, 4)
        x0, eps = (
            jnp.broadcast_to(jnp.asarray(signs, level.alpha.dtype), shape)
            for signs in ([-1, -1, 1, 1], [-1, 1, -1, 1])
        )
        x = diffuse(level, x0, eps)
        at_the_network: dict[str, Array] = {}

        def network(x: Images, noise_cond: Array, memory: Memory) -> tuple[Images, Memory]:
            at_the_network.update(seen=jnp.max(jnp.abs(x), axis=-1), condition=noise_cond)
            return jnp.full_like(x, 0.5), memory

        out, _ = self.preconditioner.output(network, x, level, ())
        weight = self.weight(level, self.loss_space, rate)
        loss, slope = jax.vjp(lambda out: weight * self.errors(level, x, out, x0, eps), out)
        gradient = jnp.max(jnp.abs(slope(jnp.ones_like(loss))[0]), axis=-1)
        return Met(**at_the_network, weight=weight, loss=loss, gradient=gradient)

    def errors(
        self, level: NoiseLevel, x: Images, out: Images, x0: Images, eps: Images
    ) -> Float[Array, "batch"]:
        """Mean squared error of each example's output, in `loss_space`."""
        target = self.loss_space.target(level, x0, eps)
        guess = self._in_space(level, x, out)
        return jnp.mean(jnp.square(target - guess), axis=tuple(range(1, x0.ndim)))

    def _in_space(self, level: NoiseLevel, x: Images, out: Images) -> Images:
        own = self.parametrization
        if type(own) is type(self.loss_space) and not self.clip_x0:
            return out
        clip = (lambda x0: jnp.clip(x0, -1.0, 1.0)) if self.clip_x0 else (lambda x0: x0)
        prediction = own.to_prediction(level, x, out, clip)
        return self.loss_space.target(level, prediction.x0, prediction.eps)


def _check_one_sigma_data(found: dict[str, Any]) -> None:
    """The data has one standard deviation: what disagrees is a mistake that nobody would see."""
    plain = {place: value for place, value in found.items() if is_plain(value)}
    require(
        len(set(plain.values())) <= 1,
        f"different sigma_data in {', '.join(f'{p} ({v})' for p, v in plain.items())}. The data has one "
        "standard deviation: write the same number in each, measured in [-1, 1].",
    )


def _keep_some(key: Key[Array, ""], memory: Memory, rate: Leaf) -> Memory:
    """Each example's memory with probability `rate`, else zeros."""

    def mask(leaf):
        kept = jax.random.bernoulli(key, rate, leaf.shape[:1])
        return jnp.where(kept.reshape((-1,) + (1,) * (leaf.ndim - 1)), leaf, jnp.zeros_like(leaf))

    return jax.tree.map(mask, memory)
