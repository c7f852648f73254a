"""DDPM++, NCSN++ and ADM against the published implementation: output, denoiser, loss, gradients.

goldens/edm_networks.npz: NVlabs/edm 008a4e53 run with torch 2.13.0 (CPU, float32, no dropout), small
networks of 16 pixels with random weights. F is the raw network at x and ln(sigma)/4; D its denoiser at
y + sigma x; loss the mean over each image of EDM's weighted error of D; gradnorm the norm of each
parameter's gradient of that error, summed over pixels and averaged over images.

The weights, in the order of `shapes`, are torch.randn after manual_seed(SEEDS[name]): kernels times
0.9 / sqrt(fan in), norms 1 + 0.1 times, biases 0.1 times; biases of three, the last, are in the file.
`ncsnpp_skip`, with three levels and the skip encoder and decoder, is its layers written for torch by
themselves, which give the recorded numbers of `ddpmpp` and `ncsnpp` too, to 2e-6.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from torch_normal import TorchNormal

from noise_sched.diffusion import specs
from noise_sched.diffusion.loss import Objective
from noise_sched.networks import ADM, DDPMpp, NCSNpp
from noise_sched.networks.published import parameter_path, params_from_state_dict

GOLDENS = dict(np.load(pathlib.Path(__file__).parent / "goldens" / "edm_networks.npz"))
SEEDS = {"ddpmpp": 200, "ncsnpp": 201, "ncsnpp_skip": 202, "adm": 203}
SIZES = dict(
    image_size=16,
    num_classes=4,
    augment_dim=9,
    num_blocks=1,
    attention_resolutions=(8,),
)


def network_of(name):
    if name == "adm":
        return ADM(model_channels=32, channel_mult=(1, 4), **SIZES)
    made = DDPMpp(model_channels=16, channel_mult=(1, 2), **SIZES)
    if name == "ddpmpp":
        return made
    frequencies = GOLDENS["ncsnpp/freqs"].tolist()
    if name == "ncsnpp":
        return NCSNpp(model_channels=16, channel_mult=(1, 2), frequencies=frequencies, **SIZES)
    skips = dict(encoder="skip", decoder="skip", channel_mult=(1, 1, 2))
    return NCSNpp(model_channels=16, frequencies=frequencies, **skips, **SIZES)


def state_dict_of(name):
    draw, state = TorchNormal(SEEDS[name]), {}
    last_biases = iter(GOLDENS[f"{name}/last_bias"].reshape(-1, 3))
    for key, shape in json.loads(str(GOLDENS[f"{name}/shapes"])).items():
        if shape == [3]:
            state[key] = next(last_biases)
        elif len(shape) == 1:
            state[key] = 0.1 * draw(shape) + key.endswith("weight")
        else:
            state[key] = 0.9 / np.sqrt(np.prod(shape[1:])) * draw(shape)
    # Published files hold constants too.
    constants = {"map_noise.freqs": np.zeros(4), "enc.8x8_down.conv0.resample_filter": np.ones(2)}
    return state | constants


def edm_objective():
    return Objective(
        schedule=specs.build("lognormal(-1.2, 1.2)", "schedule"),
        process=specs.build("ve()", "process"),
        parametrization=specs.build("edm(0.5)", "parametrization"),
        input_scale=specs.build("analytic(0.5)", "input_scale"),
        conditioning=specs.build("log_sigma()", "conditioning"),
        loss_space=specs.build("edm(0.5)", "parametrization"),
        weight=specs.build("uniform()", "weight"),
    )


@pytest.fixture(scope="module", params=SEEDS)
def case(request):
    """The golden values, the parameters, and all that one program computes with them."""
    name = request.param
    golden = {k.removeprefix(f"{name}/"): v for k, v in GOLDENS.items() if k.startswith(f"{name}/")}
    network, params = network_of(name), params_from_state_dict(state_dict_of(name))
    objective = edm_objective()
    x, y, sigma = (jnp.asarray(golden[k]) for k in ("x", "y", "sigma"))
    label, augment_label = (jnp.asarray(golden[k]) for k in ("label", "augment_label"))
    level = objective.process.level(-2 * jnp.log(sigma))
    noisy = y + sigma[:, None, None, None] * x

    def errors(params):
        def both(scaled, noise_cond, memory):
            """The raw network rides along: images do not mix."""
            twice = [jnp.concatenate([a, a]) for a in (noise_cond, label, augment_label)]
            out, _ = network.apply(
                {"params": params},
                jnp.concatenate([scaled, x]),
                *twice[:2],
                memory,
                augment_label=twice[2],
            )
            return out[:3], out[3:]

        with jax.default_matmul_precision("float32"):
            out, raw = objective.preconditioner.output(both, noisy, level, ())
        denoised = objective.preconditioner.parametrization.to_prediction(level, noisy, out).x0
        error = objective.errors(level, noisy, out, y, x)
        return jnp.sum(error) * y[0].size / 3, (raw, denoised, error)

    # Compiling takes nearly all of the time here.
    options = {"xla_backend_optimization_level": 0}
    run = jax.jit(jax.value_and_grad(errors, has_aux=True), compiler_options=options)
    (_, outputs), grads = run(params)
    return network, golden, params, outputs, grads


def assert_close(got, expected, fraction=2e-5):
    """Equal to a fraction of the largest value of the array."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=fraction * np.abs(expected).max())


def test_parameters_have_the_published_shapes(case):
    network, _, params, _, _ = case
    own = jax.eval_shape(
        lambda: network.init(
            jax.random.key(0), jnp.zeros((1, 16, 16, 3)), jnp.zeros(1), jnp.zeros(1, jnp.int32), ()
        )
    )["params"]
    assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, params)


def test_network_denoiser_and_loss_match(case):
    _, golden, _, (raw, denoised, error), _ = case
    assert_close(raw, golden["F"])
    assert_close(denoised, golden["D"])
    np.testing.assert_allclose(error, golden["loss"], rtol=1e-4)


def test_norms_of_all_gradients_match(case):
    _, golden, _, _, grads = case
    norms = jax.tree.map(lambda g: float(np.linalg.norm(np.asarray(g).ravel())), grads)
    shapes = json.loads(str(golden["shapes"]))
    assert len(shapes) == len(jax.tree.leaves(norms))
    for (key, shape), expected in zip(shapes.items(), golden["gradnorm"], strict=True):
        got = norms
        for part in parameter_path(key, len(shape)):
            got = got[part]
        assert got == pytest.approx(expected, rel=1e-4), key
