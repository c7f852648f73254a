"""Config -> objects: the published sizes, and every mix that cannot work is refused in one message."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from noise_sched import experiment, networks, train
from noise_sched.data import augment
from noise_sched.diffusion.process import diffuse
from noise_sched.diffusion.sampling import initial_noise
from noise_sched.experiment import ConfigError, optimization, sampler
from noise_sched.training import partitioning
from noise_sched.training.metrics import MetricWriter

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
    # jax.nn.dot_product_attention itself asks for bfloat16 and float32 to be promoted.
    with jax.numpy_dtype_promotion("standard"):
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
        (
            {"schedule": "discrete(from_betas((0.0, 0.1)))", "loss.space": "x0()"}
            | {"loss.weight": "min_snr()"},
            r"config\.loss\.weight='min_snr\(\)' in config\.loss\.space='x0\(\)' is nan at the "
            r"cleanest level.*logSNR inf\. Predict and measure in 'v\(\)'",
        ),
        (
            {"schedule": "discrete(from_betas((0.0, 0.1)))", "parametrization": "x0()"}
            | {"loss.space": "eps()"},
            r"the loss of config\.parametrization='x0\(\)' in config\.loss\.space='eps\(\)' is "
            "(inf|nan) at the cleanest level.*crop",
        ),
        (
            {"schedule": "from_betas((0.0, 0.1))", "conditioning": "log_sigma()"}
            | {"sample.schedule": "plain_cosine()"},
            r"config\.conditioning='log_sigma\(\)' is -inf at the cleanest level",
        ),
        (
            {"schedule": "laplace(0, 10)", "parametrization": "x0()", "loss.space": "eps()"},
            "(is infinite at zero SNR|at the cleanest level).*laplace",
        ),
        ({"train.time": "stratifed()"}, r"config\.train\.time.*Did you mean 'stratified'"),
        ({"train.skip_nonfinite": -1}, "skip_nonfinite=-1.*from 0"),
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
            r"rescales in v.*predicts x0.*cfg\(2, 0.7, x0\(\)\)",
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
        ({"network.dtype": "float16"}, "There are: float32, bfloat16"),
        ({"optimizer.name": "lmab"}, "Did you mean 'lamb'"),
        ({"optimizer.decay": "cosin"}, "Did you mean 'cosine'"),
        ({"optimizer.name": "lamb"}, "LAMB is used without clipping"),
        (
            {"optimizer.warmup_images": 1000},
            "warmup_images=1000 and config.optimizer.warmup_steps=1.*warmup_steps=0",
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


@pytest.mark.parametrize("weight", ["min_snr()", "edm(0.75)", "sigmoid()", "uniform()"])
@pytest.mark.parametrize("own, space", [("v()", "x0()"), ("x0()", "eps()")])
def test_what_only_clean_data_breaks_is_not_refused(own, space, weight):
    """Levels 1 .. T have noise, so these losses are large at worst."""
    for schedule in ("discrete(scaled_linear())", "linear_betas()"):
        changes = {"schedule": schedule, "parametrization": own, "loss.space": space}
        experiment.from_config(changed(changes | {"loss.weight": weight}))


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
    monkeypatch.setattr(networks.RIN, "initial_memory", lambda self, batch: ())
    with pytest.raises(ConfigError, match="keeps no memory"):
        experiment.from_config(digits.get_config("tiny"))


@pytest.fixture(scope="module")
def tiny():
    exp = experiment.from_config(digits.get_config("tiny"))
    return exp, exp.init_params(jax.random.key(0))


@pytest.fixture
def given(monkeypatch):
    """What a network that says nothing is given, one dict for each call."""
    calls = []

    def spy(network, params, x, noise_cond, label, memory, **network_kwargs):
        calls.append(network_kwargs | {"label": label})
        return jnp.zeros_like(x), memory

    monkeypatch.setattr(experiment.loss, "apply", spy)
    return calls


def test_labels_are_dropped_at_the_configured_rate(tiny, given):
    exp, params = tiny
    batch = {"image": jnp.zeros((4000, 4, 4, 1)), "label": jnp.ones(4000, jnp.int32)}
    exp.loss(params, jax.random.key(0), batch)
    first, last = (np.asarray(call["label"]) for call in given)
    assert abs(np.mean(last == experiment.NO_CLASS) - 0.1) < 0.02
    np.testing.assert_array_equal(first, last, "both passes see the same label")


@pytest.fixture
def augmented():
    """A config whose network takes labels of nine entries."""
    return changed({"augment.probability": 0.1, "network.augment_dim": 9})


def test_augmentation_mirrors_by_itself(augmented):
    experiment.from_config(augmented)
    augmented.data.flip = True
    with pytest.raises(ConfigError, match="flip=True do not fit.*Set config.data.flip=False"):
        experiment.from_config(augmented)


def test_images_are_augmented_before_the_noise_and_the_network_is_told(
    augmented, given, monkeypatch
):
    exp, noised = experiment.from_config(augmented), []
    loss = type(exp.objective).loss
    monkeypatch.setattr(
        type(exp.objective), "loss", lambda self, *args: noised.append(args[2]) or loss(self, *args)
    )
    images = jax.random.normal(jax.random.key(1), (8, *exp.image_shape))
    batch = {"image": images, "label": jnp.zeros(8, jnp.int32)}
    exp.loss({}, jax.random.key(0), batch)
    first, second = (call["augment_label"] for call in given)
    np.testing.assert_array_equal(first, second, "both passes are told the same")
    distorted = (noised[0] != images).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(distorted, first.any(axis=1))
    assert first.shape == (8, 9) and distorted.any() and not distorted.all()
    assert given[0]["train"]


def test_sampling_says_nothing_of_augmentation(augmented, given):
    exp = experiment.from_config(augmented)
    level = exp.levels.map(lambda field: field[1:2])
    denoise = exp.denoiser({}, jnp.zeros(1, jnp.int32))
    denoise(jnp.zeros((1, *exp.image_shape)), level, exp.network.initial_memory(1))
    assert [set(call) for call in given] == [{"label"}]


def test_probability_0_draws_nothing(tiny, given, monkeypatch):
    monkeypatch.setattr(augment, "draw", None)
    exp = tiny[0]
    batch = {"image": jnp.zeros((2, *exp.image_shape)), "label": jnp.zeros(2, jnp.int32)}
    exp.loss({}, jax.random.key(0), batch)
    assert [sorted(call) for call in given] == [["dropout_key", "label", "train"]] * 2


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
    schedule = optimization.schedule(exp.config, exp.hyper)
    np.testing.assert_allclose(schedule(np.array([0, 5])), [0, 0.5 * 40 / 100])
    new_weight = optimization.new_weight(exp.config)
    half_lives = {39: 0.05 * 39 * 8, 80: 16}
    for step, images in half_lives.items():
        found = new_weight(exp.hyper, step)
        np.testing.assert_allclose(found, 1 - 0.5 ** (8 / images), rtol=1e-6)
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


GUIDED = {"sample.guidance": "autoguide(2)", "sample.guide_workdir": "runs/worse"}


def test_a_second_network_is_needed_for_autoguidance():
    exp = experiment.from_config(changed(GUIDED))
    with pytest.raises(ConfigError, match=r"autoguide\(2\).*none was given.*guidance='none\(\)'"):
        exp.sampler()
    exp.unguided().sampler()
    assert exp.needs_guide and not exp.unguided().needs_guide


def test_training_draws_its_grids_without_a_guide_and_says_so(capsys):
    writer = object.__new__(MetricWriter)  # nothing is drawn yet
    mesh = partitioning.make_mesh()
    train._draw_grid(experiment.from_config(changed(GUIDED)), mesh, writer)
    assert "grids are drawn without guidance" in capsys.readouterr().out
    train._draw_grid(experiment.from_config(changed({"sample.guidance": "cfg(2)"})), mesh, writer)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.image_size": 16}, "runs/worse.*data.image_size is 16 there and 4 here"),
        ({"network.num_classes": 5}, "num_classes is 5 there and 10 here"),
        (
            {"process": "vp(0.5)"},
            r"process is vp\(input_scale=0.5\) there and vp\(input_scale=1.0\) here",
        ),
        (
            {"conditioning": "log_sigma()", "sample.schedule": "plain_cosine()"},
            "log_sigma.*infinite at zero SNR, where config.sample.schedule='cosine",
        ),
    ],
)
def test_a_guide_that_cannot_guide_is_refused_before_it_is_read(changes, message, monkeypatch):
    exp, guide = (experiment.from_config(changed(c)) for c in (GUIDED, changes))
    with pytest.raises(ConfigError, match=message):
        exp.sampler(guide)
    # `sample` reads no weights before: the folder without checkpoints is not even looked at.
    monkeypatch.setattr(sampler.workdir, "load_config", lambda _: guide.config)
    with pytest.raises(ConfigError, match=message):
        sampler.run(exp.config, pathlib.Path("nowhere"), pathlib.Path("nowhere/out"), 1)


def test_a_guide_may_be_another_network_with_another_memory_and_parametrization():
    """Against the two networks called by hand, each with its own memory, through a path of two steps."""
    made = {
        "own": changed(GUIDED | {"sample.steps": 2, "sample.solver": "ddim()"}),
        "guide": changed(
            {"parametrization": "x0()", "input_scale": "analytic(0.5)", "network.latent_slots": 3}
        ),
        "unlabelled": changed({"network.num_classes": 0}),
    }
    own, guide, unlabelled = (experiment.from_config(c) for c in made.values())
    own.sampler(unlabelled)  # a guide without classes is published too
    # Not fresh ones, whose last layer is zero: their memory would not matter.
    random = np.random.default_rng(0)
    shapes = [jax.eval_shape(e.init_params, jax.random.key(0)) for e in (own, guide)]
    params = jax.tree.map(lambda leaf: random.normal(0, 0.3, leaf.shape).astype("f"), shapes)
    keys, label = jax.random.split(jax.random.key(2), 1), jnp.full(1, 3)
    images = own.sampler(guide)(params[0], keys, label, params[1])

    @jax.jit
    def by_hand(params):
        networks = [e.denoiser(p, label) for e, p in zip((own, guide), params, strict=True)]
        memories = [e.network.initial_memory(1) for e in (own, guide)]
        x = initial_noise(keys, jax.tree.map(lambda f: f[0], own.levels), own.image_shape)
        for i in range(2):
            level, following = (own.levels.map(lambda f, k=k: f[k : k + 1]) for k in (i, i + 1))
            calls = [n(x, level, m) for n, m in zip(networks, memories, strict=True)]
            (wanted, away), memories = zip(*calls, strict=True)
            x0 = jnp.clip(away.x0 + 2 * (wanted.x0 - away.x0), -1.0, 1.0)
            noisy = level.expand_to(x)
            eps = (x - noisy.alpha * x0) / noisy.sigma
            x = diffuse(following, x0, eps)
        return x0

    np.testing.assert_allclose(images, by_hand(params), rtol=1e-4, atol=1e-5)
