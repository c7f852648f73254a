"""The audit: what is known to go wrong with a training and a sampling set-up, and its numbers.

    report = audit(facts_of(config))      or audit(Facts(objective, sampling))

It finds what the rules of `noise_sched.experiment` find, those that only note something included.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion import schedules
from noise_sched.diffusion.schedules import Schedule
from noise_sched.experiment.rules import RULES, Facts, Finding, find, spec
from noise_sched.experiment.rules.config_text import key_of
from noise_sched.experiment.rules.facts import PIXELS, Agreement, End, end

_BINS = np.linspace(-20.0, 20.0, 41)


@dataclasses.dataclass(frozen=True)
class Density:
    """How often training draws a logSNR: shares of the draws between `edges`, and beyond them."""

    edges: tuple[float, ...]
    share: tuple[float, ...]
    noisier: float
    cleaner: float


@dataclasses.dataclass(frozen=True)
class Step:
    """A level of the sampling path: its index t, gamma, logSNR and EDM's sigma (sigma / alpha)."""

    t: float
    gamma: float
    logsnr: float
    sigma: float


@dataclasses.dataclass(frozen=True)
class Curve:
    """A schedule, for a picture: values at t."""

    t: tuple[float, ...]
    gamma: tuple[float, ...]
    logsnr: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Report:
    """All that `audit` found.

    Attributes:
      terminal: where training ends.
      start: where sampling starts.
      samples_last_level: whether the two are one level, or sampling starts noisier.
      zero_snr: whether sampling starts at zero SNR exactly.
      zero_snr_supported: whether process, parametrization and conditioning are defined there.
      agreement: between training and sampling.
      sigma_data: every standard deviation of the data that some choice assumes, by its place.
      density: of training.
      steps: the path, noisiest first, its end included.
      training_curve, sampling_curve: the two schedules.
      choices: what was audited, as specs.
      pixels: N of equation (1).
      findings: worst first.
    """

    terminal: End
    start: End
    samples_last_level: bool
    zero_snr: bool
    zero_snr_supported: bool
    agreement: Agreement
    sigma_data: dict[str, float]
    density: Density
    steps: tuple[Step, ...]
    training_curve: Curve
    sampling_curve: Curve
    choices: dict[str, str]
    pixels: int
    findings: tuple[Finding, ...]

    @property
    def flawed(self) -> bool:
        """Whether anything found is more than a note."""
        return any(finding.severity != "note" for finding in self.findings)


def audit(facts: Facts) -> Report:
    """Audits a set-up; its numbers are exact to float64.

    Raises:
      ValueError: if the grid has no such path.
    """
    with jax.enable_x64(True):
        return _audit(facts)


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row of ZT's Table 1."""

    name: str
    spec: str
    snr: float
    sqrt_alpha_bar: float


def lin_table() -> tuple[TableRow, ...]:
    """Table 1 of Lin et al. 2024: SNR(T) and sqrt(abar_T) of the common schedules, T = 1000."""
    rows = {
        "linear": schedules.linear_betas(),
        "cosine": schedules.cosine_betas(),
        "Stable Diffusion": schedules.scaled_linear(),
    }
    with jax.enable_x64(True):
        ends = {name: end(float(each.logsnr(1.0)), 1.0, PIXELS) for name, each in rows.items()}
    return tuple(
        TableRow(name, spec(rows[name]), found.snr, found.sqrt_alpha_bar)
        for name, found in ends.items()
    )


def _audit(facts: Facts) -> Report:
    objective, sampling = facts.objective, facts.sampling
    gamma, sigma = sampling.schedule.gamma(facts.times), jnp.exp(-0.5 * facts.logsnr)
    rows = zip(facts.times, gamma, facts.logsnr, sigma, strict=True)
    parts = objective.process, objective.parametrization, objective.conditioning
    return Report(
        terminal=facts.terminal,
        start=facts.start,
        samples_last_level=not facts.late_start,
        zero_snr=facts.zero_snr,
        zero_snr_supported=all(part.supports_zero_snr for part in parts),
        agreement=facts.agreement,
        sigma_data={place: float(value) for place, value in objective.sigma_data.items()},
        density=_density(objective.schedule),
        steps=tuple(Step(*map(float, row)) for row in rows),
        training_curve=_curve(objective.schedule),
        sampling_curve=_curve(sampling.schedule),
        choices=_choices(facts),
        pixels=facts.pixels,
        findings=find(RULES, facts),
    )


def _density(schedule: Schedule) -> Density:
    t = (np.arange(20_000) + 0.5) / 20_000
    drawn = np.asarray(schedule.logsnr(jnp.asarray(t)))
    counts, _ = np.histogram(drawn[np.isfinite(drawn)], _BINS)
    return Density(
        edges=tuple(map(float, _BINS)),
        share=tuple(map(float, counts / len(t))),
        noisier=float((drawn < _BINS[0]).mean()),
        cleaner=float((drawn > _BINS[-1]).mean()),
    )


def _curve(schedule: Schedule) -> Curve:
    t = jnp.linspace(0.0, 1.0, 201)
    columns = t, schedule.gamma(t), schedule.logsnr(t)
    return Curve(*(tuple(map(float, column)) for column in columns))


def _choices(facts: Facts) -> dict[str, str]:
    """Every choice as a spec, by its key in a config."""
    return {
        key_of(type(part), field.name): spec(getattr(part, field.name))
        for part in (facts.objective, facts.sampling)
        for field in dataclasses.fields(part)
    }
