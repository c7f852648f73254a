"""Does the best input scale fall with resolution? Read from a finished sweep of input_scale_grid.py.

    python -m benchmarks.best_scale runs/sweeps/mnist5k_input_scale_grid --figure=class_fd/distance

For each schedule and resolution: the best b, how likely each b is the best, and between which two the best
lies with 90 % probability, given what training seeds do (`noise_sched.sweeping.significance.winners`); and
how likely the best b is below the one at the resolution before it.
"""

import argparse
import pathlib

import numpy as np

from noise_sched.sweeping import results, significance


def of_setting(sweep: results.Sweep, figure: str, schedule: str, size: int) -> np.ndarray:
    """Draws of the best b, one for each draw of the means."""
    values = {
        (result.labels["b"], result.seed): result.figures[figure]
        for result in sweep.results
        if (result.labels["schedule"], result.labels["size"]) == (schedule, size)
        and figure in result.figures
    }
    # A seed for each setting: draws of different settings are independent.
    scales, found = significance.winners(values, sweep.better[figure], seed=size)
    return np.asarray(scales, float)[found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", type=pathlib.Path)
    parser.add_argument("--figure", default="class_fd/distance")
    options = parser.parse_args()
    sweep = results.read(options.sweep)
    labels = {
        axis: list(dict.fromkeys(result.labels[axis] for result in sweep.results))
        for axis in ("schedule", "size", "b")
    }
    print(f"{options.figure}\n")
    print(
        "| schedule | size | best b | 90 % between | "
        + " | ".join(map(str, labels["b"]))
        + " | falls |"
    )
    print("|---" * (5 + len(labels["b"])) + "|")
    for schedule in labels["schedule"]:
        before = None
        for size in labels["size"]:
            drawn = of_setting(sweep, options.figure, schedule, size)
            if not len(drawn):
                continue
            shares = [np.mean(drawn == b) for b in labels["b"]]
            low, high = np.quantile(drawn, (0.05, 0.95), method="nearest")
            falls = "" if before is None else f"{np.mean(drawn < before):.0%}"
            cells = " | ".join(f"{share:.0%}" for share in shares)
            best = labels["b"][int(np.argmax(shares))]
            print(f"| `{schedule}` | {size} | {best} | {low} to {high} | {cells} | {falls} |")
            before = drawn


if __name__ == "__main__":
    main()
