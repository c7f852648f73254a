r"""Trains a diffusion model; killed at any moment, the same command goes on where it stopped.

    python -m noise_sched.train --config=configs/digits.py --workdir=runs/digits
    python -m noise_sched.train --config=configs/digits.py:tiny --workdir=/tmp/try \
        --config.schedule='sigmoid(-3, 3, tau=0.9)' --config.train.steps=20

On several hosts start it on each (TPU pods need nothing else; elsewhere --distributed, under Slurm, Open
MPI or Kubernetes, from which jax learns of the others). The workdir has to be one that all of them see.
Everything that sampling needs ends up there. A second training in it is refused while one is at work.
A run that a signal stopped, all saved, ends with exit code 75: start it again.
"""

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np
from absl import flags, logging
from jax.sharding import Mesh
from ml_collections import ConfigDict

from noise_sched import command_line, experiment
from noise_sched.data import make_batches
from noise_sched.data.sources import Source
from noise_sched.experiment import Experiment, keys, sampler, training, training_images, workdir
from noise_sched.figures.images import labelled_grid, to_uint8
from noise_sched.training import faults, hosts, partitioning, report
from noise_sched.training.best import Best
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.files import Folder
from noise_sched.training.goodput import WallTime
from noise_sched.training.loop import AGAIN, Fitted, Hook, NonFiniteLoss, fit
from noise_sched.training.metrics import METRICS_FILE, PICTURES, MetricWriter
from noise_sched.training.profiling import Profile
from noise_sched.training.progress import Progress
from noise_sched.training.snapshots import Snapshots
from noise_sched.training.state import TrainState

if TYPE_CHECKING:
    from noise_sched.judging.in_training import Evaluation

_GRID = 64  # images in the grid that training draws


def run(config: ConfigDict, folder: Folder, profile: Profile | None = None) -> Fitted:
    """Trains in `folder` until config.train.steps steps are done in all, resuming if it can.

    Raises:
      ValueError, OSError: for anything in the config, the data or the folder that cannot work;
        nothing has been written then.
      NonFiniteLoss: if too many steps in a row are not finite; the last finite state is saved.
    """
    # 1. Everything that can be refused is refused here, before anything is written.
    hosts.agree(training.started_with(config))
    exp = experiment.from_config(config)
    mesh = training.mesh_of(exp)
    source = hosts.together(lambda: training_images.opened(config))
    evaluation = hosts.together(lambda: _evaluation(exp)) if config.train.eval_every else None
    with workdir.hold(folder, config):
        return _train(exp, folder, mesh, source, evaluation, profile)


def _train(
    exp: Experiment,
    folder: Folder,
    mesh: Mesh,
    source: Source,
    evaluation: "Evaluation | None",
    profile: Profile | None,
) -> Fitted:
    """Trains in a workdir that is held for this run."""
    config = exp.config

    # 2. The state: from shapes alone to a layout, then restored or made.
    init = functools.partial(training.new_state, exp)
    abstract, shardings = training.layout(exp, mesh, init)
    checkpoints = Checkpoints(
        workdir.checkpoints(folder), keep=config.train.keep, digests=config.train.digests
    )
    restored = checkpoints.restore(partitioning.with_shardings(abstract, shardings))

    # 3. The data, from the position that belongs to the state.
    batches = make_batches(
        source,
        batch_size=config.train.batch_size,
        seed=config.seed,
        flip=config.data.flip,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
    )
    if restored is None:
        state = partitioning.create_sharded(init, shardings)
        start = 0
    else:
        state, start = restored.state, restored.step
        batches.set_state(restored.data)
    if jax.process_index() == 0:
        print(report.parameters(abstract.params))
        print(report.run(config, folder, len(source), start, mesh), flush=True)
        if not config.train.digests:
            print("checkpoints get no digests: damage within their arrays would go unnoticed.")

    # 4. The step, compiled once, and the loop.
    train_step = training.compiled_step(exp, mesh, shardings)
    if profile is not None:
        train_step = profile.around(train_step, start)
    progress = Progress(
        config.train.steps, initial=start, unit="image", unit_scale=config.train.batch_size
    )
    clock, go_on = WallTime(folder, start), not config.train.stop_if_unsaved
    with (
        faults.told_if_full(folder, "checkpoint", checkpoints.on_disk),
        MetricWriter(folder, resume_step=start, go_on=go_on) as writer,
        checkpoints,
        Snapshots(workdir.snapshots(folder), read_only=not config.ema.snapshot_every) as snapshots,
    ):
        hooks = _hooks(exp, mesh, writer, snapshots)
        if evaluation is not None:
            judged = _judge(exp, folder, writer, evaluation)
            hooks.append(Hook(config.train.eval_every, judged))
            # Killed between a checkpoint and its evaluation, the run goes on behind both.
            missed = start > 0 and start % config.train.eval_every == 0
            if missed and not hosts.first(lambda: writer.has(start, "eval/")):
                judged(start, state)
        done = fit(
            state,
            train_step,
            batches,
            steps=config.train.steps,
            place=lambda batch: partitioning.to_global(batch, mesh),
            checkpoints=checkpoints,
            checkpoint_every=config.train.checkpoint_every,
            writer=writer,
            log_every=config.train.log_every,
            progress=progress,
            hooks=hooks,
            skip_nonfinite=config.train.skip_nonfinite,
            go_on_unsaved=go_on,
            clock=clock,
        )
        if config.ema.snapshot_every and done.step == config.train.steps:
            snapshots.save(done.step, done.state.ema_params)
        clock.write(done.step)
    if jax.process_index() == 0:
        print(clock.text())
    return done


def _hooks(exp: Experiment, mesh: Mesh, writer: MetricWriter, snapshots: Snapshots) -> list[Hook]:
    """What is done every so many steps: images drawn, snapshots of the averages kept."""
    hooks = []
    if exp.config.train.image_every:
        hooks.append(Hook(exp.config.train.image_every, _draw_grid(exp, mesh, writer)))
    if exp.config.ema.snapshot_every:
        save = lambda step, state: snapshots.save(step, state.ema_params)
        hooks.append(Hook(exp.config.ema.snapshot_every, save))
    return hooks


def _draw_grid(
    exp: Experiment, mesh: Mesh, writer: MetricWriter
) -> Callable[[int, TrainState], None]:
    """Draws a grid of images with the moving average, on all hosts."""
    if exp.needs_guide:
        print(
            "image grids are drawn without guidance: training does not read sample.guide_workdir."
        )
        exp = exp.unguided()
    draw = sampler.drawer(exp, mesh, keys.of_grids(exp.config.sample.seed))
    index = np.arange(_GRID, dtype=np.int32)
    classes = exp.config.network.num_classes
    labels = index % classes if classes else np.full_like(index, experiment.NO_CLASS)

    def draw_and_write(step: int, state: TrainState) -> None:
        images = draw(exp.drawn_average(state.ema_params), index, labels)
        writer.picture(step, "samples", labelled_grid(to_uint8(images), labels))

    return draw_and_write


def _evaluation(exp: Experiment) -> "Evaluation":
    """Loads what judges images only here: that takes nearly as long as all else that training loads."""
    from noise_sched.judging import in_training

    return in_training.evaluation(exp)


def _judge(
    exp: Experiment, folder: Folder, writer: MetricWriter, evaluation: "Evaluation"
) -> Callable[[int, TrainState], None]:
    """Judges the averaged weights, and keeps the best of them."""
    figure, better = exp.config.eval.best, evaluation.better
    best = None if better is None else Best(workdir.best(folder), figure, better)

    def judge(step: int, state: TrainState) -> None:
        figures = evaluation.measure(step, exp.drawn_average(state.ema_params))
        writer.scalars(step, {f"eval/{name}": value for name, value in figures.items()})
        if best is not None:
            best.offer(step, figures.get(figure), state.ema_params)

    return judge


def main() -> None:
    """The command: flags in, mistakes reported in one message."""
    logging.set_verbosity(logging.WARNING)
    with command_line.clear_errors():
        config = command_line.config()
        folder = command_line.folder("workdir", "--workdir=runs/digits")
        command_line.join_hosts()
        try:
            done = run(config, folder, _profile(folder))
        except NonFiniteLoss as error:
            command_line.stop(str(error))
    if jax.process_index() == 0:
        print(f"{done.step} of {config.train.steps} steps done. {command_line.how_to_draw(folder)}")
        if (folder / PICTURES).is_dir():
            print(f"Pictures drawn in training: {folder / PICTURES}")
        print(f"Its curves: {folder / METRICS_FILE}, or tensorboard --logdir={folder}")
    if done.step < config.train.steps:
        sys.exit(AGAIN)


def _profile(folder: Folder) -> Profile | None:
    """What --profile asks for."""
    text = flags.FLAGS.profile
    return None if text is None else Profile.of(text, folder / "profile")


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    flags.DEFINE_string("workdir", None, "The run's folder: new, or of the same config.")
    flags.DEFINE_string("profile", None, "Steps START:STOP to trace, into WORKDIR/profile.")
    command_line.define_hosts()
    command_line.define_config_file()


if __name__ == "__main__":
    command_line.run(main, _define_flags)
