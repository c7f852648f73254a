"""Equal layers run by one `lax.scan`: compiled once, however many there are."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from noise_sched.networks.remat import step as rematerialized


def scan_layers(
    apply: Callable[[Any, jax.Array, Any], jax.Array],
    params: Sequence[Any],
    x: jax.Array,
    others: Sequence[Any],
    *,
    remat: str = "none",
) -> tuple[jax.Array, list[jax.Array]]:
    """Runs layers that differ in their parameters only: x <- apply(params[i], x, others[i]).

    The parameters are stacked on the way in, so that a network's parameters are the same tree with and
    without it.

    Args:
      apply: one layer, (its parameters, x, its other inputs) -> x.
      params: the layers' parameters, trees of equal shapes.
      x: the input of the first layer.
      others: the other inputs of each layer, trees of equal shapes; None leaves are left out.
      remat: what the backward pass keeps of a layer, see `remat`.

    Returns:
      The last output, and all of them.
    """

    def step(x, each):
        x = apply(each[0], x, each[1])
        return x, x

    each = list(zip(params, others, strict=True))
    x, outputs = jax.lax.scan(
        rematerialized(step, remat), x, jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    )
    return x, list(outputs)
