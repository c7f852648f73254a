"""What `calibrate` says of the images beside what a grid of trainings says: the ratio of the best b.

    python -m noise_sched.sweep --sweep=configs/sweeps/calibration_grid.py:random_fields --workdir=runs/fields
    python -m benchmarks.calibration_check runs/fields --figure=spectrum/distance

At each of two resolutions a parabola in ln b is laid through the logarithm of a figure, near its least
value; its vertex is the best b. The ratio of the two is held beside the one that `calibrate` computes from
the images with the measured b of the lower resolution as its anchor, beside (low / high) and its square
root. Errors are what training seeds leave open: the figures are drawn anew around their means, 2,000 times.
"""

import argparse
import pathlib

import numpy as np

from noise_sched.calibration import calibrate_batches
from noise_sched.data import open_source
from noise_sched.sweeping import record, results

_IMAGES, _BATCH, _DRAWS, _NEAR = 2000, 250, 2000, 5


def figures(sweep: results.Sweep, figure: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(b in rising order, ln figure [b, seed]) of one resolution."""
    found: dict[float, list[float]] = {}
    for result in sweep.results:
        if result.labels["size"] == size and figure in result.figures:
            found.setdefault(float(result.labels["b"]), []).append(result.figures[figure])
    scales = np.asarray(sorted(found))
    values = np.asarray([found[b] for b in scales])
    if not len(values) or values.min() <= 0:
        raise SystemExit(f"error: {figure} is missing or not positive at {size} px: take another.")
    return scales, np.log(values)


def best(scales: np.ndarray, values: np.ndarray) -> float:
    """The vertex of a parabola in ln b through the five values around the least; an end where it has none."""
    least = int(np.argmin(values))
    first = int(np.clip(least - _NEAR // 2, 0, max(len(scales) - _NEAR, 0)))
    x, y = np.log(scales[first : first + _NEAR]), values[first : first + _NEAR]
    curve, slope, _ = np.polyfit(x, y, 2)
    if curve <= 0:
        return float(scales[least])
    return float(np.exp(np.clip(-slope / (2 * curve), np.log(scales[0]), np.log(scales[-1]))))


def drawn(scales: np.ndarray, values: np.ndarray, seed: int) -> np.ndarray:
    """Best b of figures drawn anew: their means, and the spread of seeds pooled over the column."""
    draw, count = np.random.default_rng(seed), values.shape[1]
    spread = np.sqrt(np.mean(np.var(values, axis=1, ddof=1)) / count)
    means = values.mean(axis=1)
    again = means + spread * draw.standard_normal((_DRAWS, len(means)))
    return np.asarray([best(scales, row) for row in again])


def predicted(data: str, sizes: tuple[int, int], anchor: float) -> float:
    """The ratio that the images alone give."""
    sources = [open_source(data, image_size=s, split="train", channels=None) for s in sizes[::-1]]
    pairs = (
        tuple(np.asarray(s.gather(np.arange(i, i + _BATCH))["image"]) for s in sources)
        for i in range(0, _IMAGES, _BATCH)
    )
    found = calibrate_batches(pairs, anchor_scale=anchor)
    return found.scale / anchor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=pathlib.Path)
    parser.add_argument("--figure", nargs="*", default=["spectrum/distance"])
    options = parser.parse_args()
    sweep = results.read(options.sweep)
    data = record.load(options.sweep).cells[0].config.data.name
    low, high = sorted({result.labels["size"] for result in sweep.results})
    print(
        f"| data | figure | best b at {low} px | at {high} px | ratio | from the images | {low}/{high} "
        "| its root |"
    )
    print("|---" * 8 + "|")
    for figure in options.figure:
        curves = [figures(sweep, figure, size) for size in (low, high)]
        bests = [best(scales, values.mean(axis=1)) for scales, values in curves]
        draws = [drawn(*curve, seed) for seed, curve in enumerate(curves)]
        ends = [np.quantile(d, (0.05, 0.95)) for d in (*draws, draws[1] / draws[0])]
        told = [
            f"{b:.2f} ({e[0]:.2f} to {e[1]:.2f})"
            for b, e in zip([*bests, bests[1] / bests[0]], ends, strict=True)
        ]
        ratio = predicted(data, (low, high), bests[0])
        print(
            f"| `{data}` | {figure} | {' | '.join(told)} | {ratio:.2f} | {low / high:.2f} | "
            f"{(low / high) ** 0.5:.2f} |"
        )


if __name__ == "__main__":
    main()
