"""A digest of an array's content: the same on any layout, number of hosts and kind of device.

The array is read as a sequence of unsigned 32-bit words w_0, w_1, ... in C order (a number of 8 or 16
bits is a word of its own, one of 64 bits is two, the lower half first), and

    digest = sum over i of mix(w_i xor (i g mod 2^32))  mod 2^32                          (1)

where g = 0x9E3779B1 is odd, and mix is the finalizer of MurmurHash3 (Appleby 2011), which is one-to-one:

    h ^= h >> 16;  h *= 0x85EBCA6B;  h ^= h >> 13;  h *= 0xC2B2AE35;  h ^= h >> 16        (2)

A sum of integers does not depend on the order of its terms, so every device may sum up the part of the
array that it holds. As mix is one-to-one, damage within one word always changes the digest; of damage to
several words one case in 2^32 is missed, as with a CRC of 32 bits. Against forgery it is no protection.

Arrays in the host's memory are summed up by NumPy; others where they are, by a compiled program whose
only result is one number: nothing is gathered and nothing is copied to the host.
"""

import functools
import json
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_GOLDEN = np.uint32(0x9E3779B1)
_MIX_1, _MIX_2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_CHUNK = 2**15  # words; what NumPy works on at a time then stays in the processor's cache


def of_tree(tree: Any) -> dict[str, str]:
    """The digest of every array of a tree, by its path, as eight hexadecimal digits.

    Args:
      tree: NumPy or JAX arrays, the latter on any devices. With several hosts all of them have to call
        this, with the same tree.
    """
    return _finish({path: _begin(leaf) for path, leaf in _leaves(tree)})


def begin(tree: Any) -> Callable[[], dict[str, str]]:
    """Starts `of_tree`: what is returned finishes it, and may be called in another thread.

    JAX arrays may be donated once this returns: what is in the host's memory stays while it is looked at
    (XLA then computes into other memory), and what is on devices is read before anything that comes later.
    NumPy arrays must stay as they are until the end.
    """
    begun = {path: _begin(leaf) for path, leaf in _leaves(tree)}
    return lambda: _finish(begun)


def of_json(value: Any) -> str:
    """The digest of anything that JSON can hold, whatever the spaces and the order of its keys."""
    plain = json.loads(json.dumps(value))
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return f"{of_array(np.frombuffer(text.encode(), np.uint8)):08x}"


def of_array(array: Any) -> int:
    """Equation (1)."""
    return int(_begin(array)())


def path_name(path: Any) -> str:
    """What an array is called: "dense/kernel"."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    return [(path_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]


def _begin(array: Any) -> Callable[[], Any]:
    """What finishes the digest of one array; the work on devices is under way."""
    if isinstance(array, jax.Array) and not _in_host_memory(array):
        return functools.partial(jax.device_get, _on_devices(array))
    return functools.partial(_on_host, np.asarray(array))


def _finish(begun: dict[str, Callable[[], Any]]) -> dict[str, str]:
    return {path: f"{int(finish()):08x}" for path, finish in begun.items()}


def _in_host_memory(array: jax.Array) -> bool:
    on_cpu = all(device.platform == "cpu" for device in array.sharding.device_set)
    return on_cpu and (array.is_fully_addressable or array.is_fully_replicated)


def _terms(words: Any, positions: Any) -> Any:
    """The terms of equation (1), of NumPy arrays or of JAX's."""
    h = words ^ (positions * _GOLDEN)
    h = (h ^ (h >> np.uint32(16))) * _MIX_1
    h = (h ^ (h >> np.uint32(13))) * _MIX_2
    return h ^ (h >> np.uint32(16))


def _on_host(array: np.ndarray) -> np.uint32:
    size = array.dtype.itemsize
    if size > 4 and size % 4:
        raise TypeError(f"numbers of {size} bytes have no digest, got {array.dtype}")
    flat = np.ascontiguousarray(array).reshape(-1).view(f"u{min(size, 4)}")
    chunk = np.arange(_CHUNK, dtype=np.uint32)
    total = np.zeros((), np.uint64)
    for start in range(0, flat.size, _CHUNK):
        words = flat[start : start + _CHUNK].astype(np.uint32, copy=False)
        positions = chunk[: words.size] + np.uint32(start % 2**32)
        total += _terms(words, positions).sum(dtype=np.uint64)
    return np.uint32(total % np.uint64(2**32))


@jax.jit
def _on_devices(array: jax.Array) -> jax.Array:
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    bits = jnp.dtype(f"u{min(array.dtype.itemsize, 4)}")
    words = jax.lax.bitcast_convert_type(array, bits).astype(jnp.uint32)
    # Positions axis by axis: flattening would gather an array that is split over devices.
    positions, stride = jnp.zeros(words.shape, jnp.uint32), 1
    for axis in reversed(range(words.ndim)):
        index = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        positions = positions + index * np.uint32(stride % 2**32)
        stride *= words.shape[axis]
    return jnp.sum(_terms(words, positions), dtype=jnp.uint32)
