"""Config -> objects: the one place that knows all the rooms.

`from_config` builds the whole experiment from its strings and refuses what cannot work, before any
data is read and any array allocated. The binaries get all they need from the `Experiment`; the audit, which
also reports on what is refused, from `choices_of`.
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
from noise_sched.data import augment
from noise_sched.diffusion import guidance, specs
from noise_sched.diffusion.denoiser import Denoise, Preconditioner
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.sampling import initial_noise, sample
from noise_sched.experiment import compatibility, ranges
from noise_sched.experiment.compatibility import Choices, ConfigError
from noise_sched.experiment.rules import Sampling, Training
from noise_sched.networks.magnitude import normalize_kernel
from noise_sched.training import ema, learning_rate, optimizers, power_ema

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


def from_config(config: ConfigDict) -> Experiment:
    """Builds and checks an experiment.

    Raises:
      ConfigError: for any value that cannot be built or any mix that cannot work.
    """
    choices = choices_of(config)
    compatibility.check(choices)
    schedule, optimizer = _optimizer(config)
    process = choices.training.process
    return Experiment(
        config=config,
        network=choices.network,
        objective=_objective(config, choices.training),
        optimizer=optimizer,
        schedule=schedule,
        ema_decay=_ema_decay(config),
        levels=choices.sampling.path(process),
        targets=choices.sampling.targets(process),
        choices=choices,
    )


def choices_of(config: ConfigDict) -> Choices:
    """What a config chooses, built but not judged: the rules may find errors in it.

    Raises:
      ConfigError: for any value that cannot be built, and a grid without a path of config.sample.steps.
    """
    ranges.check(config)
    choices = Choices(config, _network(config), _training(config), _sampling(config))
    try:
        choices.facts.path  # noqa: B018  (computed once, kept)
    except ValueError as error:
        raise ConfigError(f"config.sample.steps: {error}") from None
    return choices


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
        return specs.build(value, kind, {"sigma_data": config.sigma_data})
    except specs.SpecError as error:
        raise ConfigError(f"config.{key}: {error}") from None


def _training(config: ConfigDict) -> Training:
    return Training(
        schedule=_build(config, "schedule", "schedule"),
        process=_build(config, "process", "process"),
        parametrization=_build(config, "parametrization", "parametrization"),
        input_scale=_build(config, "input_scale", "input_scale"),
        conditioning=_build(config, "conditioning", "conditioning"),
        space=_build(config, "loss.space", "parametrization"),
        weight=_build(config, "loss.weight", "weight"),
        offset_noise=config.loss.offset_noise,
        clip_x0=config.loss.clip_x0,
    )


def _sampling(config: ConfigDict) -> Sampling:
    return Sampling(
        schedule=_build(config, "sample.schedule", "schedule"),
        grid=_build(config, "sample.grid", "grid"),
        steps=config.sample.steps,
        solver=_build(config, "sample.solver", "solver"),
        guidance=_build(config, "sample.guidance", "guidance"),
        threshold=_build(config, "sample.threshold", "threshold"),
    )


def _objective(config: ConfigDict, training: Training) -> Objective:
    preconditioner = Preconditioner(
        training.parametrization, training.input_scale, training.conditioning
    )
    time = _build(config, "train.time", "time")
    try:
        return Objective(
            schedule=training.schedule,
            process=training.process,
            preconditioner=preconditioner,
            space=training.space,
            weight=training.weight,
            self_conditioning=config.loss.self_conditioning,
            clip_x0=training.clip_x0,
            offset_noise=training.offset_noise,
            reduction=config.loss.reduction,
            uncertainty=config.loss.uncertainty,
            time=time,
        )
    except ValueError as error:  # the objective's own checks
        raise ConfigError(f"config.loss: {error}") from None


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
    fields["dtype"] = _dtype(fields.get("dtype", "float32"))
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
    for key in ("sanitize", "infinite_gradient"):  # the train step's business
        options.pop(key)
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
    normalize = options.pop("normalize_weights")
    try:
        schedule = learning_rate.warmup_and_decay(
            options.pop("learning_rate"),
            total_steps=config.train.steps,
            decay=options.pop("decay"),
            warmup_steps=_warmup_steps(
                options.pop("warmup_steps"), options.pop("warmup_images"), config.train.batch_size
            ),
            end_factor=options.pop("end_factor"),
        )
        optimizer = made[name](schedule, **options)
        if normalize:
            optimizer = optimizers.normalize_weights(optimizer, normalize_kernel)
        return schedule, optimizer
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.optimizer: {error}") from None


def _warmup_steps(steps: int, images: int | float, batch_size: int) -> int | float:
    """The length of the warm-up, which is given in steps or in images."""
    if images < 0:
        raise ValueError(f"warmup_images must be at least 0, got {images}")
    if steps and images:
        raise ValueError(
            f"warmup_images={images} and warmup_steps={steps} are two lengths of one warm-up: set "
            "warmup_steps=0 to count it in images, or warmup_images=0"
        )
    return images / batch_size if images else steps


def _ema_decay(config: ConfigDict) -> float | ema.Decay:
    options = config.ema
    if not options.halflife_images:
        return options.decay
    if options.warmup:
        raise ConfigError(
            f"config.ema.halflife_images={options.halflife_images} and config.ema.warmup=True do not "
            "fit: a half-life warms up by config.ema.rampup_ratio. Set warmup to False."
        )
    try:
        return ema.halflife(
            options.halflife_images,
            batch_size=config.train.batch_size,
            rampup_ratio=options.rampup_ratio,
        )
    except ValueError as error:
        raise ConfigError(f"config.ema: {error}") from None


def _unknown(what: str, name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    return f"unknown {what} {name!r}. {hint}Known: {', '.join(known)}."
