"""Converted networks against the published implementation, and EDM2's conversion.

The golden values are those of tests/networks; here they come out of a snapshot. Without torch its modules
are made as `snapshot.read` gives them; with torch they go through a file.
"""

import jax
import jax.numpy as jnp
import make_snapshot
import numpy as np
import pytest
from test_edm_networks_golden import GOLDENS, network_of, state_dict_of

from noise_sched import convert as command
from noise_sched import experiment
from noise_sched.experiment import sampler, workdir
from noise_sched.interop.nvlabs import settings, snapshot
from noise_sched.interop.nvlabs.snapshot import Container, Persistent
from noise_sched.interop.pickles.torch_tensors import Storage, Tensor
from noise_sched.networks.published import params_from_state_dict

SONG = dict(
    encoder_type="standard", decoder_type="standard", channel_mult_noise=1, resample_filter=[1, 1]
)
NCSN = dict(encoder_type="residual", channel_mult_noise=2, resample_filter=[1, 3, 3, 1]) | dict(
    decoder_type="standard", embedding_type="fourier"
)
SIZES = dict(num_blocks=1, attn_resolutions=[8], dropout=0.1, augment_dim=9)
NETWORKS = {
    "ddpmpp": ("SongUNet", SONG | dict(embedding_type="positional", model_channels=16)),
    "ncsnpp": ("SongUNet", NCSN | dict(model_channels=16)),
    "ncsnpp_skip": (
        "SongUNet",
        NCSN | dict(model_channels=16, encoder_type="skip", decoder_type="skip"),
    ),
    "adm": ("DhariwalUNet", dict(model_channels=32)),
}
NAMES = {"ddpmpp": "DDPMpp", "ncsnpp": "NCSNpp", "ncsnpp_skip": "NCSNpp", "adm": "ADM"}
MULTS = {"ddpmpp": [1, 2], "ncsnpp": [1, 2], "ncsnpp_skip": [1, 1, 2], "adm": [1, 4]}


def golden_tree(name):
    network, kwargs = NETWORKS[name]
    state = {k: np.float32(v) for k, v in state_dict_of(name).items()}
    if name.startswith("ncsnpp"):
        state["map_noise.freqs"] = GOLDENS["ncsnpp/freqs"]
    else:
        del state["map_noise.freqs"]
    return make_snapshot.precond(
        "EDMPrecond",
        network,
        {f"model.{key}": value for key, value in state.items()},
        image_size=16,
        channels=3,
        classes=4,
        attributes=dict(sigma_min=0, sigma_max=float("inf"), sigma_data=0.5),
        kwargs=kwargs | SIZES | dict(channel_mult=MULTS[name]),
    )


def as_read(tree):
    """A tree as `snapshot.read` gives it."""

    def tensor(value):
        value = np.array(value, order="C")
        storage = Storage(value.dtype, value.size, value.tobytes())
        strides = tuple(step // value.itemsize for step in value.strides)
        return Tensor(storage, 0, value.shape, strides)

    groups = {"_parameters": {}, "_buffers": {}}
    for name, value in tree.arrays.items():
        group = "_buffers" if name in make_snapshot.BUFFERS else "_parameters"
        groups[group][name] = tensor(value)
    groups["_modules"] = {name: as_read(child) for name, child in tree.children.items()}
    if tree.class_name is None:
        made = Container()
        made.state = groups
        return made
    state = groups | tree.attributes | {"_init_args": (), "_init_kwargs": tree.kwargs}
    return Persistent(tree.class_name, state)


def through_a_file(made, folder):
    make_snapshot.dump(made, folder / "file.pkl")
    return snapshot.read(folder / "file.pkl")


def assert_same(tree, expected):
    jax.tree.map(np.testing.assert_array_equal, tree, expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_network_and_parameters_are_those_of_the_golden_test(name):
    converted = settings.convert({"ema": as_read(golden_tree(name))})
    assert converted.experiment.config.network.name == NAMES[name]
    assert converted.experiment.network == network_of(name)
    assert_same(converted.params, params_from_state_dict(state_dict_of(name)))


# One of them pays for its compilation each time: by the test above the others follow.
@pytest.mark.parametrize(
    "name",
    [
        "ncsnpp",
        *(pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS if name != "ncsnpp"),
    ],
)
def test_output_and_denoiser_match(name):
    converted = settings.convert({"ema": as_read(golden_tree(name))})
    exp, golden = (
        converted.experiment,
        {
            key.removeprefix(f"{name}/"): jnp.asarray(value)
            for key, value in GOLDENS.items()
            if key.startswith(f"{name}/") and value.dtype.kind in "fi"
        },
    )
    sigma, x, y = golden["sigma"], golden["x"], golden["y"]
    level = exp.objective.process.level(-2 * jnp.log(sigma))
    noisy = y + sigma[:, None, None, None] * x
    preconditioner = exp.objective.preconditioner

    @jax.jit
    def outputs(params):
        # Both in one call of the network: images do not mix.
        def network(scaled, noise_cond, memory):
            twice = [
                jnp.concatenate([a, b])
                for a, b in ((scaled, x), (noise_cond, jnp.log(sigma) / 4))
                + ((golden["label"],) * 2, (golden["augment_label"],) * 2)
            ]
            out, memory = exp.network.apply(
                {"params": params}, *twice[:3], memory, augment_label=twice[3]
            )
            return out[:3], (memory, out[3:])

        with jax.default_matmul_precision("float32"):
            out, (_, raw) = preconditioner.output(network, noisy, level, ())
        return raw, preconditioner.parametrization.to_prediction(level, noisy, out).x0

    for got, expected in zip(outputs(converted.params), (golden["F"], golden["D"]), strict=True):
        np.testing.assert_allclose(
            got, expected, rtol=0, atol=1e-4 * float(jnp.abs(expected).max())
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_gives_the_same_network(tmp_path, name):
    pytest.importorskip("torch")
    tree = golden_tree(name)
    direct = settings.convert({"ema": as_read(tree)})
    read = settings.convert(through_a_file(make_snapshot.edm_snapshot(tree), tmp_path))
    assert read.experiment.config.network == direct.experiment.config.network
    assert_same(read.params, direct.params)


@pytest.fixture(scope="module")
def edm2():
    return settings.convert({"ema": as_read(make_snapshot.edm2())})


def test_edm2(edm2):
    arrays = make_snapshot.edm2_arrays(np.random.default_rng(0))
    config = edm2.experiment.config
    assert config.network.name == "EDM2" and config.sample.steps == 32
    assert config.loss.uncertainty and config.network.channels_per_head == 4
    for field, name in {
        "frequencies": "unet.emb_fourier.freqs",
        "phases": "unet.emb_fourier.phases",
        "logvar_frequencies": "logvar_fourier.freqs",
        "logvar_phases": "logvar_fourier.phases",
    }.items():
        np.testing.assert_array_equal(config.network[field], arrays[name].astype(float))
    assert_same(edm2.params, params_from_state_dict(arrays))


def test_uncertainty_of_edm2_is_the_published_one(edm2):
    """u(sigma) = w / |w| . sqrt(2) cos(f c + phi) at c = ln(sigma) / 4."""
    arrays = make_snapshot.edm2_arrays(np.random.default_rng(0))
    arrays = {k: v.astype("f8") for k, v in arrays.items() if k.startswith("logvar")}
    c = np.linspace(-1.5, 1.1, 5)
    angle = c[:, None] * arrays["logvar_fourier.freqs"] + arrays["logvar_fourier.phases"]
    weight = arrays["logvar_linear.weight"][0]
    expected = np.sqrt(2) * np.cos(angle) @ weight / np.linalg.norm(weight)
    found = edm2.experiment.network.apply(
        {"params": edm2.params}, jnp.asarray(c, jnp.float32), method="log_variance"
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_edm2s_file_becomes_a_workdir_that_draws(tmp_path, edm2):
    pytest.importorskip("torch")
    made = make_snapshot.edm2_snapshot(make_snapshot.edm2())
    make_snapshot.dump(made, tmp_path / "file.pkl")
    converted = command.run(tmp_path / "file.pkl", tmp_path / "workdir", steps=2)
    assert_same(converted.params, edm2.params)
    config = workdir.load_config(tmp_path / "workdir")
    assert config.schedule == "lognormal(p_mean=-0.4, p_std=1.0)"
    experiment.from_config(config)
    assert sampler.run(config, tmp_path / "workdir", tmp_path / "out", num_images=2)
