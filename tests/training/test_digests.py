"""Digests: one number whatever the layout, another for any damage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.training import digests


@pytest.mark.parametrize(
    "array",
    [
        np.random.default_rng(0).standard_normal((3, 40, 701)).astype(np.float32),  # several chunks
        np.arange(30, dtype=np.int32).reshape(5, 6).T,  # not in C order
        np.asarray(jnp.linspace(0, 1, 21, dtype=jnp.bfloat16).reshape(3, 7)),
        np.asarray([True, False, True]),
        np.asarray(5, np.int32),
        np.zeros((0, 3), np.float32),
    ],
    ids=lambda array: f"{array.dtype}{list(array.shape)}",
)
def test_the_host_and_the_devices_find_the_same(array):
    assert digests.of_array(array) == int(digests._on_devices(jnp.asarray(array)))


def test_numbers_of_64_bits():
    with jax.enable_x64(True):
        array = np.random.default_rng(0).standard_normal((4, 5))
        assert digests.of_array(array) == int(digests._on_devices(jnp.asarray(array)))


@pytest.mark.parametrize("size", [3, 100_000])
def test_arrays_may_be_donated_while_their_digests_are_made(size):
    array = jnp.arange(1, size + 1, dtype=jnp.float32)
    finish = digests.begin({"a": array})
    jax.jit(lambda x: x * 0.0, donate_argnums=0)(array).block_until_ready()
    assert finish() == digests.of_tree({"a": np.arange(1, size + 1, dtype=np.float32)})


def test_what_is_on_disk_today_is_verified_tomorrow():
    """The numbers themselves: a change of the formula would call every checkpoint damaged."""
    assert digests.of_tree({"a": {"b": np.arange(6, dtype=np.float32)}}) == {"a/b": "70deab94"}
    assert digests.of_json({"next": 3, "list": (1, 2)}) == "4881e0cf"
    assert digests.of_json({"list": [1, 2], "next": 3}) == "4881e0cf"


def test_any_flipped_bit_and_any_exchange_shows():
    array = np.random.default_rng(1).standard_normal(9).astype(np.float32)
    whole = digests.of_array(array)
    for bit in range(32 * array.size):
        flipped = array.copy()
        flipped.view(np.uint32)[bit // 32] ^= np.uint32(1 << bit % 32)
        assert digests.of_array(flipped) != whole
    for i in range(array.size):
        for j in range(i):
            exchanged = array.copy()
            exchanged[[i, j]] = exchanged[[j, i]]
            assert digests.of_array(exchanged) != whole
    assert digests.of_array(-array) != whole  # every sign bit at once
