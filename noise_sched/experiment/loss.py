"""The training loss of a batch: labels dropped, images augmented, the rest is the objective's."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from noise_sched.data import augment
from noise_sched.diffusion.numbers import is_off
from noise_sched.experiment.hyper import Hyper

NO_CLASS = -1  # the label of "no class"


def loss(
    hyper: Hyper,
    params: Any,
    key: Key[Array, ""],
    batch: dict[str, Array],
    *,
    network: nn.Module,
    density: Any = None,
) -> tuple[Float[Array, ""], dict[str, Array]]:
    """The loss of a batch {"image": [b, h, w, c] in [-1, 1], "label": [b]}, and its metrics.

    `density` is the state of the training density, None that before the first step.
    """
    drop_key, key = jax.random.split(key)
    x0, label = batch["image"], batch["label"]
    dropped = jax.random.bernoulli(drop_key, hyper.label_dropout, label.shape)
    label = jnp.where(dropped, jnp.full_like(label, NO_CLASS), label)
    network_kwargs: dict[str, Any] = {"train": True}
    if not is_off(hyper.augment_probability):
        draws = augment.draw(jax.random.fold_in(drop_key, 1), x0.shape[0])
        x0, augment_label = augment.apply(x0, draws, hyper.augment_probability)
        network_kwargs["augment_label"] = augment_label

    def call(key, x, noise_cond, memory):
        return apply(
            network, params, x, noise_cond, label, memory, dropout_key=key, **network_kwargs
        )

    def log_variance(noise_cond) -> Any:
        return network.apply({"params": params}, noise_cond, method="log_variance")

    memory = network.initial_memory(x0.shape[0])
    return hyper.complete_objective.loss(key, call, x0, memory, log_variance, density)


def apply(
    network, params, x, noise_cond, label, memory, *, dropout_key=None, **network_kwargs
) -> Any:
    """One pass of a network; the label is left out where it has no classes.

    `network_kwargs`: `train`, and in training with augmentation `augment_label`.
    """
    rngs = {} if dropout_key is None else {"dropout": dropout_key}
    label = label if network.num_classes else None
    return network.apply(
        {"params": params}, x, noise_cond, label, memory, rngs=rngs, **network_kwargs
    )
