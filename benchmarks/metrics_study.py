"""Which fault does each metric see? Faults put into real images, under every metric without weights.

    pip install scikit-image   # its photographs
    python -m benchmarks.metrics_study --out=docs/results/metrics.jsonl
    python -m benchmarks.metrics_study --table --picture=docs/results/metrics.png

A data set is cut into two halves at random; one is the reference, the other is damaged in a known way and
judged. Undamaged, it shows what chance gives. Five seeds: of the halves, the damage and the classifier.
Rows that are in the file are not measured again.
"""

import io
import json
import pathlib
import tempfile
from collections.abc import Callable

import numpy as np
from absl import app, flags, logging
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from noise_sched.evaluation.image_set import ImageSet, image_set
from noise_sched.figures import palette
from noise_sched.judging import extraction, sources
from noise_sched.judging.judge import Judge

_OUT = flags.DEFINE_string("out", "docs/results/metrics.jsonl", "One JSON object per row.")
_SEEDS = flags.DEFINE_integer("seeds", 5, "How many.")
_TABLE = flags.DEFINE_bool("table", False, "Only print the file as Markdown.")
_PICTURE = flags.DEFINE_string("picture", None, "A PNG to draw of the file.")

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina")
PATCH, PATCHES = 32, 160  # pixels; of each photograph
FIGURES = {
    "class_agreement/agreement": "class agreement",
    "class_fd/distance": "class FD",
    "swd/distance": "SWD",
    "spectrum/distance": "spectrum (dB)",
    "brightness/distance": "brightness",
    "contrast/distance": "contrast",
    "nearest/far": "far from all real",
    "nearest/copies": "copies",
    "kernel_distance/distance": "kernel distance",
}
Damage = Callable[[ImageSet, ImageSet, np.random.Generator], ImageSet]


def digits() -> ImageSet:
    """All 1,797."""
    opened = sources.open_images("digits")
    return image_set("digits", *opened.read(0, len(opened)))


def patches() -> ImageSet:
    """Patches of photographs that do not overlap; the photograph is the class."""
    import skimage.data
    from sklearn import datasets

    photographs = [getattr(skimage.data, name)()[..., :3] for name in PHOTOGRAPHS]
    photographs += [np.asarray(each) for each in datasets.load_sample_images().images]
    rng = np.random.default_rng(0)
    images, labels = [], []
    for label, photograph in enumerate(photographs):
        rows, columns = (side // PATCH for side in photograph.shape[:2])
        whole = photograph[: rows * PATCH, : columns * PATCH]
        cut = (
            whole.reshape(rows, PATCH, columns, PATCH, 3)
            .swapaxes(1, 2)
            .reshape(-1, PATCH, PATCH, 3)
        )
        # The retina and the deep field are black at their borders: a patch has to show something.
        cut = cut[cut.std(axis=(1, 2, 3)) > 5]
        images.append(cut[rng.permutation(len(cut))[:PATCHES]])
        labels += [label] * len(images[-1])
    return image_set("patches", np.concatenate(images), np.array(labels))


DATA = {"digits": digits, "patches": patches}


def _pixelwise(function: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> Damage:
    """A damage of the pixels, [n, h, w, c] in [0, 1]."""

    def damage(images: ImageSet, real: ImageSet, rng: np.random.Generator) -> ImageSet:
        made = np.clip(function(images.images / 255, rng), 0, 1)
        return image_set("made", np.round(made * 255).astype(np.uint8), images.labels)

    return damage


def _blur(sigma: float) -> Damage:
    return _pixelwise(
        lambda x, rng: ndimage.gaussian_filter(x, (0, sigma, sigma, 0), mode="nearest")
    )


def _noise(std: float) -> Damage:
    return _pixelwise(lambda x, rng: x + std * rng.standard_normal(x.shape))


def _grey(contrast: float) -> Damage:
    return _pixelwise(lambda x, rng: 0.5 + contrast * (x - 0.5))


def _medium(share: float) -> Damage:
    """The mean of each image goes to that of all: Lin et al.'s flaw."""

    def function(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        mean = x.mean(axis=(1, 2, 3), keepdims=True)
        return x + share * (x.mean() - mean)

    return _pixelwise(function)


def _jpeg(quality: int) -> Damage:
    def once(image: np.ndarray) -> np.ndarray:
        stream = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(
            stream, "jpeg", quality=quality
        )
        read = np.asarray(Image.open(stream))
        return read[..., None] if read.ndim == 2 else read

    return lambda images, real, rng: image_set(
        "made", np.stack([once(image) for image in images.images]), images.labels
    )


def _chosen(choose: Callable[[ImageSet, np.random.Generator], np.ndarray]) -> Damage:
    def damage(images: ImageSet, real: ImageSet, rng: np.random.Generator) -> ImageSet:
        rows = choose(images, rng)
        return image_set("made", images.images[rows], images.labels[rows])

    return damage


def _dropped(classes: int) -> Damage:
    """Some classes are missing; the others are drawn again in their place."""

    def choose(images: ImageSet, rng: np.random.Generator) -> np.ndarray:
        missing = rng.permutation(int(images.labels.max()) + 1)[:classes]
        kept = np.flatnonzero(~np.isin(images.labels, missing))
        return np.concatenate([kept, rng.choice(kept, len(images) - len(kept))])

    return _chosen(choose)


def _collapsed(distinct: int) -> Damage:
    """So many different images, again and again."""
    return _chosen(
        lambda images, rng: np.resize(rng.permutation(len(images))[:distinct], len(images))
    )


def _memorized(share: float) -> Damage:
    """That share of the images are images of the reference."""

    def damage(images: ImageSet, real: ImageSet, rng: np.random.Generator) -> ImageSet:
        count = round(share * min(len(images), len(real)))
        mine, theirs = rng.permutation(len(images))[count:], rng.permutation(len(real))[:count]
        return image_set(
            "made",
            np.concatenate([images.images[mine], real.images[theirs]]),
            np.concatenate([images.labels[mine], real.labels[theirs]]),
        )

    return damage


DAMAGES: dict[str, Damage] = {
    "none": lambda images, real, rng: images,
    "blur 0.4 px": _blur(0.4),
    "blur 0.8 px": _blur(0.8),
    "noise 0.02": _noise(0.02),
    "noise 0.1": _noise(0.1),
    "JPEG 90": _jpeg(90),
    "JPEG 50": _jpeg(50),
    "1 class dropped": _dropped(1),
    "3 classes dropped": _dropped(3),
    "100 distinct": _collapsed(100),
    "20 distinct": _collapsed(20),
    "contrast 0.8": _grey(0.8),
    "contrast 0.4": _grey(0.4),
    "brightness 1/2 to mean": _medium(0.5),
    "brightness to mean": _medium(1.0),
    "10 % memorized": _memorized(0.1),
    "all memorized": _memorized(1.0),
}


def halves(data: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    """Two halves of a data set, each class in proportion."""
    order = np.random.default_rng(seed).permutation(len(data))
    order = order[np.argsort(data.labels[order], kind="stable")]
    first, second = order[::2], order[1::2]
    return tuple(
        image_set(f"{data.name}, half", data.images[rows], data.labels[rows])
        for rows in (first, second)
    )


def measure(path: pathlib.Path) -> None:
    """Adds the rows that are missing."""
    known = {(row["data"], row["seed"], row["damage"]) for row in read(path)}
    metrics = sorted({name.split("/")[0] for name in FIGURES})
    for data_name, open_data in DATA.items():
        data = open_data()
        for seed in range(_SEEDS.value):
            todo = [name for name in DAMAGES if (data_name, seed, name) not in known]
            if not todo:
                continue
            images, real = halves(data, seed)
            with tempfile.TemporaryDirectory() as cache:
                judge = Judge(
                    real, real.shape, metrics, pathlib.Path(cache), beside=False, seed=seed
                )
                for name in todo:
                    rng = np.random.default_rng([seed, len(name)])
                    report = judge(DAMAGES[name](images, real, rng))
                    extraction.forget(report.generated)
                    settings = report.about["extractors"]["classifier"]
                    row = {
                        "data": data_name,
                        "seed": seed,
                        "damage": name,
                        "held_out_accuracy": settings["held_out_accuracy"],
                        **report.figures(),
                    }
                    with path.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(data_name, seed, name, flush=True)


def read(path: pathlib.Path) -> list[dict]:
    """The rows of a file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summary(rows: list[dict], data: str) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard deviation over the seeds, by figure and damage."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for figure in FIGURES:
        found[figure] = {}
        for damage in DAMAGES:
            values = [r[figure] for r in rows if r["data"] == data and r["damage"] == damage]
            if values:
                found[figure][damage] = float(np.mean(values)), float(np.std(values, ddof=1))
    return found


def table(rows: list[dict], data: str) -> str:
    """As Markdown: mean ± standard deviation; bold what is more than three of them from no damage."""
    found = summary(rows, data)
    lines = ["| damage | " + " | ".join(FIGURES.values()) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for damage in DAMAGES:
        cells = []
        for figure in FIGURES:
            mean, std = found[figure][damage]
            text = f"{mean:.3g} ± {std:.1g}"
            cells.append(f"**{text}**" if seen(found[figure], damage) else text)
        lines.append(f"| {damage} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seen(values: dict[str, tuple[float, float]], damage: str) -> bool:
    """Whether a figure is further from that of no damage than three times their spread over the seeds."""
    (mean, std), (base, base_std) = values[damage], values["none"]
    return damage != "none" and abs(mean - base) > 3 * np.hypot(std, base_std)


def picture(rows: list[dict], path: pathlib.Path) -> None:
    """One panel per figure: each damage beside no damage, on both data sets."""
    figure = Figure(figsize=(8, 15), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(5, 2, sharey=True)
    panels.flat[-1].set_axis_off()
    places = np.arange(len(DAMAGES))[::-1]
    for panel, (name, title) in zip(panels.flat, FIGURES.items(), strict=False):
        for offset, data, colour in (
            (0.2, "digits", palette.colour(0)),
            (-0.2, "patches", palette.colour(5)),
        ):
            values = summary(rows, data)[name]
            base = abs(values["none"][0]) or 1.0
            scale = 1.0 if name in _SHARES else base
            mean, std = (np.array([values[d][i] for d in DAMAGES]) / scale for i in (0, 1))
            panel.errorbar(
                mean, places + offset, xerr=std, fmt="o", ms=4, color=colour, label=data, capsize=2
            )
            panel.axvline(values["none"][0] / scale, color=colour, lw=0.8, ls=":")
        panel.set_title(title)
        if name in _SHARES:
            panel.set_xlabel("share of the images")
        else:
            panel.set_xscale("symlog", linthresh=1)
            panel.set_xlabel("times its value without damage")
        panel.grid(axis="y", lw=0.3)
        panel.set_yticks(places, list(DAMAGES))
    panels.flat[0].legend(loc="lower left")
    figure.savefig(path, dpi=110)


_SHARES = ("class_agreement/agreement", "nearest/far", "nearest/copies")


def main(_) -> None:
    """Measures, or prints and draws."""
    logging.set_verbosity(logging.WARNING)
    path = pathlib.Path(_OUT.value)
    if not _TABLE.value:
        measure(path)
    for data in DATA:
        print(f"\n## {data}\n\n{table(read(path), data)}")
    if _PICTURE.value:
        picture(read(path), pathlib.Path(_PICTURE.value))


if __name__ == "__main__":
    app.run(main)
