r"""Audits a training and sampling set-up for known flaws: `python -m noise_sched.audit`.

    python -m noise_sched.audit --config=configs/digits.py --out=audit
    python -m noise_sched.audit --diffusers=scheduler_config.json --steps=25 --guidance='cfg(7.5)'
    python -m noise_sched.audit --lin_table

A table is printed. `--out` keeps report.json and report.png (gamma, logSNR, what training draws, where
the steps fall); `--strict` exits with 1 where anything is more than a note; `--write_diffusers` keeps the
set-up as a scheduler_config.json. What is looked for is `noise_sched/experiment/rules/`: the list
by which training refuses a config.
"""

import dataclasses
import json
import math
import pathlib
import sys
from typing import Any

from absl import flags, logging

from noise_sched import command_line
from noise_sched.auditing import figure
from noise_sched.auditing.report import PIXELS, Report, audit, lin_table
from noise_sched.diffusion import specs
from noise_sched.experiment import choices_of
from noise_sched.experiment.compatibility import CONFIG_RULES, Choices
from noise_sched.experiment.rules import find, worst_first
from noise_sched.interop.diffusers import reading, writing
from noise_sched.interop.diffusers.reading import FieldReport, Loaded


def of_config(choices: Choices, pixels: int | None = None) -> Report:
    """The report on a config, with what only a config knows; also on one that `from_config` refuses.

    Args:
      choices: what the config chooses, from `experiment.choices_of`.
      pixels: of one channel; the config's by default.
    """
    report = audit(choices.training, choices.sampling, pixels or choices.config.data.image_size**2)
    of_config_alone = find(CONFIG_RULES, choices)
    return dataclasses.replace(report, findings=worst_first(report.findings + of_config_alone))


def of_diffusers(path: str, steps: int, guidance: str) -> Loaded:
    """A scheduler_config.json, sampled in `steps` steps with the guidance of a spec.

    Raises:
      ValueError: if it is none, or the guidance is none.
    """
    try:
        made = specs.build(guidance, "guidance")
    except specs.SpecError as error:
        raise ValueError(f"--guidance: {error}") from None
    try:
        loaded = reading.read(path, steps)
    except RecursionError:
        raise ValueError(f"{path} is nested too deep for a scheduler_config.json.") from None
    sampling = dataclasses.replace(loaded.sampling, guidance=made)
    return dataclasses.replace(loaded, sampling=sampling)


def as_text(report: Report, fields: tuple[FieldReport, ...] = ()) -> str:
    """The report as a table to read."""
    agreement = report.agreement
    rows = [
        ("training ends at SNR(T)", f"{report.terminal.snr:.7g}"),
        ("  sqrt(abar_T)", f"{report.terminal.sqrt_alpha_bar:.7g}"),
        (
            f"  brightness of {report.pixels} pixels stands out by",
            f"{report.terminal.leak:.3g} standard deviations",
        ),
        ("sampling starts at SNR", f"{report.start.snr:.7g}"),
        ("  the last trained level is sampled", _yes(report.samples_last_level)),
        ("  at zero SNR", _yes(report.zero_snr)),
        ("zero SNR is defined for these choices", _yes(report.zero_snr_supported)),
        ("trained logSNR", _range(agreement.trained)),
        ("  all but the rarest", _range(agreement.usual)),
        ("sampled logSNR", _range(agreement.sampled)),
        ("  never trained", f"{len(agreement.untrained)} of {len(report.steps) - 1} steps"),
        ("  skipped at the noisy end", _range(agreement.skipped_noise)),
        ("  skipped at the clean end", _range(agreement.skipped_clean)),
        ("  the widest step", _range(agreement.widest_step)),
        ("sigma_data", _sigma_data(report.sigma_data)),
    ]
    lines = [f"{name:<44} {value}" for name, value in rows]
    if fields:
        lines += ["", "Fields of the file that are not simply used"]
        lines += [f"  {f.name} = {f.value!r} ({f.kind}): {f.reason}" for f in fields]
    lines += ["", f"Findings: {len(report.findings) or 'none'}"]
    for finding in report.findings:
        lines += [
            f"  {finding.severity.upper()} {finding.name} ({finding.source})",
            f"    {finding.what}",
            f"    Fix: {finding.mend}",
        ]
    return "\n".join(lines)


def as_json(report: Report, **about: Any) -> str:
    """The report as JSON; an infinite number is the string "inf" or "-inf"."""
    values = about | {"flawed": report.flawed} | dataclasses.asdict(report)
    return json.dumps(_plain(values), indent=1, allow_nan=False) + "\n"


def keep(report: Report, out: str | pathlib.Path, picture: bool = True, **about: Any) -> None:
    """Writes report.json, and report.png, to a folder.

    Raises:
      ValueError: if matplotlib is missing and a picture is wanted.
      OSError: if the folder cannot be written.
    """
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(as_json(report, **about), encoding="utf-8")
    if picture:
        figure.draw(report, out / "report.png", str(about.get("name", "")))


def lin_table_text() -> str:
    """Table 1 of Lin et al. 2024 (arXiv 2305.08891)."""
    lines = [f"{'schedule (T = 1000)':<20} {'SNR(T)':<14} sqrt(abar_T)"]
    lines += [f"{r.name:<20} {r.snr:<14.7g} {r.sqrt_alpha_bar:.7g}" for r in lin_table()]
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _range(ends: tuple[float, float] | None) -> str:
    return "nothing" if ends is None else f"{ends[0]:.5g} ... {ends[1]:.5g}"


def _sigma_data(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in found.items()) or "in no choice"


def main() -> None:
    """Audits what the flags say; a mistake in the input ends in one message."""
    logging.set_verbosity(logging.WARNING)
    options = flags.FLAGS
    with command_line.clear_errors():
        if options.lin_table:
            print(lin_table_text())
            return
        given = command_line.peek("config")
        if (given is None) == (options.diffusers is None):
            raise ValueError(
                "give --config=configs/NAME.py or --diffusers=scheduler_config.json, one of them."
            )
        _check_places(options.out, options.write_diffusers)
        if options.diffusers is not None:
            path = command_line.required("diffusers", "--diffusers=scheduler_config.json")
            command_line.check_local("diffusers", path)
            name, fields = options.diffusers, ()
            loaded = of_diffusers(options.diffusers, options.steps, options.guidance)
            training, sampling, fields = loaded.training, loaded.sampling, loaded.fields
            report = reading.audit_loaded(loaded, options.pixels or PIXELS)
        else:
            name, fields = given, ()
            for flag in ("steps", "guidance"):
                if flags.FLAGS[flag].present:
                    raise ValueError(f"--{flag} is for --diffusers; use --config.sample.{flag}=...")
            choices = choices_of(command_line.config())
            training, sampling = choices.training, choices.sampling
            report = of_config(choices, options.pixels)
        print(f"{name}\n\n{as_text(report, fields)}")
        if options.write_diffusers:
            written = writing.write(training, sampling)
            text = json.dumps(written.config, indent=2) + "\n"
            pathlib.Path(options.write_diffusers).write_text(text, encoding="utf-8")
            print(f"\nWritten to {options.write_diffusers}")
            for remark in written.remarks:
                print(f"  not in the file: {remark}")
        if options.out:
            about = {"name": name, "fields": [dataclasses.asdict(field) for field in fields]}
            keep(report, options.out, options.picture, **about)
            print(f"\nWritten to {options.out}")
    if options.strict and report.flawed:
        sys.exit(1)


def _check_places(out: str | None, write_diffusers: str | None) -> None:
    """Refuses what cannot be written, before the work."""
    if out is not None:
        command_line.check_path("out", out)
        if pathlib.Path(out).is_file():
            raise ValueError(f"--out={out} is a file; give a folder.")
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
    flags.DEFINE_bool("picture", True, "Whether --out gets a picture; it needs matplotlib.")
    flags.DEFINE_bool("strict", False, "Exit with 1 where anything found is more than a note.")
    flags.DEFINE_bool("lin_table", False, "Only print Table 1 of Lin et al. (arXiv 2305.08891).")
    flags.DEFINE_string("write_diffusers", None, "A file to keep the set-up in, for diffusers.")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
