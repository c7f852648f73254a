r"""Judges images: `python -m noise_sched.evaluate`.

    python -m noise_sched.evaluate --images=runs/digits/samples --reference=digits
    python -m noise_sched.evaluate --images=runs/mine --num_images=5000 --out=runs/mine/evaluation
    python -m noise_sched.evaluate --images=samples.npz --reference=folder:photos --resize=antialias \
        --metrics=fid,kid,swd --weights=~/weights --out=report

`--images` and `--reference` each take a folder of images (class folders are labels), an .npz with `images`
and `labels`, what `noise_sched.sample` drew, a trained model's workdir (as images: `--num_images` of its
samples, drawn now; as reference: its training data), a data set (digits, folder:PATH, cifar10@test), and
`--reference` also a file of statistics (.npz or .pkl, as published with EDM, EDM2 and ADM).

A table is printed, with the same figures of real images against real ones beside them. `--out=FOLDER` keeps
metrics.json and metrics.png. Killed, the same command goes on where it was; the features of a reference are
kept in `--cache` for the next time. The metrics are explained in the files of `noise_sched/evaluation`.

On several hosts start it on each with --distributed, as training: all work, the first writes.
"""

import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import jax
from absl import flags, logging

from noise_sched import command_line
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.frechet import Statistics
from noise_sched.evaluation.images import Images
from noise_sched.judging import (
    catalogue,
    extraction,
    model_images,
    picture,
    report,
    sources,
    statistics,
)
from noise_sched.judging.judge import Judge

_MOST = 50_000  # images that are drawn of a model unless told otherwise, as published FIDs have
_RESIZE = re.compile(r"antialias(:(\d+))?")


def evaluate(
    images: Images,
    real: Images | Mapping[str, Statistics],
    metrics: Sequence[str] = (),
    *,
    out: str | pathlib.Path | None = None,
    overwrite: bool = False,
    weights: str = "",
    cache: str | pathlib.Path = sources.CACHE,
    draw: bool = True,
    seed: int = 0,
) -> report.Report:
    """Judges images, prints the table and writes the report.

    Args:
      images: the images to judge.
      real: the real ones, or statistics of them by kind of features.
      metrics: names of `catalogue.METRICS`; none are all that need no published weights.
      out: where to keep the report: a folder, or a .json file; None keeps none.
      overwrite: whether another report that is there may be replaced.
      weights: a folder of published weights; "" looks into the usual places.
      cache: a folder for features.
      draw: whether a picture is drawn beside the report.
      seed: of the classifier that is trained on the real images.

    Raises:
      EvaluationInputError: images that cannot be judged so, or a place where something else is.
    """
    metrics = list(metrics) or catalogue.without_weights(len(images), images.labelled, real)
    request = {
        "images": images.name,
        "reference": getattr(real, "name", "statistics"),
        "metrics": metrics,
    }
    place = None if out is None else report.place_of(out)
    if place is not None:
        report.check_place(place, request, overwrite)
    judge = Judge(
        real,
        images.shape,
        metrics,
        pathlib.Path(cache).expanduser(),
        weights=weights,
        name=images.name,
        seed=seed,
        also=picture.KINDS if place is not None and draw else (),
    )
    found = judge(images)
    if jax.process_index() != 0:
        return found
    beside = "" if isinstance(real, Mapping) else f" beside {len(real):,} real ones ({real.name})"
    print(f"{len(images):,} images of {images.name}{beside}\n\n{report.table(found)}")
    for note in catalogue.notes(found.about, found.results):
        print(note)
    if place is not None:
        report.write(place, report.as_json(found, request))
        print(f"\nWritten to {place}")
        if draw:
            picture.draw(images, real, found, place.with_suffix(".png"))
            print(f"to look at: {place.with_suffix('.png')}")
    extraction.forget(found.generated)
    return found


def open_pair(
    images: str,
    reference: str | None,
    resize: str,
    data_dir: str,
    drawn: Callable[[int], Images],
) -> tuple[Images, Images | Mapping[str, Statistics]]:
    """The images and the real ones that the flags name.

    Args:
      images: --images.
      reference: --reference; None is the training data of a workdir, or else digits.
      resize: --resize: "", "antialias" (the reference to the size of the images), or "antialias:SIDE" (both).
      data_dir: TFDS's folder.
      drawn: (how many unless told otherwise) -> the images of the model, where `images` is a workdir.

    Raises:
      EvaluationInputError: a name that is none, or images that cannot be read.
    """
    matched = _RESIZE.fullmatch(resize) if resize else None
    if resize and matched is None:
        raise EvaluationInputError(
            f"--resize={resize}: expected antialias (the reference is brought to the size of the images) or "
            "antialias:SIDE (both are cut to their centre square of that side)."
        )
    side = int(matched.group(2)) if matched and matched.group(2) else None
    of_model = sources.is_workdir(images)
    if reference is None:
        reference = images if of_model else "digits"
    opened = None if of_model else sources.open_images(images, size=side, data_dir=data_dir)
    real = _open_real(reference, opened, side, resize, data_dir)
    if opened is None:
        opened = drawn(_MOST if isinstance(real, Mapping) else min(_MOST, len(real)))
        opened = opened if side is None else sources.resized(opened, side)
    return opened, real


def _open_real(
    reference: str, images: Images | None, side: int | None, resize: str, data_dir: str
) -> Images | Mapping[str, Statistics]:
    if statistics.is_statistics(reference):
        return statistics.read(reference)
    if resize and side is None and images is not None:
        side = images.shape[0]
        if images.shape[1] != side:
            raise EvaluationInputError(
                f"--resize=antialias makes squares, and {images.name} has images of "
                f"{side}x{images.shape[1]}. Give a side: --resize=antialias:{min(images.shape[:2])}."
            )
    if sources.is_workdir(reference):
        real = sources.training_data_of(reference)
        return real if side is None else sources.resized(real, side)
    return sources.open_images(reference, "--reference", size=side, data_dir=data_dir)


def main() -> None:
    """Judges what the flags say; a mistake in the input ends in one message."""
    logging.set_verbosity(logging.WARNING)
    options = flags.FLAGS
    with command_line.clear_errors():
        images = command_line.required("images", "--images=runs/digits/samples")
        for name in ("images", "reference"):
            command_line.check_local(name, options[name].value or "")
        for name, path in (("out", options.out), ("cache", options.cache)):
            if path is not None:
                command_line.check_path(name, str(path))
        if options.metrics is not None:
            catalogue.check_names(options.metrics)
        step = command_line.step()
        command_line.join_hosts()
        pair = open_pair(
            images,
            options.reference,
            options.resize,
            options.data_dir,
            lambda count: model_images.of_workdir(
                options.config, images, options.num_images or count, step
            ),
        )
        evaluate(
            *pair,
            options.metrics or (),
            out=options.out,
            overwrite=options.overwrite,
            weights=options.weights,
            cache=options.cache,
            draw=options.picture,
            seed=options.seed,
        )


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    flags.DEFINE_string("images", None, "What to judge: a folder, .npz, workdir or data set.")
    flags.DEFINE_string("reference", None, "The real images: the same, or a file of statistics.")
    flags.DEFINE_list("metrics", None, f"Comma-separated: {', '.join(catalogue.METRICS)}.")
    flags.DEFINE_string("out", None, "Where to keep the report: a folder, or a .json file.")
    flags.DEFINE_bool("overwrite", False, "Whether --out may replace another report.")
    flags.DEFINE_string("resize", "", "antialias: the reference to the images' size; antialias:64.")
    flags.DEFINE_integer("num_images", None, "How many images a workdir draws.", lower_bound=1)
    command_line.define_step()
    flags.DEFINE_string("weights", "", "A folder of published weights (Inception, DINOv2).")
    flags.DEFINE_string("cache", sources.CACHE, "A folder for features.")
    flags.DEFINE_string("data_dir", "", "TFDS's folder of data sets.")
    flags.DEFINE_integer("seed", 0, "Of the classifier, for metrics with labels.", lower_bound=0)
    flags.DEFINE_bool("picture", True, "Whether a picture is drawn beside the report.")
    command_line.define_hosts()
    if "://" not in (command_line.peek("images") or ""):  # main says that addresses are not read
        command_line.define_workdir_config("images")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
