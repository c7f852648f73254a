r"""Fits sampling levels to a trained model: `python -m noise_sched.fit_steps`.

    python -m noise_sched.fit_steps --workdir=runs/digits --steps=5,10 --config.sample.solver='ddim()'
    python -m noise_sched.fit_steps --workdir=runs/digits --steps=8 --out=runs/digits/steps

For each number of steps: the levels at which the solver's images come nearest to those of the exact flow,
from the same noise (noise_sched/diffusion/fitted_levels.py has the equations), how near, beside the
config's own levels and Karras's, on noise that nothing was fitted to, and the flags for `sample`. Guidance
and threshold are those of config.sample. `--out` keeps fitted_steps.json, which also has the lists that
diffusers' `set_timesteps` takes, and fitted_steps.png.
"""

import json

from absl import flags, logging

from noise_sched import command_line, experiment
from noise_sched.experiment import sampler, step_fitting, workdir
from noise_sched.figures import fitted
from noise_sched.training import files


def main() -> None:
    """The command: flags in, mistakes reported in one message."""
    logging.set_verbosity(logging.WARNING)
    options = flags.FLAGS
    with command_line.clear_errors():
        folder = command_line.folder("workdir", "--workdir=runs/digits")
        workdir.load_config(folder)
        step = command_line.step()
        steps = _steps(str(command_line.required("steps", "--steps=5,10")))
        out = command_line.out_folder(options.out)
        exp = experiment.from_config(options.config)
        step_fitting.check(exp, steps, options.grid)
        step, params, guide = sampler.restore(exp, folder, step)
        rows = step_fitting.fit(
            exp,
            params,
            steps,
            guide=guide,
            images=options.num_images,
            grid=options.grid,
            rounds=options.rounds,
        )
    print(
        f"checkpoint {step}; error of the images, on {options.num_images} that nothing was fitted to:\n"
    )
    print(as_text(rows))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        about = {
            "workdir": folder.name,
            "step": step,
            "sample": json.loads(exp.config.sample.to_json()),
        }
        text = json.dumps(about | {"rows": step_fitting.as_json(exp, rows)}, indent=1)
        files.write_text(out / "fitted_steps.json", text + "\n")
        fitted.draw(out / "fitted_steps.png", _errors(rows), {r.steps: r.logsnr for r in rows})
        print(f"\nWritten to {out}; to look at: {out / 'fitted_steps.png'}")


def as_text(rows: list[step_fitting.Row]) -> str:
    """What is printed: the errors, and the flags for each number of steps."""
    names = list(_errors(rows))
    lines = ["  steps  " + "  ".join(f"{name:>16}" for name in names)]
    for row in rows:
        values = (f"{row.errors[n]:16.4g}" if n in row.errors else " " * 16 for n in names)
        lines.append(f"  {row.steps:5d}  " + "  ".join(values))
    for row in rows:
        lines += ["", f"In {row.steps} steps:", f"  {row.flags}"]
    return "\n".join(lines)


def _errors(rows: list[step_fitting.Row]) -> dict[str, dict[int, float]]:
    """By the name of the levels, by the number of steps."""
    names = dict.fromkeys(name for row in rows for name in row.errors)
    return {n: {row.steps: row.errors[n] for row in rows if n in row.errors} for n in names}


def _steps(text: str) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = [0]
    if min(found) < 1:
        raise ValueError(f"--steps={text}: expected whole numbers from 1, such as --steps=5,10.")
    return found


def _define_flags() -> None:
    """--config.sample.KEY changes the workdir's own config, which therefore is read first."""
    flags.DEFINE_string("workdir", None, "The folder that training wrote.")
    flags.DEFINE_string("steps", None, "Numbers of steps, such as 5,10.")
    flags.DEFINE_integer("num_images", 64, "Images that levels are fitted to.", lower_bound=2)
    flags.DEFINE_integer("grid", 40, "Steps of the fine grid.", lower_bound=3, upper_bound=1000)
    flags.DEFINE_integer("rounds", 8, "Of the search after the shortest path.", lower_bound=0)
    flags.DEFINE_string("out", None, "A folder for fitted_steps.json and fitted_steps.png.")
    command_line.define_step()
    command_line.define_workdir_config("workdir")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
