"""Published parameters: from the names and layouts of PyTorch to those of flax.

    enc.16x16_block0.conv0.weight  [out, in, h, w]  ->  enc_16x16_block0/conv0/kernel  [h, w, in, out]
    map_layer0.weight              [out, in]        ->  map_layer0/kernel              [in, out]
    enc.16x16_block0.norm0.weight  [channels]       ->  enc_16x16_block0/norm0/scale   [channels]

Biases and learned gains (scalars) keep their names and values. Only axes are transposed: the order of
the channels, those of queries, keys and values too, is the published one throughout.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

# Constants that the published files carry along: here they are configuration.
BUFFERS = ("resample_filter", "freqs", "phases")
# A network inside its preconditioner.
WRAPPERS = ("model.", "unet.")

# By number of dimensions: our name of `weight`, and how its axes are ordered.
_WEIGHTS = {1: ("scale", (0,)), 2: ("kernel", (1, 0)), 4: ("kernel", (2, 3, 1, 0))}


def params_from_state_dict(state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The parameter tree of a published network.

    Args:
      state: arrays by their PyTorch names; constants among them are left out.

    Returns:
      Nested dictionaries of float32 arrays, as `network.init` gives them under "params".

    Raises:
      ValueError: a weight of a shape that no layer of these networks has.
    """
    tree: dict[str, Any] = {}
    for name, value in state.items():
        if name.rpartition(".")[-1] in BUFFERS:
            continue
        value = np.asarray(value)
        *path, leaf = parameter_path(name, value.ndim)
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        axes = _WEIGHTS[value.ndim][1] if leaf in ("kernel", "scale") else range(value.ndim)
        node[leaf] = jnp.asarray(value.transpose(tuple(axes)), jnp.float32)
    return tree


def parameter_path(name: str, ndim: int) -> tuple[str, ...]:
    """Where the parameter of a PyTorch name and number of dimensions is in the tree."""
    for wrapper in WRAPPERS:
        name = name.removeprefix(wrapper)
    *path, leaf = name.split(".")
    if path and path[0] in ("enc", "dec"):
        path[:2] = ["_".join(path[:2])]
    if leaf == "weight":
        if ndim not in _WEIGHTS:
            raise ValueError(
                f"{name} has {ndim} dimensions, but the weights of these networks are norms (1), "
                f"matrices (2) or kernels of images (4): is this another architecture's file?"
            )
        leaf = _WEIGHTS[ndim][0]
    return (*path, leaf)
