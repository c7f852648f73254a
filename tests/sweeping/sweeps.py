"""Sweeps of a network that compiles at once, for the tests of this folder."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp

from configs import common, digits
from noise_sched.sweeping import cells, here
from noise_sched.sweeping.record import Definition


class Network(nn.Module):
    """A network of two layers, in the place of the config's own."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, x, noise_cond, label, memory, train=False, augment_label=None):
        one_hot = nn.one_hot(label, 10, dtype=x.dtype)
        seen = jnp.concatenate([x.reshape(len(x), -1), noise_cond[:, None], one_hot], axis=1)
        hidden = nn.tanh(nn.Dense(8)(seen))
        return nn.Dense(16)(hidden).reshape(x.shape), memory

    def initial_memory(self, batch):
        return jnp.zeros((batch, 1))


EIGHT = (
    {"schedule": "linear()"},
    {"schedule": "linear()", "seed": 1},
    {"schedule": "linear()", "process": "vp(input_scale=0.5)"},
    {"schedule": "cosine(0.2, 1.0, tau=1.0)"},
    {"schedule": "cosine(0.2, 1.0, tau=2.0)", "seed": 1},
    {"schedule": "sigmoid(-3.0, 3.0, tau=0.9)"},
    {"schedule": "sigmoid(0.0, 3.0, tau=0.3)", "optimizer.learning_rate": 1e-2},
    {"schedule": "sigmoid(0.0, 3.0, tau=0.5)", "ema.decay": 0.5},
)


def base(**changes):
    config = common.tiny(digits.get_config())
    config.loss.self_conditioning = 0.0
    config.train.update(steps=12, log_every=4, checkpoint_every=4)
    config.eval.update(num_images=20, metrics="spectrum")
    config.update_from_flattened_dict(changes)
    return config


def definition(written=EIGHT, **changes):
    config = base(**changes)
    return Definition("a test", config, cells.make(config, written), {})


def with_small_network(monkeypatch):
    """Has `here` build experiments with `Network`."""
    build = here.experiment.from_config
    monkeypatch.setattr(
        here.experiment,
        "from_config",
        lambda config: dataclasses.replace(build(config), network=Network()),
    )
