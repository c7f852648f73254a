"""EDM2's recipe from end to end: uncertainty, normalized filters, averages of several widths."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import edm_digits, imagenet64_edm2
from noise_sched import experiment, reconstruct, train
from noise_sched.experiment import ConfigError, sampler, workdir
from noise_sched.networks.magnitude import normalize_kernel
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.snapshots import Snapshots


def tiny():
    """Seven small blocks on the digits, all of EDM2's options on."""
    config = edm_digits.get_config("tiny")
    config.data.image_size = 4
    config.network = ConfigDict(
        dict(
            name="EDM2",
            num_classes=10,
            model_channels=8,
            channel_mult=(1,),
            num_blocks=1,
            attention_resolutions=(),
            channels_per_head=8,
            dtype="float32",
        )
    )
    config.loss.update(self_conditioning=0.0, uncertainty=True)
    config.optimizer.update(name="adam", learning_rate=0.01, normalize_weights=True)
    config.ema.update(stds=(0.05, 0.1), snapshot_every=2)
    config.train.update(steps=7, checkpoint_every=3, keep=10)
    config.sample.update(steps=1, solver="euler()")
    return config


def averages(folder, step=None):
    exp = experiment.from_config(workdir.load_config(folder))
    abstract = exp.averages(jax.eval_shape(exp.init_params, jax.random.key(0)))
    with Checkpoints(workdir.checkpoints(folder), read_only=True) as checkpoints:
        return jax.device_get(checkpoints.restore_ema(abstract, step=step)[1])


def assert_same(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "edm2"
    return folder, train.run(tiny(), folder).state


def test_snapshots_are_kept_at_their_cadence_and_at_the_end(trained):
    folder, state = trained
    with Snapshots(workdir.snapshots(folder), read_only=True) as snapshots:
        assert snapshots.steps() == [2, 4, 6, 7]
        assert_same(snapshots.read(7, averages(folder)), jax.device_get(state.ema_params))
    assert_same(averages(folder), jax.device_get(state.ema_params))
    assert sorted(state.ema_params) == ["0.05", "0.1"]


def test_stored_filters_are_as_the_forward_pass_normalizes_them(trained):
    params = jax.device_get(trained[1].params)
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim]
    for kernel in kernels:
        np.testing.assert_allclose(
            kernel, normalize_kernel(jnp.asarray(kernel)), rtol=3e-4, atol=1e-5
        )
    # The head of the log-variance is trained too, and the gain that starts at 0.
    early = averages(trained[0], step=3)["0.05"]
    assert np.abs(params["logvar_linear"]["kernel"] - early["logvar_linear"]["kernel"]).max() > 1e-3
    assert np.abs(params["out_gain"] - early["out_gain"]) > 1e-3


def test_the_average_to_draw_with_is_chosen_or_reconstructed(trained, tmp_path):
    folder, out = trained[0], tmp_path / "reconstructed"
    config = workdir.load_config(folder)
    kept = averages(folder)
    assert experiment.from_config(config).drawn_average(kept) is kept["0.05"]
    config.sample.ema_std = 0.1
    assert experiment.from_config(config).drawn_average(kept) is kept["0.1"]
    assert sampler.run(config, folder, tmp_path / "chosen", 8)

    assert reconstruct.run(folder, out, 0.1) == 7
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), averages(out), kept["0.1"]
    )
    made = json.loads((out / "reconstructed.json").read_text())
    assert made == {"workdir": "edm2", "step": 7, "ema_std": 0.1}
    assert sampler.run(workdir.load_config(out), out, tmp_path / "samples", 8)
    one, other = (
        np.load(tmp_path / name / "samples.npz")["images"].astype(int)
        for name in ("chosen", "samples")
    )
    assert np.abs(one - other).max() <= 1


def test_what_cannot_be_reconstructed_is_refused_and_nothing_written(trained, tmp_path):
    folder, new = trained[0], tmp_path / "new"
    with pytest.raises(ValueError, match="is not empty. Give a new folder"):
        reconstruct.run(folder, folder, 0.07)
    with pytest.raises(ValueError, match="no snapshot of step 5 .* the nearest is 4"):
        reconstruct.run(folder, new, 0.07, step=5)
    with pytest.raises(ValueError, match="above 0 and below 0.2887"):
        reconstruct.run(folder, new, 0.5)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        reconstruct.run(tmp_path / "absent", new, 0.07)
    assert not new.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ema.stds=(0.05, 0.3)", "config.ema.stds: .* below 0.2887 .* got 0.3"),
        ("ema.stds=(0.1, 0.1)", "config.ema.stds: each width once"),
        (
            "ema.halflife_images=5",
            "config.ema.stds=.* and config.ema.halflife_images=5 are two kinds",
        ),
        ("ema.stds=()", "config.ema.snapshot_every=2 .* Set stds="),
        ("sample.ema_std=0.07", "config.sample.ema_std: .* 0.05, 0.1; the nearest is 0.05"),
    ],
)
def test_averages_that_cannot_be_kept_are_refused(change, message):
    key, value = change.split("=", 1)
    config = tiny()
    config.update_from_flattened_dict({key: eval(value)})
    with pytest.raises(ConfigError, match=message):
        experiment.from_config(config)


@pytest.mark.parametrize("key", ["loss.uncertainty", "optimizer.normalize_weights"])
def test_other_networks_refuse_what_is_made_for_edm2(key):
    config = edm_digits.get_config("tiny")
    config.update_from_flattened_dict({key: True})
    with pytest.raises(ConfigError, match=f"config.{key}=True.* RIN .*'EDM2'"):
        experiment.from_config(config)


def test_the_published_config_replaces_infinite_gradients_by_0():
    config = imagenet64_edm2.get_config()
    assert config.optimizer.sanitize and config.optimizer.infinite_gradient == 0.0
