"""Config -> objects, and every check across choices: the one place that knows all the rooms.

`from_config` builds the whole experiment from its strings and refuses what cannot work, before any
data is read and any array allocated. The binaries get all they need from the `Experiment`.
"""

import dataclasses
import difflib
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key
from ml_collections import ConfigDict

from noise_sched import networks
from noise_sched.diffusion import guidance as guidances
from noise_sched.diffusion import specs
from noise_sched.diffusion.denoiser import Denoise, Preconditioner
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.sampling import initial_noise, sample
from noise_sched.training import learning_rate, optimizers

NO_CLASS = -1  # the label of "no class"


class ConfigError(ValueError):
    """A config that cannot work; the message names the key, what it is and what would do."""


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A config, built.

    Attributes:
      config: what it was built from.
      network: the flax module.
      objective: the training loss.
      optimizer: the optax transformation.
      schedule: the learning rate as a function of the step.
      levels: the sampling path, fields of shape [sample.steps + 1], noisiest first.
    """

    config: ConfigDict
    network: nn.Module
    objective: Objective
    optimizer: optax.GradientTransformation
    schedule: learning_rate.Schedule
    levels: NoiseLevel

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

        def network(key, x, noise_cond, memory):
            return self.apply(params, x, noise_cond, label, memory, train=True, dropout_key=key)

        memory = self.network.initial_memory(x0.shape[0])
        return self.objective.loss(key, network, x0, memory)

    def apply(self, params, x, noise_cond, label, memory, *, train=False, dropout_key=None):
        """One pass of the network; the label is left out where it has no classes."""
        rngs = {} if dropout_key is None else {"dropout": dropout_key}
        label = label if self.has_classes else None
        return self.network.apply(
            {"params": params}, x, noise_cond, label, memory, train=train, rngs=rngs
        )

    def denoiser(self, params: Any, label: Int[Array, "batch"]) -> Denoise:
        """The denoiser that sampling steps with: guided, then thresholded."""

        def branch(label):
            def network(x, noise_cond, memory):
                return self.apply(params, x, noise_cond, label, memory)

            return self.objective.preconditioner.denoise(network)

        guide = specs.build(self.config.sample.guidance, "guidance")
        threshold = specs.build(self.config.sample.threshold, "threshold")
        return threshold(guide(branch(label), branch(jnp.full_like(label, NO_CLASS))))

    def sampler(self) -> Callable[[Any, Key[Array, "batch"], Int[Array, "batch"]], Array]:
        """The compiled function (params, one key per image, labels) -> images in [-1, 1]."""
        solver = specs.build(self.config.sample.solver, "solver")

        @jax.jit
        def run(params, keys, label):
            start = jax.tree.map(lambda field: field[0], self.levels)
            x_T = initial_noise(keys, start, self.image_shape)
            memory = self.network.initial_memory(label.shape[0])
            denoise = self.denoiser(params, label)
            return sample(keys, denoise, solver, self.levels, x_T, memory=memory)

        return run


def from_config(config: ConfigDict) -> Experiment:
    """Builds and checks an experiment.

    Raises:
      ConfigError: for any value that cannot be built or any mix that cannot work.
    """
    objective = _objective(config)
    network = _network(config)
    schedule, optimizer = _optimizer(config)
    levels = _levels(config, objective)
    experiment = Experiment(config, network, objective, optimizer, schedule, levels)
    _check_classes(config)
    _check_memory(config, network)
    return experiment


def parameter_count(config: ConfigDict) -> int:
    """Number of parameters of a config's network, from shapes alone: nothing is allocated."""
    experiment = from_config(config)
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def _build(config: ConfigDict, key: str, kind: str) -> Any:
    """Builds the spec at a dotted key, naming the key in the error."""
    value = config
    for part in key.split("."):
        value = value[part]
    try:
        return specs.build(value, kind)
    except specs.SpecError as error:
        raise ConfigError(f"config.{key}: {error}") from None


def _objective(config: ConfigDict) -> Objective:
    rate = config.loss.self_conditioning
    for key, value in (("loss.self_conditioning", rate), ("label_dropout", config.label_dropout)):
        if not 0 <= value <= 1:
            raise ConfigError(f"config.{key} is a probability in [0, 1], got {value}.")
    return Objective(
        schedule=_build(config, "schedule", "schedule"),
        process=_build(config, "process", "process"),
        preconditioner=Preconditioner(
            parametrization=_build(config, "parametrization", "parametrization"),
            input_scale=_build(config, "input_scale", "input_scale"),
            conditioning=_build(config, "conditioning", "conditioning"),
        ),
        space=_build(config, "loss.space", "parametrization"),
        weight=_build(config, "loss.weight", "weight"),
        self_conditioning=rate,
        clip_x0=config.loss.clip_x0,
    )


def _network(config: ConfigDict) -> nn.Module:
    fields = config.network.to_dict()
    name = fields.pop("name")
    if name not in networks.__all__:
        raise ConfigError(f"config.network.name: {_unknown('network', name, networks.__all__)}")
    made = getattr(networks, name)
    known = [f.name for f in dataclasses.fields(made) if f.name not in ("parent", "name")]
    for field in fields:
        if field not in known:
            raise ConfigError(f"config.network.{field}: {_unknown(f'{name} field', field, known)}")
    fields["dtype"] = _dtype(fields["dtype"])
    try:
        return made(image_size=config.data.image_size, channels=config.data.channels, **fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.network ({name}): {error}") from None


def _dtype(name: str) -> Any:
    known = ("float32", "bfloat16")
    if name not in known:
        raise ConfigError(f"config.network.dtype: {_unknown('dtype', name, known)}")
    return jnp.dtype(name)


def _optimizer(config: ConfigDict) -> tuple[learning_rate.Schedule, optax.GradientTransformation]:
    options = config.optimizer.to_dict()
    name = options.pop("name")
    made = {
        "lamb": optimizers.lamb,
        "adamw": optimizers.adamw,
        "adam": optimizers.adam,
    }
    if name not in made:
        raise ConfigError(f"config.optimizer.name: {_unknown('optimizer', name, made)}")
    clip_norm = options.pop("clip_norm")
    if clip_norm and name == "lamb":
        raise ConfigError(
            f"config.optimizer.clip_norm={clip_norm}: LAMB is used without clipping, as published. "
            "Set it to 0, or use --config.optimizer.name=adamw."
        )
    if clip_norm:
        options["clip_norm"] = clip_norm
    if name == "adam":
        options.pop("weight_decay")
    try:
        schedule = learning_rate.warmup_and_decay(
            options.pop("learning_rate"),
            total_steps=config.train.steps,
            decay=options.pop("decay"),
            warmup_steps=options.pop("warmup_steps"),
            end_factor=options.pop("end_factor"),
        )
        return schedule, made[name](schedule, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.optimizer: {error}") from None


def _levels(config: ConfigDict, objective: Objective) -> NoiseLevel:
    schedule = _build(config, "sample.schedule", "schedule")
    grid = _build(config, "sample.grid", "grid")
    _build(config, "sample.solver", "solver")
    _build(config, "sample.threshold", "threshold")
    try:
        levels = objective.process.level(schedule.logsnr(grid(config.sample.steps)))
    except ValueError as error:
        raise ConfigError(f"config.sample.steps: {error}") from None
    own = objective.preconditioner.parametrization
    if float(levels.alpha[0]) == 0 and not own.supports_zero_snr:
        raise ConfigError(
            f"config.parametrization={config.parametrization!r} says nothing about the image at zero "
            f"SNR, where config.sample.schedule={config.sample.schedule!r} starts. Sample with "
            "'plain_cosine()' or add clip_min=1e-9 to the schedule (both published), or predict "
            "'v()' or 'x0()'."
        )
    return levels


def _check_classes(config: ConfigDict) -> None:
    guidance = _build(config, "sample.guidance", "guidance")
    guided = not isinstance(guidance, guidances.none)
    classes = config.network.num_classes
    if guided and not classes:
        raise ConfigError(
            f"config.sample.guidance={config.sample.guidance!r} needs a network with classes, but "
            "config.network.num_classes is 0. Set it, or use guidance='none()'."
        )
    if guided and not config.label_dropout:
        raise ConfigError(
            f"config.sample.guidance={config.sample.guidance!r} needs a network that was trained "
            "without labels too: set config.label_dropout (0.1 is usual), or guidance='none()'."
        )
    wrong = [c for c in config.sample.classes if not 0 <= c < classes]
    if wrong:
        raise ConfigError(
            f"config.sample.classes contains {wrong}, but the network has "
            f"{f'classes 0 to {classes - 1}' if classes else 'no classes'}."
        )


def _check_memory(config: ConfigDict, network: nn.Module) -> None:
    if config.loss.self_conditioning and not jax.tree.leaves(network.initial_memory(1)):
        raise ConfigError(
            f"config.loss.self_conditioning={config.loss.self_conditioning}, but "
            f"{config.network.name} keeps no memory from one pass to the next. Set it to 0."
        )


def _unknown(what: str, name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"unknown {what} {name!r}. {hint}Known: {', '.join(known)}."
