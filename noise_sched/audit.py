r"""Audits a training and sampling set-up for known flaws: `python -m noise_sched.audit`.

    python -m noise_sched.audit --config=configs/digits.py --out=audit
    python -m noise_sched.audit --workdir=runs/digits
    python -m noise_sched.audit --diffusers=scheduler_config.json --steps=25 --guidance='cfg(7.5)'
    python -m noise_sched.audit --lin_table

A table is printed. `--out` keeps report.json and report.png (gamma, logSNR, what training draws, where
the steps fall); `--strict` exits with 1 where anything is more than a note; `--write_diffusers` keeps the
set-up as a scheduler_config.json. What is looked for is `noise_sched/experiment/rules/`: the list
by which training refuses a config. Of a trained run, `--workdir`, it also says where training spent its
draws, where the loss still falls, and which levels sampling skips.
"""

import dataclasses
import json
import pathlib
import sys
from typing import NamedTuple

from absl import flags, logging

from noise_sched import command_line
from noise_sched.auditing import recommendation, text
from noise_sched.auditing.report import Report, audit
from noise_sched.diffusion import specs
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling
from noise_sched.experiment import facts_of, workdir
from noise_sched.experiment.rules.facts import PIXELS
from noise_sched.interop.diffusers import judging, reading, writing
from noise_sched.interop.diffusers.reader import FieldReport, Loaded
from noise_sched.training import metrics


class Audited(NamedTuple):
    """A set-up and its report.

    `fields` are those of a diffusers file that are not simply used; `learnt` says what a run recorded.
    """

    name: str
    objective: Objective
    sampling: Sampling
    report: Report
    fields: tuple[FieldReport, ...] = ()
    learnt: str = ""


def of_diffusers(path: str, steps: int, guidance: str) -> Loaded:
    """A scheduler_config.json, sampled in `steps` steps with the guidance of a spec.

    Raises:
      ValueError: if it is none, or the guidance is none.
    """
    try:
        made = specs.build(guidance, "guidance")
    except specs.SpecError as error:
        raise ValueError(f"--guidance: {error}") from None
    loaded = reading.read(path, steps)
    sampling = dataclasses.replace(loaded.sampling, guidance=made)
    return dataclasses.replace(loaded, sampling=sampling)


def main() -> None:
    """Audits what the flags say; a mistake in the input ends in one message."""
    logging.set_verbosity(logging.WARNING)
    options = flags.FLAGS
    with command_line.clear_errors():
        if options.lin_table:
            print(text.lin_table_text())
            return
        given = (command_line.peek("config"), options.diffusers, options.workdir)
        if sum(each is not None for each in given) != 1:
            raise ValueError(
                "give --config=configs/NAME.py, --workdir=runs/NAME or --diffusers=scheduler_config.json, "
                "one of them."
            )
        _check_places(options.out, options.write_diffusers)
        found = _found()
        print(f"{found.name}\n\n{text.as_text(found.report, _remarks(found.fields))}")
        if found.learnt:
            print(f"\n{found.learnt}")
        if options.write_diffusers:
            _write_diffusers(found, options.write_diffusers)
        if options.out:
            about = {"name": found.name, "fields": [dataclasses.asdict(f) for f in found.fields]}
            text.keep(found.report, options.out, options.picture, **about)
            print(f"\nWritten to {options.out}")
    if options.strict and found.report.flawed:
        sys.exit(1)


def _found() -> Audited:
    if flags.FLAGS.workdir is not None:
        return _of_workdir()
    return _of_config() if flags.FLAGS.diffusers is None else _of_diffusers()


def _of_workdir() -> Audited:
    """A run's config, and what it recorded; a run with little or no record is audited all the same."""
    folder = command_line.folder("workdir", "--workdir=runs/digits")
    config = workdir.load_config(folder)
    facts = facts_of(config)
    try:
        found = recommendation.bands(metrics.read_metrics(folder), facts.path)
        learnt = recommendation.as_text(found, str(folder), config)
    except recommendation.TooFewRows as error:
        learnt = f"What training has learnt is not said: {error}"
    return Audited(str(folder), facts.objective, facts.sampling, audit(facts), learnt=learnt)


def _of_config() -> Audited:
    for flag in ("steps", "guidance"):
        if flags.FLAGS[flag].present:
            raise ValueError(f"--{flag} is for --diffusers; use --config.sample.{flag}=...")
    facts = facts_of(command_line.config())
    facts = dataclasses.replace(facts, pixels=flags.FLAGS.pixels or facts.pixels)
    name = str(command_line.peek("config"))
    return Audited(name, facts.objective, facts.sampling, audit(facts))


def _of_diffusers() -> Audited:
    path = command_line.required("diffusers", "--diffusers=scheduler_config.json")
    command_line.check_local("diffusers", path)
    loaded = of_diffusers(path, flags.FLAGS.steps, flags.FLAGS.guidance)
    report = judging.audit_loaded(loaded, flags.FLAGS.pixels or PIXELS)
    return Audited(path, loaded.objective, loaded.sampling, report, loaded.fields)


def _write_diffusers(found: Audited, path: str) -> None:
    written = writing.write(found.objective, found.sampling)
    pathlib.Path(path).write_text(json.dumps(written.config, indent=2) + "\n", encoding="utf-8")
    print(f"\nWritten to {path}")
    for remark in written.remarks:
        print(f"  not in the file: {remark}")


def _remarks(fields: tuple[FieldReport, ...]) -> list[str]:
    if not fields:
        return []
    rows = [f"  {f.name} = {f.value!r} ({f.kind}): {f.reason}" for f in fields]
    return ["", "Fields of the file that are not simply used", *rows]


def _check_places(out: str | None, write_diffusers: str | None) -> None:
    """Refuses what cannot be written, before the work."""
    command_line.out_folder(out)
    if write_diffusers is not None:
        command_line.check_path("write_diffusers", write_diffusers)
        path = pathlib.Path(write_diffusers)
        if path.is_dir():
            raise ValueError(f"--write_diffusers={path} is a folder; give a file.")
        if not path.parent.is_dir():
            raise ValueError(
                f"--write_diffusers={path} cannot be written: there is no folder {path.parent}."
            )


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    command_line.define_config_file()
    flags.DEFINE_string("workdir", None, "The folder that training wrote.")
    flags.DEFINE_string("diffusers", None, "A scheduler_config.json of diffusers.")
    flags.DEFINE_integer(
        "steps", 50, "Sampling steps, with --diffusers.", lower_bound=1, upper_bound=1_000_000
    )
    flags.DEFINE_string("guidance", "none()", "Guidance, with --diffusers; e.g. 'cfg(7.5)'.")
    flags.DEFINE_integer(
        "pixels",
        None,
        "Pixels of one channel; the config's, or those of 64 x 64 latents with --diffusers.",
        lower_bound=1,
        upper_bound=2**31 - 1,
    )
    flags.DEFINE_string("out", None, "A folder for report.json and report.png.")
    flags.DEFINE_bool("picture", True, "Whether --out gets a picture.")
    flags.DEFINE_bool("strict", False, "Exit with 1 where anything found is more than a note.")
    flags.DEFINE_bool("lin_table", False, "Only print Table 1 of Lin et al. (arXiv 2305.08891).")
    flags.DEFINE_string("write_diffusers", None, "A file to keep the set-up in, for diffusers.")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
