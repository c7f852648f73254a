r"""What the rules ask about a set-up, each fact computed when it is first asked for.

Whether a set-up works is asked of the numbers that training and sampling compute, in float32: a level is at
zero SNR where its alpha is 0 there. All else is exact to float64. So no fact depends on the precision
that is set where it is asked for.

Whether what is left of the image at the noisy end matters is asked of its largest shape, its mean
brightness: averaging N pixels leaves 1 / sqrt(N) of the noise, so brightness still stands out by

    (1)  leak = sqrt(SNR N)        in standard deviations of the averaged noise

4.4 for Stable Diffusion's 64 x 64 latents: the network reads the brightness from x_T, and at sampling
finds there the brightness of pure noise, which is always medium. `LEAK` of it is the limit.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from noise_sched.diffusion import schedules, times
from noise_sched.diffusion.loss import Met, Objective
from noise_sched.diffusion.process import NoiseLevel, Process
from noise_sched.diffusion.sampling import Sampling
from noise_sched.diffusion.schedules import Schedule, num_levels

LEAK = 0.1  # equation (1): brightness that stands out by more is a flaw
PIXELS = 64 * 64  # of one channel, where nobody says: Stable Diffusion's latents, ImageNet-64
_TAIL = 5e-4  # what is drawn less often than this is not what a network is trained for
_NEVER = 1e-30  # a t just above clean data

Value = TypeVar("Value")


def _in(bits: int) -> Callable[[Callable[[Any], Value]], Callable[[Any], Value]]:
    """Has the function below it computed in float32 or float64."""

    def decorate(compute: Callable[[Any], Value]) -> Callable[[Any], Value]:
        @functools.wraps(compute)
        def computed(facts: Any) -> Value:
            with jax.enable_x64(bits == 64):
                return compute(facts)

        return computed

    return decorate


@dataclasses.dataclass(frozen=True)
class End:
    """A noisy end.

    Attributes:
      logsnr: of x_t, input scaling included.
      snr: exp(logsnr).
      sqrt_alpha_bar: amplitude of the data in the variance-preserving frame, sqrt(gamma).
      leak: equation (1).
    """

    logsnr: float
    snr: float
    sqrt_alpha_bar: float
    leak: float


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How the levels that are sampled lie among the ones that are trained, in logSNR.

    Attributes:
      trained: (noisiest, cleanest) that training ever draws.
      usual: the same without the rarest 0.05 % at either end.
      sampled: (noisiest, cleanest) at which the network is called.
      untrained: sampled levels outside `trained`.
      between_levels: how many sampled levels lie between two of a training table's.
      skipped_noise: (from, to) of `usual` that is noisier than the first step, or None.
      skipped_clean: (from, to) of `usual` that is cleaner than the last call, or None.
      widest_step: (from, to) of the longest step between two calls.
    """

    trained: tuple[float, float]
    usual: tuple[float, float]
    sampled: tuple[float, float]
    untrained: tuple[float, ...]
    between_levels: int
    skipped_noise: tuple[float, float] | None
    skipped_clean: tuple[float, float] | None
    widest_step: tuple[float, float] | None


@dataclasses.dataclass(frozen=True)
class Facts:
    """A training and a sampling set-up, and what follows from them.

    Attributes:
      objective, sampling: what is judged.
      pixels: N of equation (1), of one channel of what is diffused.
      config, network: the ConfigDict and the flax module of the set-up; None where it is from no config.
    """

    objective: Objective
    sampling: Sampling
    pixels: int = PIXELS
    config: Any = None
    network: Any = None

    # In float32, as training and sampling compute.

    @functools.cached_property
    @_in(32)
    def path(self) -> NoiseLevel:
        """The sampled levels, fields of shape [steps + 1]; ValueError where the grid has no such path."""
        return _levels_of(self.objective.process, self.sampling.schedule)(
            self.sampling.grid(self.sampling.steps)
        )

    @functools.cached_property
    @_in(32)
    def noisiest(self) -> tuple[NoiseLevel, Array]:
        """The noisiest level that training can draw and -d logsnr / dt there, all of shape [1].

        Only discrete schedules are at their end there; the rate is 0 where no weight asks for it.
        """
        return _ends(self.objective)[:2]

    @functools.cached_property
    @_in(32)
    def met(self) -> tuple[Array, Met]:
        """LogSNR of the cleanest and the noisiest level that training draws, and what it meets there, [2]."""
        return _ends(self.objective)[2:]

    @property
    def draws_zero_snr(self) -> bool:
        """Whether training can draw a level at zero SNR, however rarely."""
        return _is_zero_snr(self.noisiest[0])

    @property
    def samples_zero_snr(self) -> bool:
        """Whether sampling starts at zero SNR."""
        return _is_zero_snr(self.path)

    # Exact.

    @functools.cached_property
    @_in(64)
    def times(self) -> Array:
        """The sampled levels' t, [steps + 1]."""
        return jnp.asarray(np.asarray(self.sampling.grid(self.sampling.steps), np.float64))

    @functools.cached_property
    @_in(64)
    def logsnr(self) -> Array:
        """The sampling schedule's, [steps + 1]."""
        return _logsnr_of(self.sampling.schedule)(self.times)

    @functools.cached_property
    @_in(64)
    def levels(self) -> NoiseLevel:
        """The sampled levels."""
        return _levels_of(self.objective.process, self.sampling.schedule)(self.times)

    @functools.cached_property
    @_in(64)
    def called_logsnr(self) -> np.ndarray:
        """LogSNR of x_t, input scaling included, where the network is called, [steps]."""
        return np.asarray(self.levels.logsnr)[:-1]

    @functools.cached_property
    @_in(64)
    def terminal(self) -> End:
        """Where training ends."""
        return self._end(float(_logsnr_of(self.objective.schedule)(1.0)))

    @functools.cached_property
    @_in(64)
    def usual_end(self) -> End:
        """Where training ends without the rarest 0.05 % of the draws."""
        schedule = self.objective.schedule
        return self._end(float(_logsnr_of(schedule)(1 - _tail(schedule))))

    @functools.cached_property
    @_in(64)
    def start(self) -> End:
        """Where sampling starts."""
        return self._end(float(np.asarray(self.logsnr)[0]))

    @property
    def trains_zero_snr(self) -> bool:
        """Whether training draws zero SNR as often as it counts."""
        return self.usual_end.snr == 0

    @property
    def zero_snr(self) -> bool:
        """Whether sampling starts at zero SNR exactly."""
        return self.start.snr == 0

    @property
    def late_start(self) -> bool:
        """Whether sampling starts cleaner than what training usually ends with."""
        return self.start.logsnr > self.usual_end.logsnr + 1e-6

    @functools.cached_property
    @_in(64)
    def agreement(self) -> Agreement:
        """Between the sampled and the trained levels."""
        return _agreement(self.objective.schedule, np.asarray(self.logsnr))

    def _end(self, logsnr: float) -> End:
        scale = float(getattr(self.objective.process, "input_scale", 1.0))
        return end(logsnr, scale, self.pixels)


def end(logsnr: float, scale: float, pixels: int) -> End:
    """A schedule's end, with input scaling by `scale` and `pixels` of one channel."""
    logsnr = logsnr + 2 * math.log(scale)
    snr = math.exp(logsnr) if logsnr < 700 else math.inf
    gamma = 1 / (1 + 1 / snr) if snr > 0 else 0.0
    return End(logsnr, snr, math.sqrt(gamma), math.sqrt(snr * pixels))


# One small program in place of dozens, each of which would be compiled by itself at every start.


@functools.lru_cache(maxsize=64)
def _logsnr_of(schedule: Schedule) -> Callable[[Any], Array]:
    return jax.jit(lambda t: schedule.logsnr(t))


@functools.lru_cache(maxsize=64)
def _levels_of(process: Process, schedule: Schedule) -> Callable[[Array], NoiseLevel]:
    return jax.jit(lambda t: process.level(schedule.logsnr(t)))


@functools.lru_cache(maxsize=64)
def _ends(objective: Objective) -> tuple[NoiseLevel, Array, Array, Met]:
    """The noisiest level and -d logsnr / dt there; then logSNR, and what training meets, at both ends."""

    @jax.jit
    def find() -> tuple[NoiseLevel, Array, Array, Met]:
        level, rate = objective.level_at(times.ends(jnp.float32))
        noisiest = level.map(lambda field: field[1:])
        return noisiest, rate[1:], level.logsnr, objective.met_at(level, rate)

    return find()


def _is_zero_snr(levels: NoiseLevel) -> bool:
    """Whether the first is."""
    return bool(np.asarray(levels.alpha)[0] == 0 or np.isinf(np.asarray(levels.sigma)[0]))


def _tail(schedule: Schedule) -> float:
    """How near to 0 and 1 a t may be that counts: within the first and last level of a table."""
    return min(_TAIL, 0.5 / max(num_levels(schedule), 1))


def _agreement(schedule: Schedule, path: np.ndarray) -> Agreement:
    tail, called = _tail(schedule), path[:-1]
    times = jnp.asarray([1 - tail, tail, 1e-25, _NEVER, 1.0])
    noisy, usual_clean, nearly, clean, end = map(float, _logsnr_of(schedule)(times))
    usual = (noisy, usual_clean)
    trained = (end, clean if abs(clean - nearly) < 1e-9 else math.inf)
    low, high = float(called[0]), float(called[-1])
    outside = (called < trained[0] - 1e-6) | (called > trained[1] + 1e-6)
    between = 0
    if isinstance(schedule, schedules.discrete):
        between = _between(np.asarray(schedule.table()), called[~outside])
    finite = called[np.isfinite(called)]
    gaps = np.diff(finite)
    widest = int(np.argmax(gaps)) if len(gaps) else None
    return Agreement(
        trained=trained,
        usual=usual,
        sampled=(low, high),
        untrained=tuple(map(float, called[outside])),
        between_levels=between,
        skipped_noise=(usual[0], low) if low > usual[0] + 1e-6 else None,
        skipped_clean=(high, usual[1]) if high < usual[1] - 1e-6 else None,
        widest_step=None if widest is None else (float(finite[widest]), float(finite[widest + 1])),
    )


def _between(table: np.ndarray, called: np.ndarray) -> int:
    """How many of `called` are no level of the table."""
    called = called[np.isfinite(called)]
    distance = np.abs(called[:, None] - table[np.isfinite(table)][None, :])
    return int((distance.min(axis=1) > 1e-5).sum()) if distance.size else 0
