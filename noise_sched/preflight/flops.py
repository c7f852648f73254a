"""The operations of a program, counted in what JAX traced: loops as often as they run.

A compiler's own count has the body of a loop once. Here matrix products and convolutions count, 2 for a
multiply-add; all else is bound by memory.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.extend import core


def of(function: Callable[..., Any], *args: Any) -> float:
    """The operations of one call, from the shapes of its arguments; for all devices together."""
    return _of_jaxpr(jax.make_jaxpr(function)(*args).jaxpr)


def _of_jaxpr(jaxpr: core.Jaxpr) -> float:
    return float(sum(_of_equation(equation) for equation in jaxpr.eqns))


def _of_equation(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        return _of_product(equation)
    if name == "conv_general_dilated":
        return _of_convolution(equation)
    if name == "scan":
        return params["length"] * _of_jaxpr(params["jaxpr"].jaxpr)
    if name == "cond":
        return max(_of_jaxpr(branch.jaxpr) for branch in params["branches"])
    return float(sum(_of_jaxpr(inner) for inner in _inner(params)))


def _of_product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    left = equation.invars[0].aval.shape
    depth = math.prod(left[axis] for axis in contracted)
    return 2.0 * math.prod(equation.outvars[0].aval.shape) * depth


def _of_convolution(equation: Any) -> float:
    numbers = equation.params["dimension_numbers"]
    kernel = equation.invars[1].aval.shape
    features = kernel[numbers.rhs_spec[0]]
    result = math.prod(equation.outvars[0].aval.shape) / equation.params["batch_group_count"]
    # Each element of the result is a sum over the kernel but for its output features. Of a gradient's
    # convolution, whose kernel is as large as the image, most meets padding, which is not computed.
    return 2.0 * result * math.prod(kernel) / features / math.prod(_padding_share(equation))


def _padding_share(equation: Any) -> Iterator[float]:
    """For each dimension, how many terms of a sum there seem to be for one that is not padding."""
    params = equation.params
    left, kernel = (v.aval.shape for v in equation.invars)
    numbers = params["dimension_numbers"]
    for axis, (low, high) in enumerate(params["padding"]):
        size = left[numbers.lhs_spec[2 + axis]]
        width = kernel[numbers.rhs_spec[2 + axis]]
        spread = (size - 1) * params["lhs_dilation"][axis] + 1
        reach = (width - 1) * params["rhs_dilation"][axis] + 1
        places = range(0, spread + low + high - reach + 1, params["window_strides"][axis])
        met = sum(
            1
            for place in places
            for tap in range(width)
            if 0 <= (at := place + tap * params["rhs_dilation"][axis] - low) < spread
            and at % params["lhs_dilation"][axis] == 0
        )
        yield len(places) * width / max(met, 1)


def _inner(params: dict[str, Any]) -> Iterator[core.Jaxpr]:
    """The programs inside an equation's parameters: jit, remat, custom derivatives, while."""
    for value in params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            if isinstance(each, core.ClosedJaxpr):
                yield each.jaxpr
            elif isinstance(each, core.Jaxpr):
                yield each
