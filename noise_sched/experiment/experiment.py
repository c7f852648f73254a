"""An experiment: everything that training and sampling ask of a config, built."""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key
from ml_collections import ConfigDict

from noise_sched.diffusion import guidance
from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.sampling import Sampling
from noise_sched.experiment import loss, optimization, rules
from noise_sched.experiment.hyper import Hyper
from noise_sched.experiment.loss import NO_CLASS
from noise_sched.experiment.ranges import ConfigError
from noise_sched.experiment.rules import Facts
from noise_sched.training import power_ema


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config, built.

    Attributes:
      config: what it was built from.
      network: the flax module.
      hyper: the numbers of its training, the objective's among them.
      sampling: how images are drawn.
      levels: its path, fields of shape [sample.steps + 1], noisiest first.
      targets: where each step leads, fields of shape [sample.steps]; None is along the path.
    """

    config: ConfigDict
    network: nn.Module
    hyper: Hyper
    sampling: Sampling
    levels: NoiseLevel
    targets: NoiseLevel | None

    @property
    def objective(self) -> Objective:
        """The training loss."""
        return self.hyper.complete_objective

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """The optax transformation."""
        return optimization.make_optimizer(self.config, self.hyper)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        data = self.config.data
        return data.image_size, data.image_size, data.channels

    def init_params(self, key: Key[Array, ""]) -> Any:
        """The network's parameters."""
        x = jnp.zeros((1, *self.image_shape))
        memory = self.network.initial_memory(1)
        label = jnp.zeros(1, jnp.int32) if self.network.num_classes else None
        return self.network.init(key, x, jnp.zeros(1), label, memory)["params"]

    def averages(self, params: Any) -> Any:
        """`params` in the layout of the moving averages that training keeps."""
        return power_ema.arrange(params, self.config.ema.stds)

    def drawn_average(self, averages: Any) -> Any:
        """The one of the moving averages that images are drawn with."""
        return power_ema.choose(averages, self.config.ema.stds, self.config.sample.ema_std)

    def loss(
        self, params: Any, key: Key[Array, ""], batch: dict[str, Array]
    ) -> tuple[Float[Array, ""], dict[str, Array]]:
        """The training loss of a batch {"image": [b, h, w, c] in [-1, 1], "label": [b]}."""
        return loss.loss(self.hyper, params, key, batch, network=self.network)

    def denoiser(self, params: Any, label: Int[Array, "batch"]) -> Denoise:
        """The denoiser of one set of parameters, for given labels; neither guided nor thresholded."""

        def network(x, noise_cond, memory):
            return loss.apply(self.network, params, x, noise_cond, label, memory)

        return self.objective.preconditioner.denoise(network)

    def sampler(self, guide: "Experiment | None" = None) -> Callable[..., Array]:
        """The compiled function that draws images.

        Each network keeps its own memory from step to step; the two denoisers of `cfg` are one network
        and share the conditional one's.

        Args:
          guide: the experiment of the worse model that `autoguide` steers away from.

        Returns:
          (params, one key per image, labels, the guide's params or None) -> images in [-1, 1]. A fifth, sixth
          and seventh argument take the place of `levels`, `targets` and `hyper`: paths, and models, that
          share the compiled program.

        Raises:
          ConfigError: if `autoguide` has no guide, or one that cannot guide this model.
        """
        self.check_guide(guide)

        @jax.jit
        def run(params, keys, label, guide_params=None, levels=None, targets=None, hyper=None):
            exp = self if hyper is None else dataclasses.replace(self, hyper=hyper)
            return self.sampling.draw(
                keys,
                *exp.two_denoisers(params, label, guide, guide_params),
                self.levels if levels is None else levels,
                self.image_shape,
                memories=self.first_memories(label.shape[0], guide),
                targets=self.targets if levels is None else targets,
            )

        return run

    def two_denoisers(
        self,
        params: Any,
        label: Int[Array, "batch"],
        guide: "Experiment | None" = None,
        guide_params: Any = None,
    ) -> tuple[Denoise, Denoise]:
        """The denoiser of the wanted images, and the one that guidance steers away from."""
        if guide is not None:
            return self.denoiser(params, label), guide.denoiser(guide_params, label)
        return self.denoiser(params, label), self.denoiser(params, jnp.full_like(label, NO_CLASS))

    def first_memories(self, count: int, guide: "Experiment | None" = None) -> tuple[Any, Any]:
        """The first memory of either of the `two_denoisers`, for `count` images."""
        first, second = (each.network.initial_memory(count) for each in (self, guide or self))
        return first, second

    @property
    def facts(self) -> Facts:
        """What the rules judge."""
        pixels = self.config.data.image_size**2
        return Facts(self.objective, self.sampling, pixels, self.config, self.network)

    def check_guide(self, guide: "Experiment | None") -> None:
        """Refuses guidance with a second network without one, or with one that does not fit.

        Raises:
          ConfigError: naming both configs' values.
        """
        if guide is not None:
            rules.check_guide(self.facts, guide.facts)
        elif self.needs_guide:
            raise ConfigError(
                f"config.sample.guidance={self.config.sample.guidance!r} steers away from a second network, "
                "and none was given: give the Experiment and the parameters of a worse model, or use "
                "guidance='none()'."
            )

    @property
    def needs_guide(self) -> bool:
        """Whether the guidance steers away from a second network."""
        return self.sampling.guidance.other == "weights"

    def unguided(self) -> "Experiment":
        """The same experiment without guidance: one network is enough to draw with it."""
        sampling = dataclasses.replace(self.sampling, guidance=guidance.none())
        return dataclasses.replace(self, sampling=sampling)
