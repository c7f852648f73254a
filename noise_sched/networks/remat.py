"""What the backward pass keeps of the forward pass, by name: less memory for more computation.

    none     all that it needs
    layer    each layer's input; its insides are computed again
    dots     as layer, and the results of its matrix products and convolutions, which cost the most

Neither changes a number but by rounding.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

REMATS = ("none", "layer", "dots")


def _products(primitive: Any, *args: Any, **params: Any) -> Any:
    """Keeps products with parameters: attention's, which have batch axes, make scores, tokens x tokens."""
    if primitive.name == "conv_general_dilated":
        return True
    return jax.checkpoint_policies.dots_with_no_batch_dims_saveable(primitive, *args, **params)


_POLICIES = {"layer": None, "dots": _products}


def module(layer: type[nn.Module], name: str, static_argnums: tuple[int, ...] = ()) -> Any:
    """A layer that keeps what `name` says; `static_argnums` count its arguments, itself included."""
    if name == "none":
        return layer
    return nn.remat(layer, policy=_POLICIES[name], static_argnums=static_argnums)


def step(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The same of the body of a scan."""
    if name == "none":
        return function
    # Inside a scan nothing can be merged across the boundary, so CSE needs no preventing.
    return jax.checkpoint(function, policy=_POLICIES[name], prevent_cse=False)
