"""Choices are told apart by jit. With JAX's own registration of dataclasses they are not: see pytrees.py."""

import dataclasses

import jax
import jax.numpy as jnp

from noise_sched.diffusion import clocks, solvers
from noise_sched.diffusion.pytrees import register_pytree


@register_pytree
@dataclasses.dataclass(frozen=True)
class Node:
    first: float
    name: str = dataclasses.field(default="a", metadata={"static": True})
    second: float | None = None


@register_pytree
@dataclasses.dataclass(frozen=True)
class Twin(Node):
    pass


def test_structures_of_different_classes_differ():
    structures = [jax.tree.structure(kind(1.0)) for kind in (Node, Twin)]
    assert structures[0] != structures[1]
    assert jax.tree.structure(Node(1.0)) == jax.tree.structure(Node(2.0))
    assert jax.tree.structure(Node(1.0)) != jax.tree.structure(Node(1.0, "b"))
    assert jax.tree.structure(Node(1.0)) != jax.tree.structure(Node(1.0, second=2.0))


def test_leaves_keep_their_order_and_names():
    leaves, structure = jax.tree.flatten_with_path(Node(1.0, "b", 2.0))
    assert [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves] == [
        (".first", 1.0),
        (".second", 2.0),
    ]
    assert jax.tree.unflatten(structure, [3.0, 4.0]) == Node(3.0, "b", 4.0)


def test_a_jitted_function_is_compiled_for_each_clock():
    count = 0

    @jax.jit
    def time(solver, cos, sin):
        nonlocal count
        count += 1
        return solver.clock.time(cos, sin)

    cos, sin = jnp.full(1, 0.6), jnp.full(1, 0.3)
    kinds = (clocks.by_sigma, clocks.by_variance, clocks.by_logsnr, clocks.by_angle)
    found = [time(solvers.euler(clock=kind()), cos, sin) for kind in kinds]
    assert count == len(kinds)
    for kind, value in zip(kinds, found, strict=True):
        assert jnp.allclose(value, kind().time(cos, sin))
