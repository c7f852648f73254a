"""Config -> objects: the one place that knows all the rooms.

`from_config` builds the whole experiment from its strings and refuses what cannot work, before any
data is read and any array allocated. The binaries get all they need from the `Experiment`; the audit, which
also reports on what is refused, from `facts_of`.
"""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from noise_sched import networks
from noise_sched.diffusion import specs
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.experiment import optimization, ranges, rules
from noise_sched.experiment.experiment import Experiment
from noise_sched.experiment.hyper import Hyper
from noise_sched.experiment.ranges import ConfigError
from noise_sched.experiment.rules import Facts
from noise_sched.experiment.rules.config_text import key_of
from noise_sched.messages import did_you_mean


def from_config(config: ConfigDict) -> Experiment:
    """Builds and checks an experiment.

    Raises:
      ConfigError: for any value that cannot be built or any mix that cannot work.
    """
    facts = facts_of(config)
    rules.check(facts)
    try:
        hyper = Hyper.of(config, facts.objective)
    except ValueError as error:
        raise ConfigError(f"config: {error}") from None
    process = facts.objective.process
    return Experiment(
        config=config,
        network=facts.network,
        hyper=hyper,
        sampling=facts.sampling,
        levels=facts.path,
        targets=facts.sampling.targets(process),
    )


def facts_of(config: ConfigDict) -> Facts:
    """What a config chooses, built but not judged: the rules may find errors in it.

    Raises:
      ConfigError: for any value that cannot be built, and a grid without a path of config.sample.steps.
    """
    ranges.check(config)
    optimization.check(config)
    network, objective = _network(config), _objective(config)
    sampling = Sampling(**_fields(config, Sampling))
    facts = Facts(objective, sampling, config.data.image_size**2, config, network)
    try:
        facts.path  # noqa: B018  (computed once, kept)
    except ValueError as error:
        raise ConfigError(f"config.sample.steps: {error}") from None
    return facts


def parameter_count(config: ConfigDict) -> int:
    """Number of parameters of a config's network, from shapes alone: nothing is allocated."""
    experiment = from_config(config)
    shapes = jax.eval_shape(experiment.init_params, jax.random.key(0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def field_of(config: ConfigDict, part: type, field: str) -> Any:
    """What a config has for a field of `Objective` or `Sampling`: a spec built, any other value as it is.

    Raises:
      ConfigError: naming the key, if the spec cannot be built.
    """
    key, kind = key_of(part, field), "parametrization" if field == "loss_space" else field
    value = ranges.value_at(config, key)
    if kind not in specs.KINDS:
        return value
    try:
        return specs.build(value, kind, {"sigma_data": config.sigma_data})
    except specs.SpecError as error:
        raise ConfigError(f"config.{key}: {error}") from None


def _objective(config: ConfigDict) -> Objective:
    fields = _fields(config, Objective)
    try:
        return Objective(**fields)
    except ValueError as error:  # the objective's own checks
        raise ConfigError(f"config.loss: {error}") from None


def _fields(config: ConfigDict, part: type) -> dict[str, Any]:
    return {field.name: field_of(config, part, field.name) for field in dataclasses.fields(part)}


def _network(config: ConfigDict) -> nn.Module:
    fields = config.network.to_dict()
    name = fields.pop("name")
    if name not in networks.__all__:
        raise ConfigError(
            f"config.network.name: unknown network {name!r}. {did_you_mean(name, networks.__all__)}"
        )
    made = getattr(networks, name)
    known = [f.name for f in dataclasses.fields(made) if f.name not in ("parent", "name")]
    for field in fields:
        if field not in known:
            raise ConfigError(
                f"config.network.{field}: unknown {name} field {field!r}. {did_you_mean(field, known)}"
            )
    fields["dtype"] = _dtype(fields.get("dtype", "float32"))
    try:
        return made(image_size=config.data.image_size, channels=config.data.channels, **fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"config.network ({name}): {error}") from None


def _dtype(name: str) -> Any:
    known = ("float32", "bfloat16")
    if name not in known:
        raise ConfigError(
            f"config.network.dtype: unknown dtype {name!r}. {did_you_mean(name, known)}"
        )
    return jnp.dtype(name)
