"""How dark and bright are the images? Zero terminal SNR beside the schedule that it mends.

    for run in mended flawed; do
      variant=$([ $run = flawed ] && echo :flawed || true)
      python -m noise_sched.train --config=configs/zero_terminal_snr.py$variant --workdir=runs/$run
      python -m noise_sched.sample --workdir=runs/$run --num_images=1000 --out=runs/$run/samples
    done
    python -m benchmarks.brightness --mended=runs/mended/samples --flawed=runs/flawed/samples \
        --out=docs/results/brightness.png

Prints the figures as Markdown and draws the histograms and some images of each.
"""

import pathlib

import numpy as np
from absl import app, flags, logging

from noise_sched.data import open_source
from noise_sched.figures import curves

DARK_OR_BRIGHT = 0.6  # |brightness| beyond which an image is called so
SHOWN = (6, 6)  # rows and columns of images
BINS = np.linspace(-1, 1, 41)


def brightness(images: np.ndarray) -> np.ndarray:
    """The mean of each image in [-1, 1], of images [count, ...] in [-1, 1]."""
    return images.reshape(len(images), -1).mean(axis=1)


def wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    """Wasserstein-1 distance of two sets of numbers: the mean distance of their quantiles."""
    share = (np.arange(10_000) + 0.5) / 10_000
    return float(np.abs(np.quantile(a, share) - np.quantile(b, share)).mean())


def figures(found: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """What the table says of a set of brightnesses."""
    return {
        "standard deviation": float(found.std()),
        "dark or bright": float((np.abs(found) > DARK_OR_BRIGHT).mean()),
        "distance to the data": wasserstein(found, real),
    }


def table(sets: dict[str, np.ndarray]) -> str:
    """The figures of each set as Markdown; the data is the set "data"."""
    real = sets["data"]
    # What 1,000 real images would score, as a floor.
    some = np.random.default_rng(0).choice(real, 1000, replace=False)
    rows = {"data": figures(real, real), "1,000 of the data": figures(some, real)}
    rows |= {name: figures(found, real) for name, found in sets.items() if name != "data"}
    names = list(rows["data"])
    lines = ["| images | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[key]:.3f}" for key in names) + " |")
    return "\n".join(lines)


def draw(sets: dict[str, np.ndarray], path: pathlib.Path) -> None:
    """Images of each set above the histogram of its brightness."""
    axes = curves.panels(len(sets), 2, width=3.2, height=2.8)
    real = brightness(sets["data"])
    tallest = 0.0
    for column, (name, images) in enumerate(sets.items()):
        top, bottom = axes[column], axes[column + len(sets)]
        rows, columns = SHOWN
        some = images[: rows * columns, ..., 0].reshape(rows, columns, *images.shape[1:3])
        some = np.pad(some, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=1)
        some = some.transpose(0, 2, 1, 3).reshape(rows * some.shape[2], -1)
        top.imshow(some, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
        top.set(title=name, xticks=[], yticks=[])
        found = brightness(images)
        heights = bottom.hist(found, BINS, density=True, color="0.6" if column == 0 else "C0")[0]
        if column:
            bottom.hist(real, BINS, density=True, histtype="step", color="black", linewidth=0.8)
        bottom.set(xlabel="mean brightness", yticks=[], xlim=(-1, 1))
        tallest = max(tallest, *heights)
    for each in axes[len(sets) :]:
        each.set_ylim(0, 1.05 * tallest)
    axes[0].figure.savefig(path, dpi=110, metadata={"Software": None})


def read(folder: str) -> np.ndarray:
    """The images of a folder of samples, in [-1, 1]."""
    with np.load(pathlib.Path(folder) / "samples.npz") as found:
        return found["images"].astype(np.float32) / 127.5 - 1


def main(_) -> None:
    """Prints the table and draws the picture."""
    logging.set_verbosity(logging.WARNING)
    source = open_source("brightness", image_size=None)
    sets = {
        "data": source.gather(np.arange(len(source)))["image"],
        "flawed": read(flags.FLAGS.flawed),
        "zero terminal SNR": read(flags.FLAGS.mended),
    }
    print(table({name: brightness(images) for name, images in sets.items()}))
    path = pathlib.Path(flags.FLAGS.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(sets, path)


if __name__ == "__main__":
    flags.DEFINE_string("mended", "runs/mended/samples", "Where its samples lie.")
    flags.DEFINE_string("flawed", "runs/flawed/samples", "Where its samples lie.")
    flags.DEFINE_string("out", "docs/results/brightness.png", "The picture.")
    app.run(main)
