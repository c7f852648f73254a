"""A report as text, as JSON, and as files in a folder."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from noise_sched.auditing import figure
from noise_sched.auditing.report import Report, lin_table


def as_text(report: Report, remarks: Sequence[str] = ()) -> str:
    """The report as a table to read, with remarks between its numbers and its findings."""
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
    lines += remarks
    lines += ["", f"Findings: {len(report.findings) or 'none'}"]
    for finding in report.findings:
        lines += [
            f"  {finding.severity.upper()} {finding.name} ({finding.source})",
            f"    {finding.what}",
            f"    Fix: {finding.fix}",
        ]
    return "\n".join(lines)


def as_json(report: Report, **about: Any) -> str:
    """The report as JSON; an infinite number is the string "inf" or "-inf"."""
    values = about | {"flawed": report.flawed} | dataclasses.asdict(report)
    return json.dumps(plain(values), indent=1, allow_nan=False) + "\n"


def keep(report: Report, out: str | pathlib.Path, picture: bool = True, **about: Any) -> None:
    """Writes report.json, and report.png, to a folder.

    Raises:
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


def plain(value: Any) -> Any:
    """What JSON can hold: a dataclass as its fields, a number that is not finite as a string."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _range(ends: tuple[float, float] | None) -> str:
    return "nothing" if ends is None else f"{ends[0]:.5g} ... {ends[1]:.5g}"


def _sigma_data(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in found.items()) or "in no choice"
