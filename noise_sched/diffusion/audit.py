r"""The audit: a training and a sampling set-up -> what of them is known to go wrong.

    report = audit(Training(...), Sampling(...))

The flaws are the published ones of Lin et al. 2024 (arXiv 2305.08891, "ZT" below), of the sampler's and
the network's choices that contradict each other, and of sampling grids that waste their steps. Each
`Finding` says what is, how bad it is, and the change of the config that mends it:

    error   cannot work: not finite, or undefined
    flaw    works, and draws other images than the data's
    note    worth knowing; harmless at this size or a matter of taste

Whether what is left of the image at the noisy end matters is asked of its largest shape, its mean
brightness: averaging N pixels leaves 1 / sqrt(N) of the noise, so brightness still stands out by

    (1)  leak = sqrt(SNR N)        in standard deviations of the averaged noise

4.4 for Stable Diffusion's 64 x 64 latents: the network reads the brightness from x_T, and at sampling
finds there the brightness of pure noise, which is always medium. `LEAK` of it is the limit.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from noise_sched.diffusion import grids, parametrization, schedules, thresholding
from noise_sched.diffusion import guidance as guidances
from noise_sched.diffusion.conditioning import Conditioning
from noise_sched.diffusion.grids import Grid
from noise_sched.diffusion.input_scale import InputScale
from noise_sched.diffusion.parametrization import Parametrization
from noise_sched.diffusion.process import NoiseLevel, Process
from noise_sched.diffusion.schedules import Schedule
from noise_sched.diffusion.solvers import Solver
from noise_sched.diffusion.thresholding import Threshold
from noise_sched.diffusion.weighting import Weighting

LEAK = 0.1  # equation (1): brightness that stands out by more is a flaw
PIXELS = 64 * 64  # of one channel, where nobody says: Stable Diffusion's latents, ImageNet-64
GUIDED = 3.0  # guidance beyond this over-exposes from zero SNR without rescaling
CROWDED_SIGMA, CROWDED_SHARE = 100.0, 0.3  # where nothing is left to decide, and how many steps
_TAIL = 5e-4  # what is drawn less often than this is not what a network is trained for
_BINS = np.linspace(-20.0, 20.0, 41)
_NEVER = 1e-30  # a t just above clean data


@dataclasses.dataclass(frozen=True)
class Training:
    """What decides which levels are trained and on what; as in `loss.Objective`, but unchecked.

    Attributes:
      schedule: t ~ U(0, 1) -> logSNR.
      process, parametrization, input_scale, conditioning, space, weight: as in `Objective`.
      offset_noise: of the training noise, 0 for none.
    """

    schedule: Schedule
    process: Process
    parametrization: Parametrization
    input_scale: InputScale
    conditioning: Conditioning
    space: Parametrization
    weight: Weighting
    offset_noise: float = 0.0


@dataclasses.dataclass(frozen=True)
class Sampling:
    """What decides where a sampling run steps; the process is the training's.

    Attributes:
      schedule, grid, steps: the path is process.level(schedule.logsnr(grid(steps))).
      solver, guidance, threshold: what happens along it; `guidance` is a `Guidance`.
    """

    schedule: Schedule
    grid: Grid
    steps: int
    solver: Solver
    guidance: Any = guidances.none()
    threshold: Threshold = thresholding.none()


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
      name: of the flaw, for programs.
      severity: "error", "flaw" or "note".
      source: where it was published.
      what: what is, with its numbers.
      mend: the change that ends it, as text of a config.
    """

    name: str
    severity: str
    source: str
    what: str
    mend: str


@dataclasses.dataclass(frozen=True)
class End:
    """A noisy end.

    Attributes:
      logsnr: of x_t, input scaling included.
      snr: exp(logsnr).
      sqrt_alpha_bar: amplitude of the data in the variance-preserving frame, sqrt(gamma).
      leak: equation (1).
    """

    logsnr: float
    snr: float
    sqrt_alpha_bar: float
    leak: float


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How the levels that are sampled lie among the ones that are trained, in logSNR.

    Attributes:
      trained: (noisiest, cleanest) that training ever draws.
      usual: the same without the rarest 0.05 % at either end.
      sampled: (noisiest, cleanest) at which the network is called.
      untrained: sampled levels outside `trained`.
      between_levels: how many sampled levels lie between two of a training table's.
      skipped_noise: (from, to) of `usual` that is noisier than the first step, or None.
      skipped_clean: (from, to) of `usual` that is cleaner than the last call, or None.
      widest_step: (from, to) of the longest step between two calls.
    """

    trained: tuple[float, float]
    usual: tuple[float, float]
    sampled: tuple[float, float]
    untrained: tuple[float, ...]
    between_levels: int
    skipped_noise: tuple[float, float] | None
    skipped_clean: tuple[float, float] | None
    widest_step: tuple[float, float] | None


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


def audit(training: Training, sampling: Sampling, pixels: int = PIXELS) -> Report:
    """Audits a set-up; everything is computed in float64.

    Args:
      training: the training set-up.
      sampling: the sampling set-up.
      pixels: of one channel of what is diffused.

    Raises:
      ValueError: if the grid has no such path.
    """
    with jax.enable_x64(True):
        return _audit(training, sampling, pixels)


def worst_first(findings: Iterator[Finding] | tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Errors, then flaws, then notes; otherwise in the order given."""
    return tuple(sorted(findings, key=lambda f: ("error", "flaw", "note").index(f.severity)))


@dataclasses.dataclass(frozen=True)
class TableRow:
    """A row of ZT's Table 1."""

    name: str
    spec: str
    snr: float
    sqrt_alpha_bar: float


def spec(choice: Any) -> str:
    """What builds `choice` in a config, without the fields that are as by default."""
    if not dataclasses.is_dataclass(choice):
        return repr(choice)
    said, positional = [], True
    for field in dataclasses.fields(choice):
        value = getattr(choice, field.name)
        if field.default is not dataclasses.MISSING and value == field.default:
            positional = False
            continue
        said.append(spec(value) if positional else f"{field.name}={spec(value)}")
    return f"{type(choice).__name__}({', '.join(said)})"


def lin_table() -> tuple[TableRow, ...]:
    """Table 1 of Lin et al. 2024: SNR(T) and sqrt(abar_T) of the common schedules, T = 1000."""
    rows = {
        "linear": schedules.linear_betas(),
        "cosine": schedules.cosine_betas(),
        "Stable Diffusion": schedules.scaled_linear(),
    }
    with jax.enable_x64(True):
        ends = {name: _terminal(schedule, 1.0, PIXELS) for name, schedule in rows.items()}
    return tuple(
        TableRow(name, spec(rows[name]), end.snr, end.sqrt_alpha_bar) for name, end in ends.items()
    )


@dataclasses.dataclass(frozen=True)
class _Facts:
    training: Training
    sampling: Sampling
    pixels: int
    terminal: End
    usual_end: End
    start: End
    draws_zero_snr: bool
    levels: NoiseLevel
    agreement: Agreement
    sigma_data: dict[str, float]

    @property
    def zero_snr(self) -> bool:
        return self.start.snr == 0

    @property
    def late_start(self) -> bool:
        """Whether sampling starts cleaner than what training usually ends with."""
        return self.start.logsnr > self.usual_end.logsnr + 1e-6

    def zero_snr_parts(self) -> dict[str, Any]:
        t = self.training
        return {
            "process": t.process,
            "parametrization": t.parametrization,
            "conditioning": t.conditioning,
        }


def _audit(training: Training, sampling: Sampling, pixels: int) -> Report:
    schedule = training.schedule
    scale = float(getattr(training.process, "input_scale", 1.0))
    times = jnp.asarray(np.asarray(sampling.grid(sampling.steps), np.float64))
    logsnr = sampling.schedule.logsnr(times)
    steps = tuple(
        Step(*map(float, row))
        for row in zip(
            times, sampling.schedule.gamma(times), logsnr, jnp.exp(-0.5 * logsnr), strict=True
        )
    )
    tail = _tail(schedule)
    usual_end = _end(float(schedule.logsnr(1 - tail)), scale, pixels)
    facts = _Facts(
        training=training,
        sampling=sampling,
        pixels=pixels,
        terminal=_terminal(schedule, scale, pixels),
        usual_end=usual_end,
        start=_end(steps[0].logsnr, scale, pixels),
        draws_zero_snr=usual_end.snr == 0,
        levels=training.process.level(logsnr),
        agreement=_agreement(schedule, np.asarray(logsnr)),
        sigma_data=dict(_sigma_data(training)),
    )
    supported = all(part.supports_zero_snr for part in facts.zero_snr_parts().values())
    return Report(
        terminal=facts.terminal,
        start=facts.start,
        samples_last_level=not facts.late_start,
        zero_snr=facts.zero_snr,
        zero_snr_supported=supported,
        agreement=facts.agreement,
        sigma_data=facts.sigma_data,
        density=_density(schedule),
        steps=steps,
        training_curve=_curve(schedule),
        sampling_curve=_curve(sampling.schedule),
        choices=_choices(training, sampling),
        pixels=pixels,
        findings=worst_first(finding for check in _CHECKS for finding in check(facts)),
    )


def _end(logsnr: float, scale: float, pixels: int) -> End:
    logsnr = logsnr + 2 * math.log(scale)
    snr = math.exp(logsnr) if logsnr < 700 else math.inf
    gamma = 1 / (1 + 1 / snr) if snr > 0 else 0.0
    return End(logsnr, snr, math.sqrt(gamma), math.sqrt(snr * pixels))


def _terminal(schedule: Schedule, scale: float, pixels: int) -> End:
    return _end(float(schedule.logsnr(1.0)), scale, pixels)


def _tail(schedule: Schedule) -> float:
    """How near to 0 and 1 a t may be that counts: within the first and last level of a table."""
    return min(_TAIL, 0.5 / max(_num_levels(schedule), 1))


def _num_levels(schedule: Schedule) -> int:
    return getattr(schedule, "num_levels", 0)


def _agreement(schedule: Schedule, path: np.ndarray) -> Agreement:
    tail, called = _tail(schedule), path[:-1]
    usual = (float(schedule.logsnr(1 - tail)), float(schedule.logsnr(tail)))
    nearly, clean = (float(schedule.logsnr(t)) for t in (1e-25, _NEVER))
    clean = clean if abs(clean - nearly) < 1e-9 else math.inf
    trained = (float(schedule.logsnr(1.0)), clean)
    low, high = float(called[0]), float(called[-1])
    outside = (called < trained[0] - 1e-6) | (called > trained[1] + 1e-6)
    between = 0
    if isinstance(schedule, schedules.discrete):
        between = _between(np.asarray(schedule.table()), called[~outside])
    finite = called[np.isfinite(called)]
    gaps = np.diff(finite)
    widest = int(np.argmax(gaps)) if len(gaps) else None
    return Agreement(
        trained=trained,
        usual=usual,
        sampled=(low, high),
        untrained=tuple(map(float, called[outside])),
        between_levels=between,
        skipped_noise=(usual[0], low) if low > usual[0] + 1e-6 else None,
        skipped_clean=(high, usual[1]) if high < usual[1] - 1e-6 else None,
        widest_step=None if widest is None else (float(finite[widest]), float(finite[widest + 1])),
    )


def _between(table: np.ndarray, called: np.ndarray) -> int:
    """How many of `called` are no level of the table."""
    called = called[np.isfinite(called)]
    distance = np.abs(called[:, None] - table[np.isfinite(table)][None, :])
    return int((distance.min(axis=1) > 1e-5).sum()) if distance.size else 0


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


def _sigma_data(training: Training) -> Iterator[tuple[str, float]]:
    """Every plain sigma_data in the set-up, with its place."""
    for name in ("parametrization", "input_scale", "space", "weight"):
        yield from _sigma_data_in(name, getattr(training, name))


def _sigma_data_in(place: str, part: Any) -> Iterator[tuple[str, float]]:
    if not dataclasses.is_dataclass(part):
        return
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if field.name == "sigma_data":
            yield place, float(value)
        yield from _sigma_data_in(f"{place}.{field.name}", value)


def _choices(training: Training, sampling: Sampling) -> dict[str, str]:
    fields = {f.name: getattr(training, f.name) for f in dataclasses.fields(training)}
    fields |= {f"sample.{f.name}": getattr(sampling, f.name) for f in dataclasses.fields(sampling)}
    return {name: spec(value) for name, value in fields.items()}


# The checks. Each yields nothing for a set-up without its flaw.


def _nonzero_terminal_snr(facts: _Facts) -> Iterator[Finding]:
    end = facts.terminal
    if end.snr == 0:
        return
    flaw = end.leak > LEAK
    so = (
        "the network learns to read the brightness from pure-looking noise, and sampling from real "
        "noise gives images of medium brightness"
        if flaw
        else "too little to be seen"
    )
    moved = _moved_spec(facts.training.schedule)
    change = f"schedule={moved!r}"
    if not facts.training.parametrization.supports_zero_snr:
        change += ", parametrization='v()', loss.space='v()'"
    if not facts.training.process.supports_zero_snr:
        change += ", process='vp()'"
    if not facts.training.conditioning.supports_zero_snr:
        change += ", conditioning='angle()'"
    if _base(facts.sampling.schedule) == _base(facts.training.schedule):
        change += f", sample.schedule={_moved_spec(_base(facts.sampling.schedule))!r}"
    yield Finding(
        "nonzero_terminal_snr",
        "flaw" if flaw else "note",
        "ZT 3.1",
        f"training ends at SNR(T) = {end.snr:.6g}, sqrt(abar_T) = {end.sqrt_alpha_bar:.6g}: the mean "
        f"brightness of {facts.pixels} pixels still stands out of the noise by {end.leak:.2g} "
        f"standard deviations; {so}.",
        change,
    )


def _moved_spec(schedule: Any) -> str:
    """The spec of the schedule, moved to zero SNR."""
    if isinstance(schedule, schedules.discrete):
        inner = schedule.schedule
        levels = "" if schedule.levels is None else f", levels={schedule.levels}"
        return f"discrete({_moved_spec(inner)}{levels})"
    if isinstance(schedule, schedules.cosine_betas):
        return spec(dataclasses.replace(schedule, max_beta=1.0))
    if getattr(schedule, "clip_min", 0):
        return _moved_spec(dataclasses.replace(schedule, clip_min=0.0))
    with jax.enable_x64(True):
        zero = float(schedule.logsnr(1.0)) == -math.inf
    return spec(schedule if zero else schedules.zero_terminal(schedule))


def _base(schedule: Schedule) -> Schedule:
    return schedule.schedule if isinstance(schedule, schedules.discrete) else schedule


def _last_level_not_sampled(facts: _Facts) -> Iterator[Finding]:
    if not facts.late_start or facts.start.leak <= LEAK:
        return
    end, start = facts.usual_end, facts.start
    levels = _num_levels(facts.training.schedule)
    grid = spec(grids.trailing(levels) if levels else grids.uniform())
    mend = f"sample.grid={grid!r}"
    if spec(facts.sampling.grid) == grid or facts.terminal.logsnr < facts.start.logsnr - 1e-6:
        same = _base(facts.training.schedule)
        if same != facts.sampling.schedule:
            mend += f", sample.schedule='{spec(same)}'"
    yield Finding(
        "last_level_not_sampled",
        "flaw",
        "ZT 3.3",
        f"sampling starts from pure noise but calls it logSNR {start.logsnr:.4g}, while training goes "
        f"on to {end.logsnr:.4g}: x_T there still holds the brightness ({start.leak:.2g} standard "
        "deviations of it), and pure noise is read as medium brightness.",
        mend,
    )


def _undefined_at_zero_snr(facts: _Facts) -> Iterator[Finding]:
    if not facts.zero_snr:
        return
    mends = {
        "process": "process='vp()'",
        "parametrization": "parametrization='v()', loss.space='v()'",
        "conditioning": "conditioning='angle()'",
    }
    for name, part in facts.zero_snr_parts().items():
        why = ": it is infinite."
        if name == "parametrization":
            why = ": x_T holds nothing of x0 that a predicted noise could reveal."
        if not part.supports_zero_snr:
            yield Finding(
                f"{name}_at_zero_snr",
                "error",
                "ZT 3.2" if name == "parametrization" else "EDM Table 1",
                f"sampling starts at zero SNR, where {name} {spec(part)} is undefined" + why,
                mends[name],
            )


def _eps_trained_at_zero_snr(facts: _Facts) -> Iterator[Finding]:
    if facts.draws_zero_snr and not facts.training.parametrization.supports_zero_snr:
        yield Finding(
            "eps_trained_at_zero_snr",
            "flaw",
            "ZT 3.2",
            f"training draws zero SNR, where {spec(facts.training.parametrization)} only repeats its "
            "input: the network learns nothing there.",
            "parametrization='v()', loss.space='v()'",
        )


def _zero_snr_without_weight(facts: _Facts) -> Iterator[Finding]:
    training = facts.training
    if not (facts.draws_zero_snr and training.parametrization.supports_zero_snr):
        return
    t = jnp.asarray([1 - _tail(training.schedule)])
    logsnr, slope = jax.jvp(training.schedule.logsnr, (t,), (jnp.ones_like(t),))
    level = training.process.level(logsnr)
    weight = training.weight(level, training.space, -slope)
    scale = training.space.error_scale(level) / parametrization.x0().error_scale(level)
    value = float((weight * jnp.square(scale))[0])
    if value > 0 and math.isfinite(value):
        return
    named = f"{spec(training.weight)} in the space {spec(training.space)}"
    yield Finding(
        "zero_snr_without_weight",
        "flaw" if value == 0 else "error",
        "ZT 3.2",
        f"training draws zero SNR, where {named} weighs the error of x0 by {value:g}: the first "
        "sampling step is not trained.",
        "loss.space='v()', loss.weight='uniform()'",
    )


def _levels_never_trained(facts: _Facts) -> Iterator[Finding]:
    untrained = facts.agreement.untrained
    if untrained:
        low, high = facts.agreement.trained
        yield Finding(
            "levels_never_trained",
            "flaw",
            "ZT 3.1",
            f"{len(untrained)} of {facts.sampling.steps} steps call the network at logSNR "
            f"{_listed(untrained)}, outside the trained {low:.4g} ... {high:.4g}.",
            f"sample.schedule='{spec(_base(facts.training.schedule))}', or train with schedule="
            f"'{spec(facts.sampling.schedule)}'",
        )


def _guidance_from_zero_snr(facts: _Facts) -> Iterator[Finding]:
    guide: Any = facts.sampling.guidance
    if isinstance(guide, guidances.interval):
        if guide.high is not None and math.isfinite(guide.high):
            return
        guide = guide.guidance
    strong = getattr(guide, "w", 1.0) > GUIDED and getattr(guide, "rescale", 0.0) == 0
    pulled_in = isinstance(facts.sampling.threshold, thresholding.dynamic)
    if facts.zero_snr and strong and not pulled_in:
        yield Finding(
            "guidance_without_rescale",
            "flaw",
            "ZT 3.4",
            f"guidance {spec(guide)} from zero SNR over-exposes: nothing there keeps the prediction's "
            "spread down.",
            f"sample.guidance='{spec(dataclasses.replace(guide, rescale=0.7))}'",
        )


def _rescaled_in_another_space(facts: _Facts) -> Iterator[Finding]:
    guide: Any = facts.sampling.guidance
    guide = guide.guidance if isinstance(guide, guidances.interval) else guide
    own, space = facts.training.parametrization, getattr(guide, "space", None)
    if getattr(guide, "rescale", 0.0) and type(space) is not type(own):
        yield Finding(
            "rescaled_in_another_space",
            "note",
            "ZT Algorithm 2",
            f"guidance is rescaled in {spec(space)}, but the network predicts {spec(own)}.",
            f"sample.guidance='{spec(dataclasses.replace(guide, space=own))}'",
        )


def _offset_noise(facts: _Facts) -> Iterator[Finding]:
    offset = facts.training.offset_noise
    if offset:
        yield Finding(
            "offset_noise",
            "flaw",
            "ZT 5.4",
            f"offset noise {offset:g} shifts the brightness of the training noise, but sampling starts "
            "from noise without it: images come out darker and brighter, not with the data's "
            "brightness.",
            "loss.offset_noise=0.0 with a schedule of zero terminal SNR",
        )


def _sigma_data_disagrees(facts: _Facts) -> Iterator[Finding]:
    found = facts.sigma_data
    if len(set(found.values())) > 1:
        said = ", ".join(f"{name} {value:g}" for name, value in found.items())
        value = next(iter(found.values()))
        yield Finding(
            "sigma_data_disagrees",
            "flaw",
            "EDM Table 1",
            f"the data has one standard deviation, but there are several: {said}.",
            f"sigma_data={value:g} in each of them, measured in [-1, 1]",
        )


def _steps_crowded(facts: _Facts) -> Iterator[Finding]:
    logsnr = np.asarray(facts.levels.logsnr)[:-1]
    above = int((logsnr < -2 * math.log(CROWDED_SIGMA)).sum())
    if above > 1 and above >= CROWDED_SHARE * len(logsnr):
        yield Finding(
            "steps_crowded_in_noise",
            "flaw",
            "EDM 3; Karras steps on a zero-SNR table",
            f"{above} of {len(logsnr)} steps fall at sigma > {CROWDED_SIGMA:g}, where nothing of the "
            "image is decided: too few are left for it.",
            f"sample.grid='{spec(grids.trailing(_num_levels(facts.training.schedule) or 1000))}' on "
            f"sample.schedule='{spec(_base(facts.training.schedule))}', or a smaller sigma_max",
        )


def _repeated_levels(facts: _Facts) -> Iterator[Finding]:
    alpha, sigma = (np.asarray(f, np.float32) for f in (facts.levels.alpha, facts.levels.sigma))
    angle = np.arctan2(sigma, alpha)
    stuck = int((angle[1:] >= angle[:-1]).sum())
    if stuck:
        yield Finding(
            "levels_repeated",
            "error",
            "a path falls from step to step",
            f"{stuck} of {facts.sampling.steps} steps do not lead to a cleaner level (in float32): "
            "multistep solvers divide by their length.",
            f"sample.steps={max(1, facts.sampling.steps - stuck)}, or another sample.grid",
        )


def _ends_noisy(facts: _Facts) -> Iterator[Finding]:
    left = float(facts.levels.sigma[-1] / facts.levels.alpha[-1])
    if left > 0:
        yield Finding(
            "ends_noisy",
            "note",
            "EDM Table 1: the last sigma is 0",
            f"the path ends at sigma = {left:.3g} and not at clean data.",
            "a sample.grid that ends at t = 0 on a schedule with logsnr(0) = inf",
        )


def _between_trained_levels(facts: _Facts) -> Iterator[Finding]:
    count = facts.agreement.between_levels
    if count:
        yield Finding(
            "levels_between_trained",
            "note",
            "ZT 2.2: a network with T numbered levels",
            f"{count} of {facts.sampling.steps} steps lie between two levels of the training table; "
            f"conditioning {spec(facts.training.conditioning)} was never told such a level.",
            f"sample.grid='{spec(grids.trailing(_num_levels(facts.training.schedule)))}', or train without "
            "discrete()",
        )


def _first_step_of_linspace(facts: _Facts) -> Iterator[Finding]:
    if isinstance(facts.sampling.grid, grids.linspace) and facts.sampling.steps < 25:
        yield Finding(
            "linspace_at_few_steps",
            "note",
            "ZT 3.3",
            f"with {facts.sampling.steps} steps linspace spends one on the last, nearly clean level; "
            "trailing is better below 25.",
            f"sample.grid='{spec(grids.trailing(facts.sampling.grid.levels))}'",
        )


def _eps_near_zero_snr(facts: _Facts) -> Iterator[Finding]:
    own = facts.training.parametrization
    alpha = float(facts.levels.alpha[0])
    frame = math.hypot(alpha, float(facts.levels.sigma[0]))
    bounded = not isinstance(facts.sampling.threshold, thresholding.none)
    if not own.supports_zero_snr and 0 < alpha < 1e-3 * frame and not bounded:
        yield Finding(
            "eps_near_zero_snr",
            "note",
            "ZT 3.2",
            f"the first predicted x0 is {spec(own)}'s error times {frame / alpha:.3g}, and nothing bounds "
            "it.",
            "sample.threshold='static()', or parametrization='v()'",
        )


def _listed(values: tuple[float, ...]) -> str:
    shown = ", ".join(f"{v:.4g}" for v in values[:4])
    return shown + (", ..." if len(values) > 4 else "")


_CHECKS = (
    _nonzero_terminal_snr,
    _last_level_not_sampled,
    _undefined_at_zero_snr,
    _eps_trained_at_zero_snr,
    _zero_snr_without_weight,
    _levels_never_trained,
    _guidance_from_zero_snr,
    _offset_noise,
    _sigma_data_disagrees,
    _steps_crowded,
    _repeated_levels,
    _ends_noisy,
    _between_trained_levels,
    _first_step_of_linspace,
    _eps_near_zero_snr,
    _rescaled_in_another_space,
)
