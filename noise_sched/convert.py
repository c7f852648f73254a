r"""Converts a published snapshot of EDM or EDM2 into a workdir that `noise_sched.sample` reads.

    python -m noise_sched.convert --edm=edm-cifar10-32x32-cond-vp.pkl --workdir=runs/edm-cifar10
    python -m noise_sched.sample --workdir=runs/edm-cifar10 --num_images=100 --out=/tmp/cifar10

Needs no torch. The file is read as data: nothing that it names is imported and nothing in it is run.
Sampling is set to what generate.py does without options; --config.sample.KEY=VALUE of `sample` changes it.
"""

import pathlib

from absl import flags, logging

from noise_sched import command_line
from noise_sched.experiment import workdir
from noise_sched.interop.nvlabs import settings, snapshot, writing
from noise_sched.training.files import Folder


def run(
    source: pathlib.Path, folder: Folder, steps: int | None = None, latents: bool = False
) -> settings.Converted:
    """Converts `source` into `folder`.

    Args:
      source: the snapshot.
      folder: the workdir to make; new, or empty.
      steps: of the sampling; None for the published number.
      latents: accept a network that makes latents, no images.

    Raises:
      ValueError, OSError: for a file or folder that cannot work, before anything is written.
    """
    workdir.check_unused(folder)
    if not source.is_file():
        what = (
            "is a folder; give the .pkl file in it" if source.is_dir() else "there is no such file"
        )
        raise FileNotFoundError(f"--edm={source}: {what}.")
    with workdir.building(folder) as made:
        loaded = snapshot.read(source)
        try:
            converted = settings.convert(loaded, steps, latents)
            del loaded  # as large as the network
        except ValueError as error:
            raise ValueError(f"{source}: {error}") from None
        writing.write(converted, made)
    return converted


def main() -> None:
    """The command: flags in, mistakes reported in one message."""
    logging.set_verbosity(logging.WARNING)
    with command_line.clear_errors():
        edm = command_line.required("edm", "--edm=network-snapshot.pkl")
        command_line.check_local("edm", edm)
        source = pathlib.Path(edm)
        folder = command_line.folder("workdir", "--workdir=runs/edm")
        converted = run(source, folder, flags.FLAGS.steps, flags.FLAGS.latents)
        if converted.note:
            print(f"note: {converted.note}")
        print(f"{converted.title}, converted. {command_line.how_to_draw(folder)}")


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    flags.DEFINE_string("edm", None, "The snapshot (.pkl) of EDM or EDM2.")
    flags.DEFINE_string("workdir", None, "The folder to make: new, or empty.")
    flags.DEFINE_integer("steps", None, "Sampling steps; 18, EDM2: 32.", lower_bound=1)
    flags.DEFINE_bool("latents", False, "Convert a network of latents too.")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
