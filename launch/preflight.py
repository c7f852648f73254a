"""Compiles a config's training step and sampler for a TPU slice that is not there, and says what they take.

    pip install -e '.[preflight]'
    python -m launch.preflight --config=configs/imagenet1024_rin.py --topology=v5e:16x16
    python -m launch.preflight --config=configs/imagenet64_rin.py --topology=v5e:4x4 --fit

No TPU is used: the compiler comes with libtpu. What does not fit is told with what to change; with --fit
that is tried. The compiler is asked for little effort: minutes instead of tens of minutes, the same
operations and collectives, nearly the same memory, and up to half more bytes; --full_effort compiles what
training would. --topology is CHIP:SHAPE, of chips v4, v5e, v5p or v6e. docs/results/preflight.md has a
table of all full-size configs.
"""

import os

# Before jax is imported: the programs are for TPUs, but nothing runs on one.
os.environ["JAX_PLATFORMS"] = "cpu"

import sys
from collections.abc import Callable

import jax
from absl import flags, logging
from ml_collections import ConfigDict

from noise_sched import command_line, experiment
from noise_sched.preflight import chips, fitting, programs, text
from noise_sched.preflight.chips import Topology
from noise_sched.preflight.programs import DoesNotFit, Program


def run(
    config: ConfigDict,
    topology: Topology,
    *,
    fit: bool,
    sampler: bool,
    full_effort: bool = False,
) -> bool:
    """Reports on the programs of a config.

    Returns:
      Whether they fit, or with `fit` whether anything that was tried did.
    """
    slice_ = programs.devices(topology)

    def attempt(changed: ConfigDict) -> Program:
        exp = experiment.from_config(changed)
        return programs.training_step(exp, slice_, full_effort=full_effort)

    exp = experiment.from_config(config)
    try:
        print(text.of_program(attempt(config), topology, config.train.batch_size), flush=True)
        fits = True
    except DoesNotFit as error:
        print(f"{error}: it does not fit.", flush=True)
        fits = _try(config, topology, attempt) if fit else _advise(config, topology)
    if sampler:
        try:
            found = programs.sampler(exp, slice_, full_effort=full_effort)
            count = -(-config.sample.batch_size // topology.size) * topology.size
            print(text.of_program(found, topology, count))
        except DoesNotFit as error:
            fits = False
            print(f"{error}: it does not fit. Give a smaller --config.sample.batch_size.")
    return fits


def _advise(config: ConfigDict, topology: Topology) -> bool:
    print("What may help, the cheapest first; --fit tries it:")
    for changes in fitting.candidates(config, topology):
        print(f"  {fitting.written(config, changes)}")
    return False


def _try(config: ConfigDict, topology: Topology, attempt: Callable[[ConfigDict], Program]) -> bool:
    for changes, error, program in fitting.fit(config, topology, attempt):
        flags_ = fitting.written(config, changes)
        if error is None:
            print(f"{flags_}: fits")
            print(text.of_program(program, topology, config.train.batch_size), flush=True)
            return True
        print(f"{flags_}: {error}", flush=True)
    print(
        f"nothing that was tried makes it fit {topology.name}: use more chips, or a smaller batch or network."
    )
    return False


def main() -> None:
    """The command."""
    logging.set_verbosity(logging.ERROR)
    with command_line.clear_errors():
        config = command_line.config()
        topology = chips.parse(command_line.required("topology", "--topology=v5e:16x16"))
        fits = run(
            config,
            topology,
            fit=flags.FLAGS.fit,
            sampler=flags.FLAGS.sampler,
            full_effort=flags.FLAGS.full_effort,
        )
    sys.exit(0 if fits else 1)


def _define_flags() -> None:
    flags.DEFINE_string("topology", None, "The slice: v5e:16x16, v4:4x4x8, ...")
    flags.DEFINE_bool("fit", False, "Try what makes a step fit that does not.")
    flags.DEFINE_bool("sampler", True, "Compile the sampler, too.")
    flags.DEFINE_bool("full_effort", False, "Compile as training will: many times as long.")
    command_line.define_config_file()


if __name__ == "__main__":
    jax.config.update("jax_enable_compilation_cache", False)  # it would be asked for a device
    command_line.run(main, _define_flags)
