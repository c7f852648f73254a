"""The numbers of a training as one pytree: a grid of cells is as many steps one by one."""

import dataclasses
import functools
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from noise_sched import experiment
from noise_sched.experiment import ConfigError, optimization, training
from noise_sched.experiment.hyper import Hyper, stack
from noise_sched.training.step import compile_step

COMMON = {
    "schedule": "sigmoid(-3, 3, tau=1.1)",
    "parametrization": "edm(sigma_data)",
    "input_scale": "analytic(sigma_data)",
    "loss.space": "edm(sigma_data)",
    "loss.weight": "min_snr(5)",
    "network.augment_dim": 9,
    "augment.probability": 0.3,
    "loss.offset_noise": 0.1,
    "ema.warmup": False,
    "optimizer.warmup_steps": 0,
}
# What each cell of the grid changes; the second leaves out all that can be left out.
CELLS = (
    {},
    {"loss.self_conditioning": 0.0, "loss.offset_noise": 0.0, "augment.probability": 0.0},
    {
        "schedule": "sigmoid(-3, 3, tau=0.7)",
        "process": "vp(0.6)",
        "loss.self_conditioning": 0.4,
        "label_dropout": 0.5,
    },
    {
        "sigma_data": 0.5,
        "loss.offset_noise": 0.2,
        "optimizer.learning_rate": 1e-2,
        "optimizer.weight_decay": 0.3,
        "ema.decay": 0.9,
    },
)


class Network(nn.Module):
    """Uses all that it is given, in float64."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, x, noise_cond, label, memory, train=False, augment_label=None):
        dense = functools.partial(nn.Dense, param_dtype=jnp.float64)
        augmented = jnp.zeros((len(x), 9)) if augment_label is None else augment_label
        one_hot = jax.nn.one_hot(label, 10, dtype=x.dtype)
        seen = (x.reshape(len(x), -1), noise_cond[:, None], one_hot, memory, augmented)
        hidden = nn.tanh(dense(8)(jnp.concatenate([part.astype(x.dtype) for part in seen], 1)))
        return dense(16)(hidden).reshape(x.shape), dense(4)(hidden)

    def initial_memory(self, batch):
        return jnp.zeros((batch, 4))


def built(changes=()):
    config = digits.get_config("tiny")
    config.update_from_flattened_dict(COMMON | dict(changes))
    return experiment.from_config(config)


@pytest.fixture(scope="module")
def exp():
    return dataclasses.replace(built(), network=Network())


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def batches(count):
    random = np.random.default_rng(0)
    return [
        {"image": random.normal(0, 0.7, (16, 4, 4, 1)), "label": np.arange(16, dtype=np.int32) % 10}
        for _ in range(count)
    ]


def start(exp, cells):
    """The states of as many models, of one seed."""
    state = training.new_state(exp)
    return jax.tree.map(lambda leaf: jnp.stack([leaf] * cells), state)


def run(step, state, *args):
    """The state after three steps, and the last metrics."""
    for batch in batches(3):
        state, metrics = step(state, batch, *args)
    return state.replace(key=jax.random.key_data(state.key)), metrics


def cell(tree, index):
    return jax.tree.map(lambda leaf: leaf[index], tree)


close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-9)


def exactly(function):
    """Compiled as outside the tests: the older fusions that they use round a loop's body in another way."""
    name = "xla_cpu_use_fusion_emitters"
    used = f"--{name}=false" in os.environ.get("XLA_FLAGS", "")
    return jax.jit(function, compiler_options={name: True} if used else None)


def test_a_grid_is_its_cells_one_by_one(exp):
    hypers = [built(changes).hyper for changes in CELLS]
    step, stacked, states = training.step_of(exp), stack(hypers), start(exp, len(CELLS))
    grid = run(jax.jit(jax.vmap(step, in_axes=(0, None, 0))), states, stacked)

    def mapped(states, batch, hypers):
        return jax.lax.map(lambda each: step(each[0], batch, each[1]), (states, hypers))

    in_turn, traced = run(exactly(mapped), states, stacked), exactly(step)
    for index, hyper in enumerate(hypers):
        alone = run(traced, cell(states, index), cell(stacked, index))
        jax.tree.map(np.testing.assert_array_equal, cell(in_turn, index), alone)
        jax.tree.map(close, cell(grid, index), alone)
        if index % 2:  # plain numbers, as a single run has them
            alone = run(compile_step(step, hyper), training.new_state(exp))
            jax.tree.map(close, cell(grid, index), alone)


def test_every_number_is_used(exp):
    """One cell for each leaf, which is another there; all in one program."""
    leaves, structure = jax.tree.flatten(exp.hyper)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(exp.hyper)]
    assert {".learning_rate", ".weight_decay", ".ema_new_weight", ".sigma_data"} < set(names)
    assert {".objective.self_conditioning", ".objective.schedule.tau"} < set(names)
    assert sum("sigma_data" in name for name in names) == 1
    other = lambda i: [0.5 * x + 0.3 if j == i else x for j, x in enumerate(leaves)]
    hypers = [jax.tree.unflatten(structure, other(i)) for i in range(-1, len(leaves))]
    step = jax.jit(jax.vmap(training.step_of(exp), in_axes=(0, None, 0)))
    state, _ = step(start(exp, len(hypers)), batches(1)[0], stack(hypers))
    plain, *others = (
        [np.asarray(leaf[i]) for leaf in jax.tree.leaves((state.params, state.ema_params))]
        for i in range(len(hypers))
    )
    for name, found in zip(names, others, strict=True):
        assert any((a != b).any() for a, b in zip(plain, found, strict=True)), name


def test_a_half_life_is_a_number_of_its_own():
    exp = built({"ema.halflife_images": 500})
    assert exp.hyper.ema_new_weight is None
    new_weight = optimization.new_weight(exp.config)
    weights = jax.vmap(new_weight, in_axes=(0, None))(
        stack([exp.hyper, dataclasses.replace(exp.hyper, ema_halflife=1000)]), 10**4
    )
    np.testing.assert_allclose(weights, 1 - 0.5 ** (8 / np.array([500, 1000])), rtol=1e-12)


def test_1_minus_the_decay_keeps_its_digits():
    with jax.enable_x64(False):
        found = stack([built({"ema.decay": 0.9999}).hyper]).ema_new_weight
        np.testing.assert_allclose(found, 1e-4, rtol=1e-7)


def test_what_is_0_in_all_cells_is_left_out():
    off = [built(CELLS[1] | {"optimizer.learning_rate": rate}).hyper for rate in (1e-3, 1e-2)]
    stacked = stack(off)
    assert stacked.objective.self_conditioning is stacked.objective.offset_noise is None
    assert stacked.augment_probability is None and stacked.label_dropout.shape == (2,)
    assert stack([off[0], built().hyper]).objective.offset_noise.shape == (2,)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "cosine()"}, r"objective.schedule is sigmoid\(.* and cosine\(.* in cell 1"),
        ({"loss.clip_x0": True}, "objective.clip_x0 is False in cell 0 and True in cell 1"),
        ({"ema.halflife_images": 9}, "ema_new_weight is 0.0.* in cell 0 and None in cell 1"),
    ],
)
def test_cells_that_are_not_one_program(changes, message):
    with pytest.raises(ValueError, match=f"{message}: .*in numbers only.*cells \\[1\\]"):
        stack([built().hyper, built(changes).hyper, built().hyper])


def test_there_is_one_sigma_data():
    exp = built()
    assert exp.hyper.sigma_data == 0.75 and exp.hyper.objective.preconditioner.input_scale == (
        type(exp.objective.preconditioner.input_scale)(None)
    )
    other = dataclasses.replace(exp.hyper, sigma_data=0.4).complete_objective
    places = (other.parametrization, other.input_scale, other.loss_space)
    assert [each.sigma_data for each in places] == [0.4] * 3
    with pytest.raises(ValueError, match="different sigma_data: 0.75, 0.4"):
        dataclasses.replace(exp.hyper, objective=other)
    with pytest.raises(ConfigError, match="different sigma_data"):
        built({"loss.weight": "uniform(edm(0.4))"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": -1.0},
        {"weight_decay": float("nan")},
        {"ema_new_weight": 0.0},
        {"label_dropout": 1.5},
        {"sigma_data": 0.0},
    ],
)
def test_a_number_out_of_range(wrong):
    hyper = built().hyper
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.*expected"):
        dataclasses.replace(hyper, **wrong)
    traced = {name: jnp.asarray(value) for name, value in wrong.items()}
    assert isinstance(dataclasses.replace(hyper, **traced), Hyper)
