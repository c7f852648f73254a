r"""Finds the input scale b for a resolution from the images alone: `python -m noise_sched.calibrate`.

    python -m noise_sched.calibrate --data=folder:photos --size=256
    python -m noise_sched.calibrate --data=dead_leaves --size=32 --anchor_size=8 --out=runs/calibration

`--anchor_size` and `--anchor_scale` are a resolution at which a good b is known: 64 pixels and 1 in Chen
2023. What is printed ends with the line of a config; `--out=FOLDER` keeps calibration.json and
calibration.png. The equations are in noise_sched/calibration/explained.py. Experimental: try b / 1.4, b and
1.4 b.
"""

import dataclasses
import json
import warnings
from collections.abc import Iterator

import numpy as np
from absl import flags, logging

from noise_sched import command_line
from noise_sched.calibration import Calibration, calibrate_batches, figure
from noise_sched.data import open_source
from noise_sched.data.sources import Source
from noise_sched.training import files

_BATCH = 64
_NOT_KEPT = ("variances", "anchor_variances")


def main() -> None:
    """Calibrates on what the flags say; a mistake in the input ends in one message."""
    logging.set_verbosity(logging.WARNING)
    options = flags.FLAGS
    with command_line.clear_errors():
        name = command_line.required("data", "--data=folder:photos")
        size = int(command_line.required("size", "--size=256"))
        place = command_line.out_folder(options.out)
        sources = [_opened(name, each) for each in (size, options.anchor_size)]
        count = min(len(sources[0]), options.num_images)
        found = calibrate_batches(_pairs(sources, count), anchor_scale=options.anchor_scale)
    print(as_text(found, name))
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        files.write_text(place / "calibration.json", as_json(found, name))
        figure.draw(found, place / "calibration.png", name)
        print(f"\nWritten to {place}; to look at: {place / 'calibration.png'}")


def as_text(found: Calibration, name: str) -> str:
    """What is printed."""
    tried = ", ".join(f"{scale:.3g}" for scale in found.sweep)
    rows = [
        (
            f"b at {found.size} px",
            f"{found.scale:.3g}, 90 % from {found.low:.3g} to {found.high:.3g}",
        ),
        (f"b at {found.anchor_size} px", f"{found.anchor_scale:.3g}, given"),
        (
            f"{found.anchor_size} / {found.size} of it",
            f"{found.inverse_size:.3g}, the rule of thumb",
        ),
        ("explained", f"{found.explained:.1%} of the variance, at both sizes"),
        ("spectrum", f"falls with the frequency to the power {found.spectrum.exponent:.2f}"),
    ]
    lines = [
        f"{found.images:,} images of {name}",
        "",
        *(f"  {what:<16}  {value}" for what, value in rows),
        *(f"\nwarning: {each}" for each in found.warnings),
        "",
        f"Experimental; try three: {tried}. In a config:",
        f"  {found.config_line}",
    ]
    return "\n".join(lines)


def as_json(found: Calibration, name: str) -> str:
    """What is kept: the figures and both spectra."""
    kept = {
        field.name: getattr(found, field.name)
        for field in dataclasses.fields(found)
        if field.name not in _NOT_KEPT
    }
    for field in ("spectrum", "anchor_spectrum"):
        kept[field] = {key: np.asarray(value).tolist() for key, value in vars(kept[field]).items()}
    return json.dumps({"data": name, **kept, "config": found.config_line}, indent=1) + "\n"


def _opened(name: str, size: int) -> Source:
    options = flags.FLAGS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that images are enlarged, which is refused below
        source = open_source(
            name,
            image_size=size,
            split=options.split,
            data_dir=options.data_dir or None,
            channels=options.channels,
            memory_budget=0,  # the images are read once, in order
        )
    side = source.smallest_side
    if side is not None and side < size:
        raise ValueError(
            f"--data={name} has images with a side of {side} pixels, less than {size}: enlarged, they have "
            "no detail there, and b would come out too small. Give a smaller --size or --anchor_size, or "
            "larger images."
        )
    return source


def _pairs(sources: list[Source], count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images spread over the whole set, as sets may be sorted by class."""
    wanted = np.arange(count) * len(sources[0]) // count
    for start in range(0, count, _BATCH):
        one, other = (source.gather(wanted[start : start + _BATCH])["image"] for source in sources)
        yield np.asarray(one), np.asarray(other)


def _define_flags() -> None:
    flags.DEFINE_string("data", None, "A data set by name: folder:PATH, mnist5k, cifar10, ...")
    flags.DEFINE_integer("size", None, "The side in pixels that b is wanted for.", lower_bound=2)
    flags.DEFINE_integer("anchor_size", 64, "A side at which a good b is known.", lower_bound=2)
    flags.DEFINE_float("anchor_scale", 1.0, "That b.", lower_bound=1e-3, upper_bound=1e3)
    flags.DEFINE_integer("num_images", 2000, "Images to read, spread over the set.", lower_bound=1)
    flags.DEFINE_string("split", "train", "Of the data set.")
    flags.DEFINE_string("data_dir", "", "TFDS's folder.")
    flags.DEFINE_integer("channels", None, "1 or 3; the data set's own without.")
    flags.DEFINE_string("out", None, "A folder for calibration.json and calibration.png.")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
