"""What every network promises to those who call it, from shapes alone. A new one is one row."""

import jax
import jax.numpy as jnp
import pytest

from noise_sched import networks

# Small fields of each; all are made for 8 x 8 pixels of 3 channels.
UNET = dict(model_channels=8, channel_mult=(1,), num_blocks=1, attention_resolutions=())
HEADS = dict(channels_per_head=8)
RIN = dict(patch_size=4, num_layers=(1,), latent_slots=12, latent_dim=16, latent_heads=2)
NETWORKS = {
    "ADM": UNET | HEADS,
    "DDPMpp": UNET,
    "EDM2": UNET | HEADS,
    "NCSNpp": UNET,
    "RIN": RIN | dict(tape_dim=16, tape_mlp_ratio=2, rw_heads=2),
    "UNetSmall": UNET | HEADS,
}


def test_every_network_has_a_row():
    assert set(NETWORKS) == set(networks.__all__)


@pytest.mark.parametrize("num_classes", [0, 10])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_call_that_all_take(name, num_classes):
    """Images, level, class and memory in; as large an image, and the memory for the next call, out."""
    made = getattr(networks, name)
    network = made(image_size=8, channels=3, num_classes=num_classes, **NETWORKS[name])
    memory = network.initial_memory(2)
    label = jnp.array([3, -1]) if num_classes else None
    inputs = (jnp.zeros((2, 8, 8, 3)), jnp.zeros(2), label, memory)
    variables = jax.eval_shape(network.init, jax.random.key(0), *inputs)
    for train in (False, True):
        call = lambda variables, *inputs, train=train: network.apply(
            variables, *inputs, train=train, rngs={"dropout": jax.random.key(0)}
        )
        out, after = jax.eval_shape(call, variables, *inputs)
        assert out.shape == (2, 8, 8, 3) and out.dtype == jnp.float32
        assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, memory)
