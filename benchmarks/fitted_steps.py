"""Quality against steps: levels fitted to a model beside Karras's, cosine, trailing and Align Your Steps'.

    python -m benchmarks.fitted_steps runs/precision/CELL [...] --out=docs/results/steps

For each trained workdir, solver and number of steps: the fitted levels (`fit_steps`, on a batch of its own)
and the others, each written as `from_levels(...)`, draw 1,000 images from the same noise, which are judged.
Writes OUT.json, which is gone on with, a table as OUT.table.md (the mean over workdirs of one data set and
its standard error) and OUT.png.
"""

import argparse
import json
import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from noise_sched import experiment, sampler_sweep
from noise_sched.diffusion import grids, schedules
from noise_sched.experiment import sampler, step_fitting, workdir
from noise_sched.figures import palette
from noise_sched.training import files

STEPS = (4, 6, 10, 16)
SOLVERS = ("ddim()", "dpmpp(order=2)")
FITTED, KARRAS, COSINE, TRAILING, ALIGNED = (
    "fitted",
    "karras, rho = 7",
    "cosine",
    "scaled_linear, trailing",
    "align your steps",
)
ENDS = 0.02, 20.0  # of sigma / alpha, for those that need ends


def others(steps: int) -> dict[str, str]:
    """Specs of the usual levels."""
    table = schedules.zero_terminal(schedules.scaled_linear())
    paths = {
        KARRAS: schedules.karras(*ENDS).logsnr(grids.edm()(steps)),
        COSINE: schedules.plain_cosine().logsnr(grids.uniform()(steps)),
        TRAILING: table.logsnr(grids.trailing()(steps)),
        ALIGNED: schedules.align_your_steps().logsnr(grids.edm()(steps)),
    }
    return {name: step_fitting.spec_of(np.asarray(path)[:-1]) for name, path in paths.items()}


def measure(folder: pathlib.Path, known: dict, out: pathlib.Path, cache: pathlib.Path) -> None:
    """Adds the figures of one workdir to `known`, and writes it after each number of steps."""
    place = files.folder(str(folder), "workdir")
    config = workdir.load_config(place)
    model = f"{config.data.name} {folder.name}"  # cells of two sweeps may have one name
    for solver in SOLVERS:
        config.sample.solver = solver
        exp = experiment.from_config(config)
        todo = [s for s in STEPS if f"{model} {solver} {s}" not in known]
        if not todo:
            continue
        _, params, _ = sampler.restore(exp, place, None)
        rows = {row.steps: row for row in step_fitting.fit(exp, params, todo)}
        for steps in todo:
            levels = {FITTED: rows[steps].schedule, **others(steps)}
            choices = {
                "steps": [steps],
                "schedule": list(levels.values()),
                "grid": ["uniform()"],
                "solver": [solver],
            }
            found = sampler_sweep.sweep(
                config,
                place,
                cache / f"{model}-{solver}-{steps}",
                choices,
                metrics=["class_fd", "swd"],
                cache=cache / "features",
            )
            names = {text: name for name, text in levels.items()}
            known[f"{model} {solver} {steps}"] = {
                "data": config.data.name,
                "solver": solver,
                "steps": steps,
                "nfe": found[0]["nfe"],
                "figures": {
                    names[row["schedule"]]: {
                        k: float(row[k]) for k in ("class_fd/distance", "swd/distance")
                    }
                    for row in found
                },
                "errors": rows[steps].errors,
            }
            out.with_suffix(".json").write_text(json.dumps(known, indent=1) + "\n")


def gathered(known: dict, figure: str) -> dict[tuple[str, str], dict[str, dict[int, list[float]]]]:
    """(data, solver) -> levels -> passes -> the figure of each workdir."""
    found: dict = {}
    for row in known.values():
        panel = found.setdefault((row["data"], row["solver"]), {})
        for name, figures in row["figures"].items():
            panel.setdefault(name, {}).setdefault(row["nfe"], []).append(figures[figure])
    return found


def table(known: dict, figure: str) -> str:
    """Mean and standard error over workdirs; the least of a row in bold."""
    names = [FITTED, KARRAS, COSINE, TRAILING, ALIGNED]
    lines = [f"| data | solver | passes | {' | '.join(names)} |", "|---" * (3 + len(names)) + "|"]
    for (data, solver), panel in gathered(known, figure).items():
        for passes in sorted(panel[FITTED]):
            values = [np.asarray(panel[name][passes]) for name in names]
            best = int(np.argmin([v.mean() for v in values]))
            cells = []
            for index, v in enumerate(values):
                error = v.std(ddof=1) / len(v) ** 0.5 if len(v) > 1 else np.nan
                text = f"{v.mean():.3g} ± {error:.2g}"
                cells.append(f"**{text}**" if index == best else text)
            lines.append(f"| `{data}` | `{solver}` | {passes} | {' | '.join(cells)} |")
    return "\n".join(lines)


def picture(known: dict, figure: str, path: pathlib.Path) -> None:
    """A panel for each solver (across) and data set (down)."""
    panels = gathered(known, figure)
    rows = -(-len(panels) // len(SOLVERS))
    drawn = Figure(figsize=(3.8 * len(SOLVERS), 3.4 * rows), layout="constrained")
    FigureCanvasAgg(drawn)
    places = drawn.subplots(rows, len(SOLVERS), squeeze=False).flat
    for axes, ((data, solver), panel) in zip(places, panels.items(), strict=False):
        for number, (name, row) in enumerate(panel.items()):
            passes = sorted(row)
            means = [np.mean(row[p]) for p in passes]
            spread = [np.std(row[p], ddof=1) / len(row[p]) ** 0.5 for p in passes]
            style = dict(**palette.points(number), label=name, capsize=2)
            axes.errorbar(passes, means, spread, **style)
        axes.set(title=f"{data}, {solver}", xlabel="network passes", ylabel=figure)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    drawn.axes[0].legend(fontsize="small")
    drawn.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workdirs", type=pathlib.Path, nargs="*")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path("runs/fitted_steps"))
    parser.add_argument("--figure", default="class_fd/distance")
    options = parser.parse_args()
    kept = options.out.with_suffix(".json")
    known = json.loads(kept.read_text()) if kept.exists() else {}
    for folder in options.workdirs:
        measure(folder, known, options.out, options.cache)
    options.out.with_suffix(".table.md").write_text(table(known, options.figure) + "\n")
    picture(known, options.figure, options.out.with_suffix(".png"))
    print(table(known, options.figure))


if __name__ == "__main__":
    main()
