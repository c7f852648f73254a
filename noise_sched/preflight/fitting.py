"""What to change in a config whose step does not fit, the cheapest first; and trying it.

1. network.remat='dots', then 'layer'    the backward pass computes again what it does not keep
2. partition.mesh='fsdp=N'               a chip keeps 1 / N of parameters, optimizer state and averages
3. train.microbatches=N                  a batch in parts, one after the other
4. partition.mesh='fsdp=N,tokens=M'      RIN: an image is shared by M chips
"""

from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict

from noise_sched.experiment.ranges import ConfigError, value_at
from noise_sched.preflight.chips import Topology
from noise_sched.preflight.programs import DoesNotFit

Changes = dict[str, Any]


def fit(
    config: ConfigDict, topology: Topology, attempt: Callable[[ConfigDict], Any]
) -> Iterator[tuple[Changes, Exception | None, Any]]:
    """Tries changes until one fits.

    Args:
      config: what does not fit.
      topology: the slice.
      attempt: builds and compiles a config; raises `DoesNotFit` or `ConfigError`.

    Yields:
      (changes, why they do not fit or None, what `attempt` returned). The last fits, unless none does.
    """
    for changes in candidates(config, topology):
        try:
            made = attempt(with_changes(config, changes))
        except (DoesNotFit, ConfigError) as error:
            yield changes, error, None
            continue
        yield changes, None, made
        return


def candidates(config: ConfigDict, topology: Topology) -> Iterator[Changes]:
    """Changes to try, in this order; each keeps the numbers that are trained but for rounding."""
    remats = [{"network.remat": name} for name in ("dots", "layer")]
    start = {"none": 0, "dots": 1, "layer": 2}[config.network.remat]
    yield from remats[start:]
    layer = {} if config.network.remat == "layer" else remats[1]
    parts = [n for n in (4, 16, 64) if topology.size % n == 0 and n < topology.size]
    meshes = [f"fsdp={n}" for n in parts if config.partition.mesh == ""]
    yield from ({**layer, "partition.mesh": mesh} for mesh in meshes[:2])
    sharded = {"partition.mesh": meshes[min(1, len(meshes) - 1)]} if meshes else {}
    most = config.train.batch_size // topology.size
    counts = [n for n in (2, 4, 8, 16, 32) if config.train.batch_size % (n * topology.size) == 0]
    yield from (
        {**layer, **sharded, "train.microbatches": config.train.microbatches * n}
        for n in counts
        if n <= most
    )
    if config.network.name == "RIN":
        for tokens in (2, 4):
            mesh = f"{sharded.get('partition.mesh', config.partition.mesh)},tokens={tokens}".strip(
                ","
            )
            yield {**layer, "partition.mesh": mesh}


def with_changes(config: ConfigDict, changes: Changes) -> ConfigDict:
    """A copy of a config, changed."""
    changed = ConfigDict(config.to_dict())
    changed.update_from_flattened_dict(changes)
    return changed


def written(config: ConfigDict, changes: Changes) -> str:
    """Changes as flags: "--config.network.remat=layer"."""
    return " ".join(
        f"--config.{key}={value}"
        for key, value in changes.items()
        if value_at(config, key) != value
    )
