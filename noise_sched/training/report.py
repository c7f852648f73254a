"""What a run prints about itself before it starts."""

import math
import os
from collections.abc import Mapping
from typing import Any

import jax
from clu import parameter_overview
from jax.sharding import Mesh


def parameters(abstract: Any) -> str:
    """A table of the parameters, from shapes alone, and their number.

    Args:
      abstract: a tree of arrays or `jax.ShapeDtypeStruct`.
    """
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract))
    table = parameter_overview.get_parameter_overview(abstract, include_stats=False)
    return f"{table}\n{count:,} parameters"


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A config as {"train.steps": 1000, ...}."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def run(config: Any, folder: str | os.PathLike, examples: int, start: int, mesh: Mesh) -> str:
    """The run in a few lines: config, data, devices, where it starts."""
    where = f"resuming at step {start}" if start else "starting at step 0"
    values = "\n".join(
        f"config.{key} = {value!r}" for key, value in flatten(config.to_dict()).items()
    )
    return (
        f"{values}\n"
        f"{examples:,} images, global batch {config.train.batch_size}; "
        f"{mesh.size} {jax.devices()[0].platform} device(s); {folder}: {where}"
    )
