"""Optimizers, assembled from optax.

LAMB (arXiv 1904.00962) as used for RIN (arXiv 2212.11972): with the bias-corrected Adam moments m̂
and v̂ of a parameter tensor w,

    u  = m̂ / (√v̂ + ε) + δ w                                                                   (1)
    w ← w − η · (‖w‖ / ‖u‖) · u          (the ratio is 1 where either norm is 0)                 (2)

Biases and normalization scales are left out of both the weight decay δ and the trust ratio ‖w‖/‖u‖;
learned positional embeddings and latents are not. `optax.lamb` differs in two ways: its ε is 1e-6,
and its mask covers the weight decay only.

Those parameters are chosen by name: a parameter is named by its path, "block_0/mlp/bias". Rates and
weight decays may be traced scalars; the state's structure does not depend on any number.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
import optax

# flax's names for what Keras calls bias, beta (both "bias") and gamma ("scale").
BIAS_OR_SCALE = r"(^|[/_])(bias|scale)$"
KERNEL = r"kernel"


def matching(pattern: str, *, invert: bool = False) -> Callable[[Any], Any]:
    """A mask for optax: which parameters have a path that `pattern` (a regex, searched) matches.

    Args:
      pattern: searched in the parameter's path, its names joined by "/".
      invert: select the parameters that do not match instead.

    Returns:
      A function from a tree of parameters to the same tree of bools.
    """
    compiled = re.compile(pattern)

    def mask(params: Any) -> Any:
        def selected(path, _):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            return (compiled.search(name) is None) == invert

        return jax.tree_util.tree_map_with_path(selected, params)

    return mask


def lamb(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float | jax.Array = 0.01,
    exclude: str = BIAS_OR_SCALE,
) -> optax.GradientTransformation:
    """LAMB as published with RIN, equations (1) and (2) of this module. No gradient clipping.

    Args:
      learning_rate: η, a number or a function of the step.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: ε.
      weight_decay: δ.
      exclude: a regex; a parameter whose path it matches has neither weight decay nor trust ratio.

    Returns:
      An optax transformation whose update needs the parameters.
    """
    included = matching(exclude, invert=True)
    return _standard_promotion(
        optax.chain(
            optax.scale_by_adam(b1=b1, b2=b2, eps=eps),
            optax.add_decayed_weights(weight_decay, mask=included),
            optax.masked(optax.scale_by_trust_ratio(), included),
            optax.scale_by_learning_rate(learning_rate),
        )
    )


def adamw(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float | jax.Array = 0.01,
    include: str = KERNEL,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (arXiv 1711.05101), as in the published U-Net recipes.

    Args:
      learning_rate: a number or a function of the step.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
      weight_decay: times the learning rate, the fraction of a weight taken off per step.
      include: a regex; only parameters whose path it matches are decayed. The published choice is
        kernels only: no biases, no scales, no embeddings.
      clip_norm: clip the gradient to this global norm first (published: 1.0); None not to.

    Returns:
      An optax transformation whose update needs the parameters.
    """
    return _clipped(
        optax.adamw(
            learning_rate,
            b1=b1,
            b2=b2,
            eps=eps,
            weight_decay=weight_decay,
            mask=matching(include),
        ),
        clip_norm,
    )


def adam(
    learning_rate: optax.ScalarOrSchedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """Adam (arXiv 1412.6980), with an optional clip of the gradient to a global norm."""
    return _clipped(optax.adam(learning_rate, b1=b1, b2=b2, eps=eps), clip_norm)


def normalize_weights(
    optimizer: optax.GradientTransformation,
    normalize: Callable[[jax.Array], jax.Array],
    *,
    include: str = KERNEL,
) -> optax.GradientTransformation:
    """Forced weight normalization (arXiv 2312.02696, eq. 66): after each update, w ← normalize(w).

    For layers that count only the direction of a filter. Its gradient is orthogonal to it, so that
    plain updates make it grow, and its relative change per step shrink, at a rate nobody chose.
    Published is the normalization at the start of the next step; here it is part of the update, so
    that the moving average too is of normalized filters.

    Args:
      optimizer: what makes the update.
      normalize: from an array of filters to normalized ones, the network's own.
      include: a regex; the parameters whose path it matches are normalized.

    Returns:
      An optax transformation whose update needs the parameters.
    """
    chosen = matching(include)

    def update(updates, state, params=None):
        updates, state = optimizer.update(updates, state, params)

        def normalized(chosen, update, param):
            return normalize(param + update) - param if chosen else update

        return jax.tree.map(normalized, chosen(params), updates, params), state

    return optax.GradientTransformation(optimizer.init, update)


def _clipped(
    optimizer: optax.GradientTransformation, clip_norm: float | None
) -> optax.GradientTransformation:
    if clip_norm is not None:
        if not clip_norm > 0:
            raise ValueError(f"clip_norm must be above 0, or None not to clip; got {clip_norm}")
        optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    return _standard_promotion(optimizer)


def _standard_promotion(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Let optax raise a float to the power of its integer step, also under strict promotion."""

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(updates, state, params)

    return optax.GradientTransformation(optimizer.init, update)
