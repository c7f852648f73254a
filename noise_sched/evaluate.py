r"""Judges images: `python -m noise_sched.evaluate`.

    python -m noise_sched.evaluate --images=runs/digits/samples --reference=digits \
        --metrics=class_agreement,contrast,nearest,kernel_distance --out=report.json

`--images` is an .npz with `images` and `labels`, as `noise_sched.sample` writes it, or a folder of
PNGs. A table is printed; `--out` keeps the figures as JSON. The metrics are explained in the files
of `noise_sched/evaluation`.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from noise_sched import command_line
from noise_sched.evaluation import report
from noise_sched.evaluation.class_agreement import class_agreement_of
from noise_sched.evaluation.contrast import contrast
from noise_sched.evaluation.image_set import (
    EvaluationInputError,
    ImageSet,
    read_image_set,
)
from noise_sched.evaluation.kernel_distance import kernel_distance
from noise_sched.evaluation.nearest import nearest
from noise_sched.evaluation.references import REFERENCES, check_same_shape, reference
from noise_sched.messages import did_you_mean


def _class_agreement(images: ImageSet, real: ImageSet) -> Any:
    if real.name != "digits":
        raise EvaluationInputError(
            f"class_agreement has a classifier for digits only; the reference is {real.name}."
        )
    return class_agreement_of(images)


# Each takes the images and the real ones and returns a dataclass: a new metric is one line here.
METRICS: dict[str, Callable[[ImageSet, ImageSet], Any]] = {
    "class_agreement": _class_agreement,
    "contrast": contrast,
    "nearest": nearest,
    "kernel_distance": kernel_distance,
}


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuses a list of metrics that is empty, repeats one or has one that there is not.

    Raises:
      EvaluationInputError: naming it, and the nearest that there is.
    """
    if not metrics:
        raise EvaluationInputError(
            f"--metrics= names no metric. {did_you_mean('', sorted(METRICS))}"
        )
    for name in metrics:
        if name not in METRICS:
            raise EvaluationInputError(
                f"There is no metric {name!r}. {did_you_mean(name, sorted(METRICS))}"
            )
    repeated = sorted({name for name in metrics if metrics.count(name) > 1})
    if repeated:
        raise EvaluationInputError(
            f"--metrics={','.join(metrics)} names {' and '.join(repeated)} twice: name each metric once."
        )


def evaluate(images: ImageSet, real: ImageSet, metrics: Sequence[str]) -> dict[str, Any]:
    """The results of the metrics by name, in the order given.

    Raises:
      EvaluationInputError: an unknown metric, or images that a metric cannot judge.
    """
    check_metrics(metrics)
    check_same_shape(images, real)
    return {name: METRICS[name](images, real) for name in metrics}


def judge(
    path: str | pathlib.Path,
    reference_name: str,
    metrics: Sequence[str],
    out: str | pathlib.Path | None = None,
    overwrite: bool = False,
) -> None:
    """Reads images, judges them, prints the tables and writes the report.

    Args:
      path: an .npz file or a folder of PNGs.
      reference_name: the real images to compare with.
      metrics: names of `METRICS`.
      out: the JSON file to write, if any.
      overwrite: whether `out` may be replaced when it holds another report.

    Raises:
      EvaluationInputError: a name or a file that is none, images that cannot be judged, or an `out`
        that holds another report.
    """
    check_metrics(metrics)
    real = reference(reference_name)
    if out:
        report.check_place(out, real.name, metrics, overwrite)
    images = read_image_set(path)
    results = evaluate(images, real, metrics)

    print(f"{len(images)} images of {images.name} beside {len(real)} real ones ({real.name})")
    for name, result in results.items():
        print(f"\n{report.table(name, result)}")
    if out:
        about = {"images": images.name, "count": len(images), "reference": real.name}
        report.write(out, report.as_json(about | results), overwrite)
        print(f"\nWritten to {out}")


def main() -> None:
    """Judges what the flags say; a mistake in the input ends in one message."""
    options = flags.FLAGS
    with command_line.clear_errors():
        images = command_line.required("images", "--images=runs/digits/samples")
        command_line.check_local("images", images)
        if options.out is not None:
            command_line.check_path("out", options.out)
        judge(images, options.reference, options.metrics, options.out, options.overwrite)


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    flags.DEFINE_string("images", None, "An .npz file, or a folder of PNGs.")
    flags.DEFINE_string("reference", "digits", f"The real images: {', '.join(REFERENCES)}.")
    flags.DEFINE_list("metrics", ["class_agreement"], f"Comma-separated: {', '.join(METRICS)}.")
    flags.DEFINE_string("out", None, "A file to keep the report in, as JSON.")
    flags.DEFINE_bool("overwrite", False, "Whether --out may replace another report.")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
