"""Compiles the training step of every full-size config for slices of four TPUs, and writes a table.

    python -m benchmarks.preflight_table --out=docs/results/preflight.md
    python -m benchmarks.preflight_table --configs imagenet64_rin --slices v5e:16x16

It takes an hour of two cores for v5e:16x16 alone. Rows that were made are kept in --kept, so that the same
command goes on where it was stopped; a config or a version of jax or libtpu that has changed makes its rows
anew, and after a change of a network --again does. --rows_only writes the table from what is kept. What
stands in --out around the table is left.
"""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import argparse
import hashlib
import importlib
import json
import pathlib
from importlib import metadata

from absl import logging

from benchmarks import machine
from noise_sched import experiment
from noise_sched.experiment import ranges, workdir
from noise_sched.preflight import chips, programs, text
from noise_sched.preflight.programs import DoesNotFit

SLICES = ("v5e:16x16", "v4:4x8x8", "v5p:4x4x8", "v6e:8x8")
CONFIGS = {
    "imagenet64_rin": (),
    "imagenet128_rin": (),
    "imagenet256_rin": (),
    "imagenet512_rin": (),
    "imagenet768_rin": (),
    "imagenet1024_rin": (),
    "imagenet64_edm": (),
    "imagenet64_edm2": (),
    "cifar10_rin": ("v5e:4x4", "v6e:2x2"),
    "cifar10_edm": ("v5e:4x4", "v6e:2x2"),
    "ffhq64_edm": ("v5e:4x4", "v6e:2x2"),
    "afhqv2_64_edm": ("v5e:4x4", "v6e:2x2"),
}
_IDLE = ("sample.", "eval.", "train.steps", "train.checkpoint_every", "data.data_dir", "seed")
MARK = "<!-- rows are made by benchmarks/preflight_table.py -->"


def row(name: str, slice_name: str, full_effort: bool) -> list[str]:
    """One config on one slice."""
    config = importlib.import_module(f"configs.{name}").get_config()
    topology = chips.parse(slice_name)
    settings = [f"batch {config.train.batch_size}", config.network.dtype]
    settings += [config.partition.mesh] if config.partition.mesh else []
    settings += [f"remat {config.network.remat}"] if config.network.remat != "none" else []
    settings += ["full effort"] if full_effort else []
    if config.train.microbatches > 1:
        settings.append(f"{config.train.microbatches} parts")
    told = ", ".join(settings)
    try:
        exp = experiment.from_config(config)
        program = programs.training_step(exp, programs.devices(topology), full_effort=full_effort)
    except DoesNotFit as error:
        missing = f"**{error.needed / 2**30:.1f}** of {error.limit / 2**30:.1f}: does not fit"
        return [f"`{name}`", topology.name, told, missing, *[""] * 9]
    return text.row(f"`{name}`", told, program, topology)


def key(name: str, slice_name: str, full_effort: bool) -> str:
    """Changes with what of the config enters the training step, and with the versions."""
    config = importlib.import_module(f"configs.{name}").get_config()
    leaves = {k: str(value) for k, value in ranges.leaves(config)}
    later = {k: str(value) for k, value in workdir.LATER.items()}
    # A key that has come since with a value that changes nothing leaves the rows valid.
    kept = {k: v for k, v in leaves.items() if not k.startswith(_IDLE) and v != later.get(k)}
    parts = [json.dumps(kept, sort_keys=True), metadata.version("jax"), metadata.version("libtpu")]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return f"{name} {slice_name} {digest}{' full' if full_effort else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--configs", nargs="*", default=list(CONFIGS), choices=list(CONFIGS))
    parser.add_argument("--slices", nargs="*", default=None)
    parser.add_argument(
        "--kept", type=pathlib.Path, default=pathlib.Path("docs/results/preflight.json")
    )
    parser.add_argument("--again", action="store_true", help="make all rows anew")
    parser.add_argument("--full_effort", action="store_true", help="compile as training will")
    parser.add_argument("--rows_only", action="store_true", help="compile nothing")
    options = parser.parse_args()
    logging.set_verbosity(logging.ERROR)
    kept = json.loads(options.kept.read_text()) if options.kept.exists() else {}
    rows = []
    for name in options.configs:
        for slice_name in options.slices or CONFIGS[name] or SLICES:
            for effort in (False, True):
                found = key(name, slice_name, effort)
                if effort == options.full_effort and not options.rows_only:
                    if found not in kept or options.again:
                        kept[found] = row(name, slice_name, effort)
                        options.kept.parent.mkdir(parents=True, exist_ok=True)
                        options.kept.write_text(json.dumps(kept, indent=1) + "\n")
                if found in kept:
                    rows.append(kept[found])
                    print(" | ".join(kept[found]), flush=True)
    if options.out is not None:
        old = (
            options.out.read_text() if options.out.exists() else f"# Preflight\n\n{MARK}\n{MARK}\n"
        )
        head, _, tail = old.split(MARK) if old.count(MARK) == 2 else (old, "", "")
        versions = f"libtpu {metadata.version('libtpu')}; compiled on {machine.describe()}."
        made = f"{MARK}\n\n{text.table(rows)}\n\n{versions}\n\n{MARK}"
        options.out.write_text(head + made + tail)


if __name__ == "__main__":
    main()
