"""EDM's configs: Tables 1, 2, 5 and 6 of Karras et al. 2022 (arXiv 2206.00364), row by row."""

import importlib
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from configs import afhqv2_64_edm, cifar10_edm, digits_unet, edm_rows, ffhq64_edm, imagenet64_edm
from noise_sched import experiment
from noise_sched.diffusion import parametrization
from noise_sched.experiment import optimization

# Published, or counted with the published code.
COUNTS = {
    ("cifar10_edm", "F,vp,uncond"): 55_733_891,
    ("cifar10_edm", "F,vp,cond"): 55_735_299,
    ("cifar10_edm", "F,ve,uncond"): 56_397_827,
    ("cifar10_edm", "F,ve,cond"): 56_400_643,
    ("cifar10_edm", "C,vp,uncond"): 55_732_739,
    ("cifar10_edm", "E,ve,uncond"): 56_395_523,
    ("cifar10_edm", "A,vp,uncond"): 61_804_419,
    ("cifar10_edm", "B,ve,uncond"): 62_758_787,
    ("ffhq64_edm", "F,vp"): 61_805_571,
    ("afhqv2_64_edm", "F,ve"): 62_761_091,
    ("imagenet64_edm", ""): 295_899_267,
}


@pytest.mark.parametrize(("name", "variant"), COUNTS)
def test_published_parameter_counts(name, variant):
    config = importlib.import_module(f"configs.{name}").get_config(variant)
    assert experiment.parameter_count(config) == COUNTS[name, variant]


@pytest.mark.parametrize(
    ("row", "kind"), list(itertools.product(edm_rows.ROWS, edm_rows.KINDS)), ids="".join
)
def test_every_row_can_be_built(row, kind):
    """Network and choices fit, for each data set, with and without classes; nothing is trained."""
    configs = [cifar10_edm.get_config(f"{row},{kind},{c}") for c in edm_rows.CLASSES]
    configs += [m.get_config(f"{kind},{row}") for m in (ffhq64_edm, afhqv2_64_edm)]
    for config in configs:
        exp = experiment.from_config(config.lock())
        assert type(exp.network).__name__ == ("DDPMpp" if kind == "vp" else "NCSNpp")
        assert exp.network.augment_dim == (9 if row == "F" else 0)
        steps = (80 ** (1 / 7) + np.linspace(0, 1, config.sample.steps) * (_least(row, kind))) ** 7
        np.testing.assert_allclose(exp.levels.ratio, [*steps, 0], rtol=2e-5)


def _least(row, kind):
    """The smallest sigma's root less the largest's: 0.02 for the networks of column VE, else 0.002."""
    smallest = 0.02 if kind == "ve" and row in "ABCD" else 0.002
    return smallest ** (1 / 7) - 80 ** (1 / 7)


# Table 6: batch, learning rate, ramp in images, half-life in images, dropout, channels per resolution.
TABLE = {
    (cifar10_edm, "A"): (128, 2e-4, 0.64e6, 0.89e6, 0.10, (1, 2, 2, 2)),
    (cifar10_edm, "B"): (512, 1e-3, 10e6, 0.5e6, 0.13, (1, 2, 2, 2)),
    (cifar10_edm, "C"): (512, 1e-3, 10e6, 0.5e6, 0.13, (2, 2, 2)),
    (cifar10_edm, "F"): (512, 1e-3, 10e6, 0.5e6, 0.13, (2, 2, 2)),
    (ffhq64_edm, "A"): (128, 2e-4, 0.64e6, 0.89e6, 0.10, (1, 1, 2, 2, 2)),
    (ffhq64_edm, "B"): (256, 2e-4, 10e6, 0.5e6, 0.05, (1, 1, 2, 2, 2)),
    (ffhq64_edm, "F"): (256, 2e-4, 10e6, 0.5e6, 0.05, (1, 2, 2, 2)),
    (afhqv2_64_edm, "A"): (128, 2e-4, 0.64e6, 0.89e6, 0.10, (1, 1, 2, 2, 2)),
    (afhqv2_64_edm, "D"): (256, 2e-4, 10e6, 0.5e6, 0.25, (1, 2, 2, 2)),
    (imagenet64_edm, ""): (4096, 1e-4, 10e6, 50e6, 0.10, (1, 2, 3, 4)),
}


@pytest.mark.parametrize(("module", "row"), TABLE, ids=lambda x: getattr(x, "__name__", x))
def test_table_6(module, row):
    config = module.get_config(row)
    batch, rate, ramp, halflife, dropout, mult = TABLE[module, row]
    assert config.train.batch_size == batch
    assert config.network.dropout == dropout and config.network.channel_mult == mult
    exp = experiment.from_config(config)
    images = np.array([0, 0.4 * ramp, ramp, 3 * ramp])
    found = optimization.schedule(config, exp.hyper)(np.ceil(images / batch))
    np.testing.assert_allclose(found, rate * np.minimum(images / ramp, 1), rtol=3e-3)
    assert found[0] == 0, "the first step has rate 0, as published"
    late = optimization.new_weight(config)(exp.hyper, np.int32(config.train.steps))
    np.testing.assert_allclose(late, 1 - 0.5 ** (batch / halflife), rtol=1e-3)
    images = 2.5e9 if module is imagenet64_edm else 200e6
    assert 0 <= config.train.steps * batch - images < batch
    assert config.optimizer.clip_norm == (1.0 if row == "A" else 0.0)
    assert config.loss.reduction == "sum" and config.optimizer.sanitize


def test_rows_differ_by_what_they_add():
    """From C on, one thing at a time."""
    keys = {
        "preconditioning": ("parametrization", "input_scale", "conditioning", "loss.space"),
        "loss": ("schedule", "loss.weight", "sample.schedule"),
        "augmentation": ("augment.probability", "data.flip", "network.augment_dim"),
    }
    rows = {row: _flat(cifar10_edm.get_config(f"{row},ve")) for row in edm_rows.ROWS}
    for before, after, what in zip("CDE", "DEF", keys, strict=False):
        differing = {key for key in rows["A"] if rows[before][key] != rows[after][key]}
        assert differing == set(keys[what])
    assert rows["F"]["augment.probability"] == 0.12 and not rows["F"]["data.flip"]
    assert ffhq64_edm.get_config().augment.probability == 0.15


def test_other_data_sets_are_cifar10_with_other_numbers():
    """What runs at `:tiny` for one runs for all."""
    cifar10 = _flat(cifar10_edm.get_config("tiny"))
    for module in (ffhq64_edm, afhqv2_64_edm):
        for key, value in _flat(module.get_config("tiny")).items():
            known = ("optimizer.learning_rate", "network.dropout", "augment.probability")
            counts = ("train.steps", "train.checkpoint_every")
            assert value == cifar10[key] or key in known + counts, key


def _flat(config):
    return {
        f"{name}.{key}" if hasattr(value, "items") else name: inner
        for name, value in config.items()
        for key, inner in (value.items() if hasattr(value, "items") else [("", value)])
    }


@pytest.mark.parametrize("kind", edm_rows.KINDS)
@pytest.mark.parametrize("row", ["A", "D", "E"])
def test_the_loss_weighs_denoising_as_table_1_says(row, kind):
    """lambda(sigma) |D - y|^2 over the loss's own space: 1 / sigma^2, from row E on 1 / c_out^2."""
    objective = experiment.from_config(cifar10_edm.get_config(f"{row},{kind}")).objective
    level, rate = objective.level_at(jnp.array([0.1, 0.5, 0.9]))
    sigma = np.asarray(level.sigma)
    k = np.asarray(objective.loss_space.error_scale(level))
    k_x0 = np.asarray(parametrization.x0().error_scale(level))
    weight = np.asarray(objective.weight(level, objective.loss_space, rate)) * (k / k_x0) ** 2
    expected = 1 / sigma**2 if row < "E" else (sigma**2 + 0.25) / (sigma * 0.5) ** 2
    np.testing.assert_allclose(weight, expected, rtol=1e-4)
    if row < "E":
        ends = (0.02, 100.0) if kind == "ve" else (0.0010005, 152.167)
        found, _ = objective.level_at(jnp.array([6e-8, 1.0]))
        np.testing.assert_allclose(found.sigma, ends, rtol=5e-3)


def test_imagenet_is_sampled_by_churn():
    config = imagenet64_edm.get_config()
    assert config.sample.steps == 256
    assert config.sample.solver == "heun(churn=40.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)"
    assert config.network.dtype == "bfloat16" and not config.data.flip


def test_digits_have_one_standard_deviation():
    objective = experiment.from_config(digits_unet.get_config()).objective
    assert objective.loss_space.sigma_data == objective.input_scale.sigma_data == 0.75


@pytest.mark.parametrize(
    ("module", "variant", "message"),
    [
        (
            cifar10_edm,
            "G",
            "unknown variant 'G'.*A or B or C or D or E or F, ve or vp, cond or uncond",
        ),
        (cifar10_edm, "F,vp,tinny", "unknown variant 'tinny'.*tiny"),
        (cifar10_edm, "A,F", "'A' and 'F' exclude each other"),
        (cifar10_edm, "vp,F,ve", "'vp' and 've' exclude each other"),
        (ffhq64_edm, "cond", "unknown variant 'cond'.*tiny"),
        (imagenet64_edm, "F", "unknown variant 'F'"),
    ],
)
def test_unknown_variants_are_refused(module, variant, message):
    with pytest.raises(ValueError, match=message):
        module.get_config(variant)


def test_the_default_is_row_f_and_the_order_is_free():
    default = cifar10_edm.get_config().to_dict()
    assert default == cifar10_edm.get_config("uncond,vp,F").to_dict()
    assert default != cifar10_edm.get_config("E").to_dict()
    tiny = cifar10_edm.get_config("tiny,cond,ve")
    assert tiny.network.num_classes == 10 and tiny.network.name == "NCSNpp"
    assert cifar10_edm.get_config("tiny").network.num_classes == 0
