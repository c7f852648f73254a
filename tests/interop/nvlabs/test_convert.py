"""A snapshot becomes a workdir: its config, its parameters, its images."""

import functools
import pathlib
import re
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched import convert as command
from noise_sched import experiment
from noise_sched.experiment import ConfigError, sampler, workdir
from noise_sched.interop.nvlabs import settings, snapshot
from noise_sched.interop.nvlabs.snapshot import Persistent
from noise_sched.interop.pickles.torch_tensors import Storage, Tensor
from noise_sched.interop.pickles.unpickler import ForeignFileError
from noise_sched.training.checkpoints import Checkpoints

ROOT = pathlib.Path(__file__).resolve().parents[3]
TINY = pathlib.Path(__file__).with_name("tiny.pkl")
ARRAYS = np.load(TINY.with_suffix(".npz"))
SAMPLERS = np.load(ROOT / "tests" / "diffusion" / "goldens" / "edm_samplers.npz")
NO_LIMIT = dict(sigma_min=0, sigma_max=float("inf"))
# By class: what its constructor stores, and Table 1's (c_skip, c_out, c_in, c_noise) of sigma.
COLUMNS = {
    "EDMPrecond": (
        NO_LIMIT | dict(sigma_data=0.4),
        lambda s: (
            0.16 / (s**2 + 0.16),
            0.4 * s / np.sqrt(s**2 + 0.16),
            1 / np.sqrt(s**2 + 0.16),
            np.log(s) / 4,
        ),
    ),
    "VPPrecond": (
        dict(sigma_min=0.001, sigma_max=152.2, beta_d=19.9, beta_min=0.1, M=1000, epsilon_t=1e-5),
        lambda s: (
            np.ones_like(s),
            -s,
            1 / np.sqrt(s**2 + 1),
            999 * (np.sqrt(0.01 + 39.8 * np.log1p(s**2)) - 0.1) / 19.9,
        ),
    ),
    "VEPrecond": (
        dict(sigma_min=0.02, sigma_max=100),
        lambda s: (np.ones_like(s), s, np.ones_like(s), np.log(s / 2)),
    ),
    "iDDPMPrecond": (
        dict(sigma_min=0.0064223371, sigma_max=20291.0, C_1=0.001, C_2=0.008, M=1000),
        # sigma = 1 lies at the table's 500th level or so: exactly where is checked elsewhere.
        lambda s: (np.ones_like(s), -s, 1 / np.sqrt(s**2 + 1), None),
    ),
}


def as_read(name="EDMPrecond", attributes=None, arrays=ARRAYS, **changes):
    """What `snapshot.read` returns of a TINY with another preconditioner, without torch."""
    loaded = snapshot.read(TINY)
    loaded["ema"].class_name = name
    loaded["ema"].state.update(attributes or {})
    network = snapshot.child(loaded["ema"], "model")
    network.state["_init_kwargs"].update(changes)
    return loaded


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A workdir made by the command, in a process of its own where torch cannot be imported."""
    folder = tmp_path_factory.mktemp("converted") / "workdir"
    program = (
        "import runpy, sys\n"
        "sys.modules['torch'] = None\n"
        "runpy.run_module('noise_sched.convert', run_name='__main__', alter_sys=True)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, f"--edm={TINY}", f"--workdir={folder}", "--steps=3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert "EDMPrecond of DDPMpp, 8x8x3, 4 classes" in result.stdout
    return folder


@functools.cache
def converted_column(name):
    return settings.convert(as_read(name, COLUMNS[name][0])).experiment


def test_parameters_are_the_snapshots(converted):
    exp = experiment.from_config(workdir.load_config(converted))
    abstract = jax.eval_shape(exp.init_params, jax.random.key(0))
    with Checkpoints(workdir.checkpoints(converted), read_only=True) as checkpoints:
        step, params = checkpoints.restore_ema(abstract)
    assert step == 0
    count = 0
    for name, expected in ARRAYS.items():
        *path, leaf = re.sub(r"^model\.((enc|dec)\.)?", r"\2.", name).strip(".").split(".")
        path = ["_".join(path[:2]), *path[2:]] if path[0] in ("enc", "dec") else path
        node = params
        for part in path:
            node = node[part]
        kernel = {1: lambda a: a, 2: np.transpose, 4: lambda a: a.transpose(2, 3, 1, 0)}
        ours = {"bias": "bias", "weight": "scale" if expected.ndim == 1 else "kernel"}[leaf]
        assert node[ours].dtype == jnp.float32
        np.testing.assert_array_equal(node[ours], kernel[expected.ndim](expected))
        count += expected.size
    assert count == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_config_is_that_of_the_snapshot(converted):
    config = workdir.load_config(converted)
    assert config.network.name == "DDPMpp"
    assert config.network.num_classes == 4 and config.network.augment_dim == 9
    assert config.network.dropout == 0.13 and config.network.channel_mult == (1,)
    assert config.schedule == "lognormal(p_mean=-1.1, p_std=1.3)"
    assert config.sample.schedule == "karras(sigma_min=0.002, sigma_max=80.0, rho=7.0)"
    assert config.sample.solver == "heun()" and config.sample.steps == 3
    assert config.data.image_size == 8 and config.data.channels == 3


def test_the_workdir_draws_images(converted, tmp_path):
    config = workdir.load_config(converted)
    assert sampler.run(config, converted, tmp_path / "out", num_images=4)
    drawn = np.load(tmp_path / "out" / "samples.npz")
    assert drawn["images"].shape == (4, 8, 8, 3) and drawn["images"].std() > 10
    assert not sampler.run(config, converted, tmp_path / "out", num_images=4)


@pytest.mark.parametrize("name", COLUMNS)
def test_preconditioners_are_those_of_table_1(name):
    column, objective = COLUMNS[name][1], converted_column(name).objective
    sigma = np.asarray([0.05, 1.0, 30.0])
    c_skip, c_out, c_in, c_noise = column(sigma)
    made = objective.preconditioner
    level = objective.process.level(-2 * jnp.log(jnp.asarray(sigma, jnp.float32)))
    zeros, ones = jnp.zeros((3, 1)), jnp.ones((3, 1))
    close = lambda ours, expected: np.testing.assert_allclose(  # noqa: E731
        np.ravel(ours), expected, rtol=2e-5, atol=1e-6
    )
    close(made.parametrization.to_prediction(level, ones, zeros).x0, c_skip)
    close(made.parametrization.to_prediction(level, zeros, ones).x0, c_out)
    close(made.input_scale(level, ones), c_in)
    if c_noise is not None:
        close(made.conditioning(level), c_noise)
    else:
        told = np.asarray(made.conditioning(level))
        assert (np.diff(told) > 0).all() and (told == told.round()).all()


@pytest.mark.parametrize(
    ("name", "highest", "lowest"),
    [
        ("EDMPrecond", 80, 0.002),
        ("VPPrecond", 80, 0.002),
        ("VEPrecond", 80, 0.02),
        ("iDDPMPrecond", 80.2, 0.00642),
    ],
)
def test_sampling_is_that_of_generate(name, highest, lowest):
    sigma = np.asarray(converted_column(name).levels.sigma)
    assert sigma.shape == (19,) and sigma[-1] == 0
    np.testing.assert_allclose(sigma[[0, -2]], [highest, lowest], rtol=2e-3)
    if name == "iDDPMPrecond":
        np.testing.assert_allclose(sigma, SAMPLERS["a_iddpmnet_edm_N18_t"], rtol=5e-4)
    else:
        i = np.arange(18)
        high, low = highest ** (1 / 7), lowest ** (1 / 7)
        expected = (high + i / 17 * (low - high)) ** 7
        np.testing.assert_allclose(sigma[:-1], expected, rtol=1e-5)


def test_variances_of_iddpm_are_left_out():
    loaded = as_read("iDDPMPrecond", COLUMNS["iDDPMPrecond"][0], out_channels=6)
    last = snapshot.child(loaded["ema"], "model").state["_modules"]["dec"].state["_modules"]
    parameters = last["8x8_aux_conv"].state["_parameters"]
    for name, tensor in parameters.items():
        mean = tensor.array()
        raw = np.concatenate([mean, mean + 1]).tobytes()
        storage = Storage(mean.dtype, 2 * mean.size, raw)
        parameters[name] = Tensor(storage, 0, (6, *tensor.shape[1:]), tensor.strides)
    params = settings.convert(loaded).params["dec_8x8_aux_conv"]
    expected = ARRAYS["model.dec.8x8_aux_conv.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(params["kernel"], expected)
    np.testing.assert_array_equal(params["bias"], ARRAYS["model.dec.8x8_aux_conv.bias"])


def test_label_dropout_allows_guidance():
    config = settings.convert(as_read(label_dropout=0.1)).experiment.config
    config.sample.guidance = "cfg(1.5)"
    assert experiment.from_config(config).config.label_dropout == 0.1
    config.label_dropout = 0.0
    with pytest.raises(ConfigError, match="trained without labels"):
        experiment.from_config(config)


def test_attention_that_no_level_has_is_left_out_and_told():
    """NVIDIA's networks look only whether a level's size is named: EDM's default names 16 always."""
    made = settings.convert(as_read(attn_resolutions=[16, 32]))
    assert made.experiment.config.network.attention_resolutions == ()
    assert made.note.startswith("no level has the attention resolutions 16, 32: left out")
    plain = settings.convert(as_read())
    assert plain.note == "" and plain.experiment.network == made.experiment.network


def test_the_command_prints_the_note_in_one_line(monkeypatch, capsys):
    made = types.SimpleNamespace(title="a title", note="left out.")
    told = types.SimpleNamespace(FLAGS=types.SimpleNamespace(steps=None, latents=False))
    monkeypatch.setattr(command, "flags", told)
    monkeypatch.setattr(command, "run", lambda *_: made)
    monkeypatch.setattr(command.command_line, "required", lambda name, _: name)
    monkeypatch.setattr(command.command_line, "folder", lambda name, _: pathlib.Path(name))
    command.main()
    assert capsys.readouterr().out.startswith("note: left out.\na title, converted.")


MISTAKES = {
    "another preconditioner": (
        dict(name="TenPrecond"),
        "has a 'TenPrecond' under 'ema'; known are",
    ),
    "another choice": (dict(decoder_type="ladder"), "a SongUNet with decoder_type='ladder'"),
    "a list of choices": (dict(encoder_type=["skip"]), r"a SongUNet with encoder_type=\('skip',\)"),
    "an unknown argument": (dict(heads=3), "a SongUNet with heads=3"),
    "neither of the two": (dict(channel_mult_noise=2), "neither DDPM.. nor NCSN"),
    "another size": (dict(model_channels=16), "other arrays than DDPMpp .* differ, such as"),
    "more blocks than arrays": (dict(num_blocks=10**9), "more blocks than arrays"),
    "blocks in text": (dict(num_blocks="many"), "num_blocks='many'"),
    "a huge size": (dict(model_channels=10**30), "make no network|model_channels"),
    "no size": (dict(model_channels=0), "make no network|model_channels"),
    "a fraction of a channel": (dict(model_channels=8.5), "model_channels=8.5"),
    "text that writes to the terminal": (dict(decoder_type="\x1b[2J"), r"=.\\x1b\[2J"),
    "fractions of an image": (dict(attributes=dict(img_channels=2.5)), "img_channels is 2.5"),
    "a Fourier network without frequencies": (
        dict(embedding_type="fourier", channel_mult_noise=2),
        "no model.map_noise.freqs",
    ),
    "nested settings": (dict(channel_mult=[[1]]), "a setting that is a list"),
    "no number": (dict(attributes=dict(sigma_data="a")), "whose sigma_data is 'a'"),
    "a huge table": (
        dict(name="iDDPMPrecond", attributes=COLUMNS["iDDPMPrecond"][0] | dict(M=10**12)),
        "whose M is 1000000000000",
    ),
    "no range": (dict(attributes=dict(sigma_min=90.0)), "no range"),
}


@pytest.mark.parametrize(("changes", "message"), MISTAKES.values(), ids=MISTAKES)
def test_what_has_no_counterpart_is_refused(changes, message):
    with pytest.raises((ForeignFileError, ConfigError), match=message):
        settings.convert(as_read(**changes))


def test_latents_are_refused_unless_asked_for():
    loaded = as_read()
    loaded["encoder"] = Persistent("StandardRGBEncoder", {})
    settings.convert(loaded)
    loaded["encoder"] = Persistent("StabilityVAEEncoder", {})
    with pytest.raises(ForeignFileError, match="latents for 'StabilityVAEEncoder'"):
        settings.convert(loaded)
    settings.convert(loaded, latents=True)


def contents(folder):
    return {str(p.relative_to(folder)): p.stat().st_mtime_ns for p in folder.rglob("*")}


def test_a_used_folder_is_left_as_it_is(converted, tmp_path):
    before = contents(converted)
    with pytest.raises(ValueError, match="^--workdir=.* is not empty.*overwritten.$"):
        command.run(TINY, converted)
    assert contents(converted) == before
    (tmp_path / "file").write_text("a")
    with pytest.raises(ValueError, match="is a file"):
        command.run(TINY, tmp_path / "file")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(Checkpoints, "save", full)
    with pytest.raises(OSError, match="no space left"):
        command.run(TINY, tmp_path / "workdir")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mistake", ["truncated", "foreign", "missing", "folder"])
def test_nothing_is_written_for_a_file_that_is_refused(tmp_path, mistake):
    source, folder = tmp_path / "file.pkl", tmp_path / "workdir"
    if mistake == "truncated":
        source.write_bytes(TINY.read_bytes()[:-1000])
    elif mistake == "foreign":
        source.write_bytes(b"\x80\x04ctorchvision.models.resnet\nResNet\n)\x81.")
    elif mistake == "folder":
        source.mkdir()
    with pytest.raises((ValueError, OSError), match=re.escape(str(source))):
        command.run(source, folder)
    assert not folder.exists()
