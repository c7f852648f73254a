"""Config -> objects: the published sizes, and every mix that cannot work is refused in one message."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from noise_sched import experiment
from noise_sched.experiment import ConfigError

PUBLISHED = {
    "cifar10_rin": 30_951_180,
    "imagenet64_rin": 214_483_136,
    "imagenet128_rin": 214_581_440,
    "imagenet256_rin": 319_033_536,
    "imagenet512_rin": 320_606_400,
    "imagenet768_rin": 408_282_304,
    "imagenet1024_rin": 411_952_320,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_parameter_counts(name):
    config = importlib.import_module(f"configs.{name}").get_config()
    assert experiment.parameter_count(config) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("name", "b"), [("imagenet64_rin", 1.0), ("imagenet128_rin", 0.6), ("imagenet256_rin", 0.4)]
)
def test_published_input_scales(name, b):
    config = importlib.import_module(f"configs.{name}").get_config()
    process = experiment.from_config(config).objective.process
    assert process.input_scale == b


def changed(changes: dict):
    config = digits.get_config("tiny")
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schedule": "sigmiod()"}, r"config\.schedule.*Did you mean 'sigmoid'"),
        ({"process": "vpp()"}, r"config\.process.*Did you mean 'vp'"),
        ({"input_scale": "per_example_sdt()"}, "Did you mean 'per_example_std'"),
        ({"conditioning": "gama()"}, "Did you mean 'gamma'"),
        ({"loss.space": "epsilon()"}, r"^config\.loss\.space.*Did you mean 'eps'"),
        ({"loss.weight": "unifrom()"}, "Did you mean 'uniform'"),
        ({"sample.solver": "dddim()"}, "Did you mean 'ddim'"),
        ({"sample.grid": "unifrom()"}, "Did you mean 'uniform'"),
        ({"sample.threshold": "statik()"}, "Did you mean 'static'"),
        ({"sample.steps": 0}, r"config\.sample\.steps=0: expected a whole number from 1"),
        (
            {"parametrization": "eps()"},
            "zero SNR, where config.sample.schedule='cosine.*plain_cosine",
        ),
        ({"process": "ve()"}, "no zero SNR.*sample.schedule='cosine.*process='vp"),
        (
            {"schedule": "discrete(zero_terminal(scaled_linear()))", "conditioning": "log_sigma()"},
            "log_sigma.*infinite at zero SNR.*config.schedule",
        ),
        (
            {
                "schedule": "discrete(zero_terminal(scaled_linear()))",
                "loss.space": "eps()",
                "loss.weight": "uniform(x0())",
            },
            "uniform.x0.*is infinite at zero SNR",
        ),
        ({"sample.grid": "trailing(500)", "sample.schedule": "scaled_linear()"}, "levels=1000"),
        (
            {
                "sample.grid": "trailing()",
                "sample.schedule": "scaled_linear()",
                "sample.steps": 2000,
            },
            "sample.steps.*2000",
        ),
        ({"sample.guidance": "cfg(2, rescale=1.5)"}, r"\[0, 1\], got 1.5"),
        (
            {"sample.guidance": "cfg(2, rescale=0.7)", "parametrization": "x0()"},
            "rescales in v.*space=x0",
        ),
        ({"sample.guidance": "autoguide(2)"}, "autoguide.*needs the workdir of a worse model"),
        ({"loss.space": "edm(0.5)", "parametrization": "edm(0.6)"}, "different sigma_data"),
        ({"loss.offset_noise": -1.0}, "offset_noise=-1.0: expected a number from 0"),
        ({"sample.solver": "heun(s_tmin=2, s_tmax=1)"}, "s_tmin"),
        ({"label_dropout": 0.0, "sample.guidance": "cfg(2)"}, "needs.*label_dropout"),
        ({"network.num_classes": 0, "sample.guidance": "cfg(2)"}, "num_classes is 0"),
        ({"sample.classes": (3, 12)}, r"contains \[12\].*classes 0 to 9"),
        ({"label_dropout": 1.5}, "label_dropout=1.5: expected a number from 0 to 1"),
        ({"loss.self_conditioning": -1.0}, "self_conditioning=-1.0: expected a number from 0 to 1"),
        ({"network.name": "RINN"}, "Did you mean 'RIN'"),
        ({"network.patch_size": 3}, "patch_size=3 does not divide"),
        ({"network.dtype": "float16"}, "Known: float32, bfloat16"),
        ({"optimizer.name": "lmab"}, "Did you mean 'lamb'"),
        ({"optimizer.decay": "cosin"}, "did you mean 'cosine'"),
        ({"optimizer.name": "lamb"}, "LAMB is used without clipping"),
        (
            {"optimizer.warmup_images": 1000},
            "warmup_images=1000 and warmup_steps=1.*warmup_steps=0",
        ),
        (
            {"optimizer.warmup_steps": 0, "optimizer.warmup_images": -1},
            "images=-1: expected a number from 0",
        ),
        ({"loss.reduction": "total"}, r"config\.loss.*'mean' or 'sum'.*got 'total'"),
        ({"ema.halflife_images": 500}, "ema.warmup=True do not fit.*rampup_ratio"),
        (
            {"ema.halflife_images": -5, "ema.warmup": False},
            r"config\.ema\.halflife_images=-5: expected",
        ),
        ({"augment.probability": 1.2}, "probability=1.2: expected a number from 0 to 1"),
        (
            {"augment.probability": 0.12},
            "augment_dim=0.*draws distorted images.*Set config.network.augment_dim=9",
        ),
    ],
)
def test_what_cannot_work_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        experiment.from_config(changed(changes))


def test_unknown_network_field_names_the_nearest():
    config = digits.get_config("tiny")
    config.network.latent_slot = 3
    with pytest.raises(ConfigError, match="latent_slot.*Did you mean 'latent_slots'"):
        experiment.from_config(config)


@pytest.mark.parametrize("name", ["ADM", "DDPMpp", "NCSNpp", "UNetSmall"])
def test_u_nets_go_with_any_recipe(name):
    """The same config with another network: from shapes alone, through loss and sampler."""
    config = digits.get_config("tiny")
    config.loss.self_conditioning = 0.0
    sizes = dict(model_channels=32, channel_mult=(1, 2), num_blocks=1, attention_resolutions=[2])
    config.network = dict(name=name, num_classes=10, augment_dim=9, dtype="bfloat16", **sizes)
    built = experiment.from_config(config)
    params = jax.eval_shape(built.init_params, jax.random.key(0))
    batch = {"image": jnp.zeros((2, *built.image_shape)), "label": jnp.zeros(2, jnp.int32)}
    loss, _ = jax.eval_shape(built.loss, params, jax.random.key(0), batch)
    assert loss.shape == () and loss.dtype == jnp.float32
    keys = jax.random.split(jax.random.key(0), 2)
    images = jax.eval_shape(built.sampler(), params, keys, batch["label"])
    assert images.shape == batch["image"].shape


def test_u_net_fields_are_checked():
    config = digits.get_config("tiny")
    config.network = dict(name="UNetSmall", num_classes=10, attention_resolutions=(16,))
    with pytest.raises(ConfigError, match="UNetSmall.*no level has the height 16"):
        experiment.from_config(config)


def test_memory_is_needed_for_self_conditioning(monkeypatch):
    monkeypatch.setattr(experiment.networks.RIN, "initial_memory", lambda self, batch: ())
    with pytest.raises(ConfigError, match="keeps no memory"):
        experiment.from_config(digits.get_config("tiny"))


@pytest.fixture(scope="module")
def tiny():
    exp = experiment.from_config(digits.get_config("tiny"))
    return exp, exp.init_params(jax.random.key(0))


def test_labels_are_dropped_at_the_configured_rate(tiny):
    exp, params = tiny
    seen = []

    def spy(params, x, noise_cond, label, memory, **_):
        seen.append(label)
        return jnp.zeros_like(x), memory

    batch = {"image": jnp.zeros((4000, 4, 4, 1)), "label": jnp.ones(4000, jnp.int32)}
    spied = experiment.Experiment(**{f: getattr(exp, f) for f in exp.__dataclass_fields__})
    object.__setattr__(spied, "apply", spy)
    spied.loss(params, jax.random.key(0), batch)
    share = np.mean(np.asarray(seen[-1]) == experiment.NO_CLASS)
    assert abs(share - 0.1) < 0.02
    np.testing.assert_array_equal(seen[0], seen[-1], "both passes see the same label")


def spied(exp, given):
    """The experiment with a network that says nothing and notes what it is told."""

    def spy(params, x, noise_cond, label, memory, **told):
        given.append(told)
        return jnp.zeros_like(x), memory

    copy = experiment.Experiment(**{f: getattr(exp, f) for f in exp.__dataclass_fields__})
    object.__setattr__(copy, "apply", spy)
    return copy


@pytest.fixture
def augmented():
    """A config whose network takes labels of nine entries."""
    return changed({"augment.probability": 0.1, "network.augment_dim": 9})


def test_augmentation_mirrors_by_itself(augmented):
    experiment.from_config(augmented)
    augmented.data.flip = True
    with pytest.raises(ConfigError, match="flip=True do not fit.*Set config.data.flip=False"):
        experiment.from_config(augmented)


def test_images_are_augmented_before_the_noise_and_the_network_is_told(augmented, monkeypatch):
    exp, given, noised = experiment.from_config(augmented), [], []
    loss = type(exp.objective).loss
    monkeypatch.setattr(
        type(exp.objective), "loss", lambda self, *args: noised.append(args[2]) or loss(self, *args)
    )
    images = jax.random.normal(jax.random.key(1), (8, *exp.image_shape))
    batch = {"image": images, "label": jnp.zeros(8, jnp.int32)}
    spied(exp, given).loss({}, jax.random.key(0), batch)
    first, second = (told["augment_label"] for told in given)
    np.testing.assert_array_equal(first, second, "both passes are told the same")
    distorted = (noised[0] != images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(distorted, first.any(axis=1))
    assert first.shape == (8, 9) and distorted.any() and not distorted.all()
    assert given[0]["train"]


def test_sampling_says_nothing_of_augmentation(augmented):
    exp, given = experiment.from_config(augmented), []
    level = exp.levels.map(lambda field: field[1:2])
    denoise = spied(exp, given).branch({}, jnp.zeros(1, jnp.int32))
    denoise(jnp.zeros((1, *exp.image_shape)), level, exp.network.initial_memory(1))
    assert given == [{}]


def test_probability_0_draws_nothing(tiny, monkeypatch):
    monkeypatch.setattr(experiment.augment, "draw", None)
    exp, given = tiny[0], []
    batch = {"image": jnp.zeros((2, *exp.image_shape)), "label": jnp.zeros(2, jnp.int32)}
    spied(exp, given).loss({}, jax.random.key(0), batch)
    assert [sorted(told) for told in given] == [["dropout_key", "train"]] * 2


def test_the_recipe_reaches_learning_rate_and_average():
    changes = {
        "optimizer.warmup_steps": 0,
        "optimizer.warmup_images": 100,
        "optimizer.learning_rate": 0.5,
        "ema.warmup": False,
        "ema.halflife_images": 16,
        "loss.reduction": "sum",
        "train.steps": 40,
    }
    exp = experiment.from_config(changed(changes))  # batches of 8
    np.testing.assert_allclose(exp.schedule(np.array([0, 5])), [0, 0.5 * 40 / 100])
    np.testing.assert_allclose(exp.ema_decay(39), 0.5 ** (8 / (0.05 * 39 * 8)), rtol=1e-6)
    np.testing.assert_allclose(exp.ema_decay(80), 0.5 ** (8 / 16), rtol=1e-6)
    assert exp.objective.reduction == "sum"


def test_self_conditioning_masks_the_memory_and_stops_the_gradient(tiny):
    """Rate 1 keeps every first-pass memory, and no gradient reaches the first pass."""
    exp, _ = tiny
    objective = exp.objective

    def network(scale):
        return lambda key, x, noise_cond, memory: (scale * x + memory.sum(), memory + scale)

    def loss(scale, rate):
        other = type(objective)(
            **{f: getattr(objective, f) for f in objective.__dataclass_fields__}
            | {"self_conditioning": rate}
        )
        x0 = jnp.ones((8, 2, 2, 1))
        return other.loss(jax.random.key(0), network(scale), x0, jnp.zeros((8, 1)))[0]

    assert float(loss(2.0, 1.0)) != float(loss(2.0, 0.0))
    plain, conditioned = (jax.grad(loss)(0.0, rate) for rate in (0.0, 1.0))
    np.testing.assert_allclose(plain, conditioned, rtol=1e-6)
