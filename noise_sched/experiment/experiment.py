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

from noise_sched.data import augment
from noise_sched.diffusion import guidance
from noise_sched.diffusion.denoiser import Denoise
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.sampling import initial_noise, sample
from noise_sched.experiment import compatibility
from noise_sched.experiment.compatibility import Choices, ConfigError
from noise_sched.training import ema, learning_rate, power_ema

NO_CLASS = -1  # the label of "no class"


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config, built.

    Attributes:
      config: what it was built from.
      network: the flax module.
      objective: the training loss.
      optimizer: the optax transformation.
      schedule: the learning rate as a function of the step.
      ema_decay: of the moving average, a number or a function of the step.
      levels: the sampling path, fields of shape [sample.steps + 1], noisiest first.
      targets: where each step leads, fields of shape [sample.steps]; None is along the path.
      choices: what the rules have judged.
    """

    config: ConfigDict
    network: nn.Module
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: learning_rate.Schedule
    ema_decay: float | ema.Decay
    levels: NoiseLevel
    targets: NoiseLevel | None
    choices: Choices

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        data = self.config.data
        return data.image_size, data.image_size, data.channels

    def init_params(self, key: Key[Array, ""]) -> Any:
        """The network's parameters."""
        x = jnp.zeros((1, *self.image_shape))
        memory = self.network.initial_memory(1)
        label = jnp.zeros(1, jnp.int32) if self.has_classes else None
        return self.network.init(key, x, jnp.zeros(1), label, memory)["params"]

    def averages(self, params: Any) -> Any:
        """`params` in the layout of the moving averages that training keeps."""
        return power_ema.arrange(params, self.config.ema.stds)

    def drawn_average(self, averages: Any) -> Any:
        """The one of the moving averages that images are drawn with."""
        return power_ema.choose(averages, self.config.ema.stds, self.config.sample.ema_std)

    @property
    def has_classes(self) -> bool:
        """Whether the network is told a label."""
        return self.config.network.num_classes > 0

    def loss(
        self, params: Any, key: Key[Array, ""], batch: dict[str, Array]
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """The training loss of a batch {"image": [b, h, w, c] in [-1, 1], "label": [b]}."""
        drop_key, key = jax.random.split(key)
        x0, label = batch["image"], batch["label"]
        dropped = jax.random.bernoulli(drop_key, self.config.label_dropout, label.shape)
        label = jnp.where(dropped, jnp.full_like(label, NO_CLASS), label)
        told: dict[str, Any] = {"train": True}
        if self.config.augment.probability:
            draws = augment.draw(jax.random.fold_in(drop_key, 1), x0.shape[0])
            x0, told["augment_label"] = augment.apply(x0, draws, self.config.augment.probability)

        def network(key, x, noise_cond, memory):
            return self.apply(params, x, noise_cond, label, memory, dropout_key=key, **told)

        def log_variance(noise_cond) -> Any:
            return self.network.apply({"params": params}, noise_cond, method="log_variance")

        memory = self.network.initial_memory(x0.shape[0])
        return self.objective.loss(key, network, x0, memory, log_variance)

    def apply(self, params, x, noise_cond, label, memory, *, dropout_key=None, **told):
        """One pass of the network; the label is left out where it has no classes.

        `told`: `train`, and in training with augmentation `augment_label`.
        """
        rngs = {} if dropout_key is None else {"dropout": dropout_key}
        label = label if self.has_classes else None
        return self.network.apply(
            {"params": params}, x, noise_cond, label, memory, rngs=rngs, **told
        )

    def branch(self, params: Any, label: Int[Array, "batch"]) -> Denoise:
        """The denoiser of one set of parameters, for given labels; neither guided nor thresholded."""

        def network(x, noise_cond, memory):
            return self.apply(params, x, noise_cond, label, memory)

        return self.objective.preconditioner.denoise(network)

    def sampler(self, guide: "Experiment | None" = None) -> Callable[..., Array]:
        """The compiled function that draws images.

        Each network keeps its own memory from step to step; the two branches of `cfg` are one network
        and share the conditional one's.

        Args:
          guide: the experiment of the worse model that `autoguide` steers away from.

        Returns:
          (params, one key per image, labels, the guide's params or None) -> images in [-1, 1].

        Raises:
          ConfigError: if `autoguide` has no guide, or one that cannot guide this model.
        """
        chosen = self.choices.sampling
        self.check_guide(guide)

        @jax.jit
        def run(params, keys, label, guide_params=None):
            if guide is not None:
                other = guide.branch(guide_params, label)
            else:
                other = self.branch(params, jnp.full_like(label, NO_CLASS))
            denoise = chosen.threshold(chosen.guidance(self.branch(params, label), other))
            start = jax.tree.map(lambda field: field[0], self.levels)
            x_T = initial_noise(keys, start, self.image_shape)
            first = [each.network.initial_memory(label.shape[0]) for each in (self, guide or self)]
            memory = chosen.guidance.memory(*first)
            return sample(
                keys, denoise, chosen.solver, self.levels, x_T, memory=memory, targets=self.targets
            )

        return run

    def check_guide(self, guide: "Experiment | None") -> None:
        """Refuses guidance with a second network without one, or with one that does not fit.

        Raises:
          ConfigError: naming both configs' values.
        """
        if guide is not None:
            compatibility.check_guide(self.choices, guide.choices)
        elif self.needs_guide:
            raise ConfigError(
                f"config.sample.guidance={self.config.sample.guidance!r} steers away from a second network, "
                "and none was given: give the Experiment and the parameters of a worse model, or use "
                "guidance='none()'."
            )

    @property
    def needs_guide(self) -> bool:
        """Whether the guidance steers away from a second network."""
        return self.choices.sampling.guidance.other == "weights"

    def unguided(self) -> "Experiment":
        """The same experiment without guidance: one network is enough to draw with it."""
        sampling = dataclasses.replace(self.choices.sampling, guidance=guidance.none())
        return dataclasses.replace(
            self, choices=dataclasses.replace(self.choices, sampling=sampling)
        )
