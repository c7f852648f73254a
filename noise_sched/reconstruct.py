"""Makes the moving average of another width after training, from the snapshots of two.

    python -m noise_sched.reconstruct --workdir=runs/edm2 --std=0.075 --out=runs/edm2_075
    python -m noise_sched.sample --workdir=runs/edm2_075 --num_images=1000 --out=runs/edm2_075/samples

The run has to have kept power-function averages: --config.ema.stds='(0.05, 0.1)' and
--config.ema.snapshot_every=STEPS. With --step=STEP the average is that of an earlier snapshot. The best
width depends on the data, the network and the guidance (Karras et al. 2024, arXiv 2312.02696, section 3).

Writes a workdir that `sample` reads, without the state to train on from.
"""

import json

import jax
from absl import flags, logging

from noise_sched import command_line, experiment
from noise_sched.experiment import workdir
from noise_sched.training import files, power_ema
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.files import Folder
from noise_sched.training.snapshots import Snapshots


def run(folder: Folder, out: Folder, std: float, step: int | None = None) -> int:
    """Writes into `out` a workdir with the average of width `std` of the run in `folder`.

    Args:
      folder: the workdir of a run with snapshots.
      out: a new folder.
      std: relative width of the average.
      step: of one of the snapshots; None is the last.

    Returns:
      The step.

    Raises:
      ValueError, OSError: for a workdir, width, step or output folder that cannot work, before anything
        is written.
    """
    power_ema.exponent(std)
    workdir.check_unused(out, "--out")
    config = workdir.load_config(folder)
    exp = experiment.from_config(config)
    abstract = jax.eval_shape(exp.init_params, jax.random.key(0))
    with workdir.building(out, "--out") as made:
        with Snapshots(workdir.snapshots(folder), read_only=True) as snapshots:
            step, params = snapshots.reconstruct(abstract, config.ema.stds, std=std, step=step)

        # One average is left, as of a run that keeps a plain one.
        config.ema.update(stds=(), snapshot_every=0)
        config.sample.ema_std = 0.0
        workdir.claim(made, config)
        about = {"workdir": folder.resolve().name, "step": step, "ema_std": std}
        files.write_text(made / "reconstructed.json", json.dumps(about, indent=2) + "\n")
        with Checkpoints(workdir.checkpoints(made)) as checkpoints:
            checkpoints.save_ema(step, params)
    return step


def main() -> None:
    """The command: flags in, mistakes reported in one message."""
    logging.set_verbosity(logging.WARNING)
    with command_line.clear_errors():
        folder = command_line.folder("workdir", "--workdir=runs/edm2")
        out = command_line.folder("out", "--out=runs/edm2_075")
        std = command_line.required("std", "--std=0.075")
        step = run(folder, out, float(std), flags.FLAGS.step)
        print(f"the average of width {std} at step {step}: {out}. {command_line.how_to_draw(out)}")


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    flags.DEFINE_string("workdir", None, "The folder that training wrote.")
    flags.DEFINE_float("std", None, "Relative width of the average, such as 0.075.")
    flags.DEFINE_integer("step", None, "Step of a snapshot; the last by default.")
    flags.DEFINE_string("out", None, "The workdir to write: a new folder.")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
