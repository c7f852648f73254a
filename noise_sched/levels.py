r"""What a trained model has learnt at which noise level: `python -m noise_sched.levels`.

    python -m noise_sched.levels --workdir=runs/digits
    python -m noise_sched.levels --workdir=runs/digits --num_images=1000 --out=levels.png

A picture over logSNR: the weighted loss and the share of the images' variance that the predicted x0
explains, on images with fresh noise and as training recorded them (metrics.jsonl, "levels"), beside the
density that training draws from and the levels that sampling visits. Look at it before choosing a schedule:
draws where nothing is left to explain, or all is explained already, teach little.

The fresh curve is of the averaged weights, and a first pass: a network with a memory begins with an
empty one, where in training most examples have a full one.
"""

import pathlib

import numpy as np
from absl import flags, logging

from noise_sched import command_line, experiment
from noise_sched.experiment import (
    Experiment,
    level_errors,
    sampler,
    training_images,
    workdir,
)
from noise_sched.figures import curves
from noise_sched.figures import levels as figure
from noise_sched.training import metrics
from noise_sched.training.files import Folder

_LEVELS = 48
_ROWS = 10  # of metrics.jsonl, the last ones


def main() -> None:
    """The command: flags in, mistakes reported in one message."""
    logging.set_verbosity(logging.WARNING)
    options = flags.FLAGS
    with command_line.clear_errors():
        folder = command_line.folder("workdir", "--workdir=runs/digits")
        workdir.load_config(folder)
        step = command_line.step()
        out = _place(options.out, folder)
        exp = experiment.from_config(options.config)
        step, params, _ = sampler.restore(exp.unguided(), folder, step)
        batch = _images(exp, options.num_images)
        fresh = level_errors.measure(exp, exp.hyper, params, batch, _LEVELS)
        found = [figure.Curve("fresh noise", fresh.logsnr, fresh.loss, fresh.explained)]
        found += recorded(folder)
        objective = exp.objective
        density = curves.training_density(objective.schedule, objective.process)
        figure.draw(out, found, density, exp.levels, f"{folder.name}, step {step}")
    print(as_text(fresh, step, len(batch["image"])))
    print(f"\nto look at: {out}")


def recorded(folder: Folder) -> list[figure.Curve]:
    """The mean of the last rows that training recorded; none of a run that recorded none."""
    rows = [row["levels"] for row in metrics.read_metrics(folder) if "levels" in row][-_ROWS:]
    if not rows:
        return []
    places = sorted({place for row in rows for place in row["logsnr"]})
    sums = {name: np.zeros(len(places)) for name in ("draws", "loss", "explained")}
    for row in rows:
        at = np.searchsorted(places, row["logsnr"])
        draws = np.asarray(row["draws"], float)
        sums["draws"][at] += draws
        for name in ("loss", "explained"):
            sums[name][at] += draws * np.asarray(row[name], float)
    loss, explained = (sums[name] / sums["draws"] for name in ("loss", "explained"))
    return [figure.Curve("in training, the last rows", np.asarray(places), loss, explained)]


def as_text(found: level_errors.AtLevels, step: int, images: int) -> str:
    """What is printed: every fourth level."""
    lines = [
        f"checkpoint {step}, {images} images, every fourth of {len(found.logsnr)} levels:",
        "",
        "   logSNR      loss  explained",
    ]
    for k in range(1, len(found.logsnr), 4):
        lines.append(f"  {found.logsnr[k]:7.2f}  {found.loss[k]:8.4g}  {found.explained[k]:9.1%}")
    return "\n".join(lines)


def _images(exp: Experiment, count: int) -> dict[str, np.ndarray]:
    """Images spread over the whole set, as sets may be sorted by class."""
    source = training_images.opened(exp.config)
    count = min(count, len(source))
    batch = source.gather(np.arange(count) * len(source) // count)
    return {name: np.asarray(value) for name, value in batch.items()}


def _place(out: str | None, folder: Folder) -> pathlib.Path:
    if out is None:
        return pathlib.Path(str(folder)) / "levels.png"
    command_line.check_path("out", out)
    path = pathlib.Path(out)
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"--out={out}: expected a file, such as levels.png, in a folder that exists."
        )
    return path


def _define_flags() -> None:
    """--config.sample.KEY changes the workdir's own config, which therefore is read first."""
    flags.DEFINE_string("workdir", None, "The folder that training wrote.")
    flags.DEFINE_integer(
        "num_images", 500, "Images of the training data to measure with.", lower_bound=2
    )
    flags.DEFINE_string("out", None, "The picture; WORKDIR/levels.png without.")
    command_line.define_step()
    command_line.define_workdir_config("workdir")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
