"""The function of docs/how_to/from_diffusers_flax.md, held to runs that diffusers itself has recorded."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pages
import pytest

pytestmark = pytest.mark.docs

DATA = json.loads((pages.ROOT / "tests/interop/diffusers/conformance.json").read_text())
FLAX = {  # the cases whose state is the class's own, deterministic and without a special last step
    "FlaxDDIMScheduler": ("DDIMScheduler", "trailing"),
    "FlaxDPMSolverMultistepScheduler": ("DPMSolverMultistepScheduler", "default"),
    "FlaxEulerDiscreteScheduler": ("EulerDiscreteScheduler", "default"),
    "FlaxLMSDiscreteScheduler": ("LMSDiscreteScheduler", "default"),
}


@pytest.mark.parametrize("name", FLAX)
def test_the_function_draws_what_the_library_drew(name, float64):
    scope: dict = {}
    page = pages.ROOT / "docs/how_to/from_diffusers_flax.md"
    exec([b.code for b in pages.blocks(page) if b.kind == "python"][0], scope)
    run = next(r for r in DATA["runs"] if (r["class"], r["case"]) == FLAX[name])
    z = jnp.asarray(DATA["z"], jnp.float64).reshape(1, -1, 1, 1)
    network = lambda x, t: 0.8 * x + 0.3 * jnp.tanh(2 * x)
    config = {"_class_name": name, **run["config"]}
    drawn = scope["generate"](config, network, z, run["steps"], jax.random.key(0))
    final = np.asarray([float(value) for value in run["final"]])
    np.testing.assert_allclose(np.asarray(drawn).ravel(), final, rtol=2e-4, atol=2e-4)
