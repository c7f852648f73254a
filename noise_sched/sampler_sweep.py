r"""One trained model, many samplers: quality against the number of network passes.

    python -m noise_sched.sampler_sweep --workdir=runs/digits --out=runs/digits/sweep \
        --steps=5,10,20,50 --solver='ddim()' --solver='heun()' --metrics=class_agreement,swd

Every combination of the given steps, solvers, grids, schedules and guidances is drawn and judged; what is not
given is as in the workdir's config. A flag for specs may be repeated. Writes sweep.csv, a line for each
sampler as soon as it is judged, and sweep.png: each metric against the passes for one image (NFE), a line
for each solver. Killed, the same command goes on. Samplers that differ only in schedule and grid share a
compiled program. All draw from the same noise.
"""

import csv
import io
import json
import pathlib
from typing import Any

import jax
from absl import flags, logging
from ml_collections import ConfigDict

from noise_sched import command_line, experiment
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.images import Images
from noise_sched.experiment import locks, sampler, workdir
from noise_sched.figures import quality
from noise_sched.judging import catalogue, extraction, model_images, sampler_cells, sources
from noise_sched.judging.judge import Judge
from noise_sched.judging.sampler_cells import AXES
from noise_sched.sweeping.shared import Programs
from noise_sched.training import files

TABLE, PICTURE, REQUEST = "sweep.csv", "sweep.png", "sweep.json"


def sweep(
    config: ConfigDict,
    folder: pathlib.Path,
    out: pathlib.Path,
    choices: dict[str, list[Any]],
    *,
    num_images: int = 1000,
    metrics: list[str] | None = None,
    real: Images | None = None,
    step: int | str | None = None,
    cache: pathlib.Path,
    weights: str = "",
) -> list[dict[str, Any]]:
    """Draws and judges one model with many samplers.

    Args:
      config: the workdir's config.
      folder: the workdir.
      out: where the table and the picture go.
      choices: specs, and numbers of steps, by the keys of `AXES`.
      num_images: how many each sampler draws.
      metrics: names of `catalogue.METRICS`; None are all that need no published weights.
      real: the real images; None is the training data.
      step: of the checkpoint; None is the newest, "best" that of config.eval.best.
      cache: a folder for features.
      weights: a folder of published weights.

    Returns:
      The table's rows: `AXES`, "nfe", and each metric's figures.

    Raises:
      ValueError, OSError: choices that cannot work, all of them named, before anything is drawn; an `out`
        that holds another sweep.
    """
    cells = sampler_cells.cells(config, choices)
    real = sources.training_data(config) if real is None else real
    exp = experiment.from_config(config)
    labelled = bool(config.network.num_classes)
    metrics = metrics or catalogue.without_weights(num_images, labelled, real)
    judge = Judge(real, exp.image_shape, metrics, cache, weights=weights, beside=False)
    judge.check_count("--num_images", num_images, labelled)
    step, params, guide = sampler.restore(exp, folder, step)
    request = {
        "workdir": folder.name,
        "step": step,
        "num_images": num_images,
        "seed": config.sample.seed,
        "metrics": metrics,
        "reference": real.name,
    }
    _rows(out, request)  # before a lock file is put into a foreign folder
    with locks.hold(out, "--out"):
        rows = _rows(out, request)
        if not (out / REQUEST).exists():
            files.write_text(out / REQUEST, json.dumps(request, indent=1) + "\n")
        known = {_key(row) for row in rows}
        programs = Programs(guide[0])
        todo = [cell for cell in cells if _key(cell) not in known]
        for number, cell in enumerate(todo, start=1):
            print(f"{number} of {len(todo)}: {sampler_cells.name_of(cell)}", flush=True)
            of_cell = experiment.from_config(sampler_cells.config_of(config, cell))
            images = model_images.model_images(
                of_cell,
                params,
                num_images,
                sampler_cells.name_of(cell),
                guide=guide,
                run=programs.sampler(of_cell, of_cell.hyper),
            )
            report = judge(images)
            extraction.forget(report.generated)
            passes = sampler_cells.network_passes(of_cell)
            rows.append({**cell, "nfe": passes, **report.figures()})
            if jax.process_index() == 0:
                _write(out / TABLE, rows)
                quality.draw(out / PICTURE, rows, AXES)
    return rows


def _rows(out: pathlib.Path, request: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows that are there; a folder of another sweep, or of something else, is refused."""
    there = {path.name for path in out.iterdir()} - {locks.NAME} if out.is_dir() else set()
    if REQUEST not in there and there:
        raise EvaluationInputError(
            f"--out={out} is not empty and holds no sweep. Give a new folder: nothing is overwritten."
        )
    if REQUEST not in there:
        return []
    found = json.loads((out / REQUEST).read_text())
    different = [key for key in request if found.get(key) != request[key]]
    if different:
        lines = "".join(
            f"\n  {key}: {found.get(key)!r} there, {request[key]!r} given" for key in different
        )
        raise EvaluationInputError(f"--out={out} holds another sweep:{lines}\nGive another folder.")
    if TABLE not in there:
        return []
    with (out / TABLE).open(newline="", encoding="utf-8") as file:
        return [_typed(row) for row in csv.DictReader(file)]


def _typed(row: dict[str, str]) -> dict[str, Any]:
    numbers = {name: float(value) for name, value in row.items() if name not in AXES}
    return {**row, **numbers, "steps": int(row["steps"]), "nfe": int(row["nfe"])}


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[axis]) for axis in AXES)


def _write(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files.write_text(path, text.getvalue())


def main() -> None:
    """Sweeps what the flags say; a mistake in the input ends in one message."""
    logging.set_verbosity(logging.WARNING)
    options = flags.FLAGS
    with command_line.clear_errors():
        folder = command_line.folder("workdir", "--workdir=runs/digits")
        out = command_line.required("out", "--out=runs/digits/sweep")
        command_line.check_path("out", out)
        workdir.load_config(folder)
        if options.metrics is not None:
            catalogue.check_names(options.metrics)
        choices: dict[str, Any] = {n: options[n].value for n in AXES if options[n].value}
        if options.steps:
            choices["steps"] = [_whole(text) for text in options.steps]
        real = None
        if options.reference is not None:
            real = sources.open_images(
                options.reference, "--reference", size=options.config.data.image_size
            )
        rows = sweep(
            options.config,
            pathlib.Path(folder),
            pathlib.Path(out).expanduser(),
            choices,
            num_images=options.num_images,
            metrics=options.metrics,
            real=real,
            step=command_line.step(),
            cache=pathlib.Path(options.cache).expanduser(),
            weights=options.weights,
        )
        print(f"{len(rows)} samplers: {out}/{TABLE}\nto look at: {out}/{PICTURE}")


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise EvaluationInputError(
            f"--steps: {text!r} is no whole number. Write --steps=5,10,20."
        ) from None


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    flags.DEFINE_string("workdir", None, "The folder that training wrote.")
    flags.DEFINE_string("out", None, "A folder for the table and the picture.")
    flags.DEFINE_list("steps", None, "Numbers of steps, comma-separated.")
    for axis in ("solver", "grid", "schedule", "guidance"):
        flags.DEFINE_multi_string(
            axis, None, f"A {axis}, as config.sample.{axis}; may be repeated."
        )
    flags.DEFINE_integer("num_images", 1000, "How many each sampler draws.", lower_bound=2)
    flags.DEFINE_list("metrics", None, f"Comma-separated: {', '.join(catalogue.METRICS)}.")
    flags.DEFINE_string("reference", None, "The real images; the training data by default.")
    command_line.define_step()
    flags.DEFINE_string("weights", "", "A folder of published weights (Inception, DINOv2).")
    flags.DEFINE_string("cache", sources.CACHE, "A folder for features.")
    command_line.define_workdir_config("workdir")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
