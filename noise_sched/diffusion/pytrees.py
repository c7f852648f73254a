"""Pytrees that know their class.

JAX keeps a compiled program for each structure of its arguments. `jax.tree_util.register_dataclass`
compares structures without the class (jax 0.10): `by_sigma()` and `by_variance()`, dataclasses with as
many fields, are then "equal" and only their hashes tell them apart, so once in a while a jitted function
that has seen one runs its program for the other. A choice here is a class, so it may not be forgotten.
"""

import dataclasses
from typing import Any, TypeVar

import jax
from jax.tree_util import GetAttrKey, register_pytree_with_keys

Class = TypeVar("Class", bound=type)


def register_pytree(cls: Class) -> Class:
    """Makes a dataclass a pytree node, as a decorator above `@dataclasses.dataclass(frozen=True)`.

    Fields are children, in their order; those with `metadata={"static": True}` belong to the structure
    and must be hashable. Structures are equal only if the class is.
    """
    fields = dataclasses.fields(cls)
    static = tuple(f.name for f in fields if f.metadata.get("static", False))
    children = tuple(f.name for f in fields if f.name not in static)
    keys = tuple(GetAttrKey(name) for name in children)

    def flatten(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(node, n) for n in children), tuple(getattr(node, n) for n in static)

    def flatten_with_keys(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values, structure = flatten(node)
        return tuple(zip(keys, values, strict=True)), structure

    def unflatten(structure: tuple[Any, ...], values: Any) -> Any:
        return cls(
            **dict(zip(static, structure, strict=True)), **dict(zip(children, values, strict=True))
        )

    register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def leaves_named(tree: Any, name: str) -> dict[str, Any]:
    """Every leaf that is a field of that name, by the dotted path of the part that has it."""
    return {
        jax.tree_util.keystr(path[:-1], simple=True, separator="."): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if _is_named(path, name)
    }


def replace_leaves_named(tree: Any, name: str, value: Any) -> Any:
    """The tree with `value` in every leaf that is a field of that name, where there is None too."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: value if _is_named(path, name) else leaf,
        tree,
        is_leaf=lambda leaf: leaf is None,
    )


def _is_named(path: tuple[Any, ...], name: str) -> bool:
    return path[-1:] == (GetAttrKey(name),)
