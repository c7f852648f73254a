r"""Diffusers' scheduler_config.json -> our choices; `diffusers_writing` is the way back.

    loaded = read("scheduler_config.json", steps=50)     or load({...}, steps=50)

Such a file holds a table of betas, what the network predicts, a rule for the steps and a solver's
options, all under one class name. Every field of it is used, or is reported by name with the reason in
`Loaded.fields`: nothing is ignored silently. What the file does not hold (the loss, its weight, the number
of steps, guidance) is what its users do: the loss in the network's own parametrization, weight 1.

The classes and fields are those of diffusers 0.42. Its defects that decide what a file draws are findings
of their own (`findings`); where a rule of steps has no spec here, `spacing` is a grid with those steps.
"""

import dataclasses
import difflib
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from noise_sched.diffusion import (
    conditioning,
    grids,
    input_scale,
    parametrization,
    process,
    schedules,
    solvers,
    thresholding,
    weighting,
)
from noise_sched.diffusion.audit import (
    PIXELS,
    Finding,
    Report,
    Sampling,
    Training,
    audit,
    worst_first,
)

FLOOR = 2.0**-24  # what several classes put in the place of abar_T = 0: sigma = 4096


class DiffusersConfigError(ValueError):
    """A file that is no scheduler config, or one of a class that cannot be read."""


_TABLE = dict(
    num_train_timesteps=1000,
    beta_start=0.0001,
    beta_end=0.02,
    beta_schedule="linear",
    trained_betas=None,
    prediction_type="epsilon",
    timestep_spacing="linspace",
    steps_offset=0,
)
_DYNAMIC = dict(thresholding=False, dynamic_thresholding_ratio=0.995, sample_max_value=1.0)
_CLIP = dict(clip_sample=True, clip_sample_range=1.0)
_SIGMAS = dict(use_karras_sigmas=False, use_exponential_sigmas=False, use_beta_sigmas=False)
_FLOW_SIGMAS = dict(
    use_flow_sigmas=False, flow_shift=1.0, use_dynamic_shifting=False, time_shift_type="exponential"
)
_EDM = dict(
    sigma_min=0.002,
    sigma_max=80.0,
    sigma_data=0.5,
    sigma_schedule="karras",
    num_train_timesteps=1000,
    prediction_type="epsilon",
    rho=7.0,
    final_sigmas_type="zero",
)
_DPM = dict(
    solver_order=2,
    algorithm_type="dpmsolver++",
    solver_type="midpoint",
    lower_order_final=True,
    euler_at_final=False,
    final_sigmas_type="zero",
)

# Class -> its fields and their defaults, diffusers 0.42.
FIELDS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **_CLIP,
        "timestep_spacing": "leading",
        "set_alpha_to_one": True,
        "rescale_betas_zero_snr": False,
    },
    "DDPMScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **_CLIP,
        "timestep_spacing": "leading",
        "variance_type": "fixed_small",
        "rescale_betas_zero_snr": False,
    },
    "PNDMScheduler": {
        **_TABLE,
        "timestep_spacing": "leading",
        "skip_prk_steps": False,
        "set_alpha_to_one": False,
    },
    "EulerDiscreteScheduler": {
        **_TABLE,
        **_SIGMAS,
        "interpolation_type": "linear",
        "sigma_min": None,
        "sigma_max": None,
        "timestep_type": "discrete",
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
    },
    "EulerAncestralDiscreteScheduler": {**_TABLE, "rescale_betas_zero_snr": False},
    "HeunDiscreteScheduler": {
        **_TABLE,
        **_SIGMAS,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "clip_sample_range": 1.0,
    },
    "DPMSolverMultistepScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **_DPM,
        **_SIGMAS,
        **_FLOW_SIGMAS,
        "use_lu_lambdas": False,
        "lambda_min_clipped": -math.inf,
        "variance_type": None,
        "rescale_betas_zero_snr": False,
    },
    "UniPCMultistepScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **_SIGMAS,
        **_FLOW_SIGMAS,
        "solver_order": 2,
        "predict_x0": True,
        "solver_type": "bh2",
        "lower_order_final": True,
        "disable_corrector": [],
        "solver_p": None,
        "final_sigmas_type": "zero",
        "rescale_betas_zero_snr": False,
        "sigma_min": None,
        "sigma_max": None,
        "shift_terminal": None,
    },
    "EDMEulerScheduler": _EDM,
    "EDMDPMSolverMultistepScheduler": {**_EDM, **_DYNAMIC, **_DPM},
    "FlowMatchEulerDiscreteScheduler": {
        **_SIGMAS,
        "num_train_timesteps": 1000,
        "shift": 1.0,
        "use_dynamic_shifting": False,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "invert_sigmas": False,
        "shift_terminal": None,
        "time_shift_type": "exponential",
        "stochastic_sampling": False,
    },
}
MULTISTEP = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
UNROUNDED = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
)
FLOORED = (*MULTISTEP, "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
PREDICTIONS = {
    "epsilon": parametrization.eps(),
    "sample": parametrization.x0(),
    "v_prediction": parametrization.v(),
}


@dataclasses.dataclass(frozen=True)
class FieldReport:
    """A field of the file that is not simply used.

    Attributes:
      name: of the field, or of what the file does not say.
      value: what it holds.
      kind: "unknown" (of no class), "foreign" (another class's: this one ignores it), "inexpressible"
        (left out), "approximate" (replaced by what comes nearest), "no effect" or "assumed".
      reason: why, and what was done instead.
    """

    name: str
    value: Any
    kind: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A scheduler config as our choices.

    Attributes:
      class_name: of diffusers.
      config: the file.
      training, sampling: what it says.
      fields: every field that is not simply used.
    """

    class_name: str
    config: dict[str, Any]
    training: Training
    sampling: Sampling
    fields: tuple[FieldReport, ...]

    def value(self, field: str) -> Any:
        """The file's value of a field, or its class's default; None where it has none."""
        return self.config.get(field, FIELDS[self.class_name].get(field))


@dataclasses.dataclass(frozen=True)
class spacing:
    """Diffusers' own rule of the steps, where none of `grids` has the same ones.

    The multistep classes take one point more and drop the last; Euler and Heun do not round linspace.

    Attributes:
      kind: "leading" or "linspace".
      levels: T.
      offset: steps_offset.
      multistep: whether one point more is taken and dropped.
    """

    kind: str
    levels: int = 1000
    offset: int = 0
    multistep: bool = False

    def __call__(self, steps: int) -> Float[Array, "times"]:
        """Returns the times of the levels, noisiest first, then 0."""
        points = steps + 1 if self.multistep else steps
        if not 1 <= points <= self.levels:
            raise ValueError(f"{steps} steps do not fit on {self.levels} levels.")
        if self.kind == "leading":
            index = np.arange(points) * (self.levels // points) + self.offset
        else:
            index = np.linspace(0, self.levels - 1, points) if points > 1 else np.zeros(1)
            index = np.round(index) if self.multistep else index
        index = index[::-1][:steps]
        if index[0] >= self.levels:
            raise ValueError(
                f"steps_offset={self.offset} with {steps} steps asks for timestep {index[0]:g} of 0 ... "
                f"{self.levels - 1}. Use fewer steps or steps_offset=0."
            )
        return jnp.asarray(np.append(index + 1, 0) / self.levels, float)


def read(path: str | pathlib.Path, steps: int = 50) -> Loaded:
    """Loads a scheduler_config.json; see `load`.

    Raises:
      DiffusersConfigError: if it is none.
      OSError: if it cannot be read.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise DiffusersConfigError(
            f"{path} is a folder; give the file, usually {path / 'scheduler_config.json'}."
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DiffusersConfigError(f"{path} is not JSON: {error}.") from None
    try:
        return load(config, steps)
    except DiffusersConfigError as error:
        raise DiffusersConfigError(f"{path}: {error}") from None


def load(config: Any, steps: int = 50) -> Loaded:
    """A scheduler config as our choices.

    Args:
      config: the file's contents.
      steps: the number of sampling steps, which no such file holds; 50 is the pipelines' default.

    Raises:
      DiffusersConfigError: no class name, a class that cannot be read, or a value of a wrong kind.
    """
    reader = _Reader(config)
    with jax.enable_x64(True):
        make = {
            "EDMEulerScheduler": _load_edm,
            "EDMDPMSolverMultistepScheduler": _load_edm,
            "FlowMatchEulerDiscreteScheduler": _load_flow,
        }.get(reader.class_name, _load_table)
        try:
            training, sampling = make(reader, steps)
        except DiffusersConfigError:
            raise
        except (ValueError, TypeError) as error:
            raise DiffusersConfigError(f"{reader.class_name}: {error}") from None
    return Loaded(reader.class_name, dict(config), training, sampling, reader.finish())


class _Reader:
    """The fields of a file; remembers which were asked for and what was said of them."""

    def __init__(self, config: Any):
        if not isinstance(config, Mapping):
            raise DiffusersConfigError(
                f"expected an object of fields, got {type(config).__name__}: this is no "
                "scheduler_config.json."
            )
        name = config.get("_class_name")
        if name is None:
            raise DiffusersConfigError(
                "no field '_class_name': this is no scheduler_config.json of diffusers."
            )
        if name not in FIELDS:
            near = difflib.get_close_matches(str(name), FIELDS, n=1, cutoff=0.6)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise DiffusersConfigError(
                f"cannot read the class {name!r}. {hint}Known: {', '.join(FIELDS)}."
            )
        self.class_name: str = name
        self.defaults = FIELDS[name]
        self.given = {
            k: v for k, v in config.items() if k not in ("_class_name", "_diffusers_version")
        }
        self.read: set[str] = set()
        self.reports: list[FieldReport] = []

    def get(self, field: str, *kinds: type) -> Any:
        """The value of a field, or its default; refused where it is of none of `kinds`."""
        self.read.add(field)
        value = self.given.get(field, self.defaults[field])
        is_bool = isinstance(value, bool)
        if kinds and (not isinstance(value, kinds) or (is_bool and bool not in kinds)):
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise DiffusersConfigError(f"{field} must be {expected}, got {value!r}.")
        return value

    def has(self, field: str) -> bool:
        return field in self.defaults

    def number(self, field: str) -> float:
        return float(self.get(field, int, float))

    def choice(self, field: str, known: Mapping[str, Any] | tuple[str, ...]) -> Any:
        """The value of a field that must be one of a few names."""
        value = self.get(field)
        if value not in tuple(known):
            near = difflib.get_close_matches(str(value), list(known), n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise DiffusersConfigError(
                f"unknown {field} {value!r}. {hint}Known: {', '.join(known)}."
            )
        return known[value] if isinstance(known, Mapping) else value

    def say(self, field: str, kind: str, reason: str) -> None:
        self.read.add(field)
        value = self.given.get(field, self.defaults.get(field))
        self.reports.append(FieldReport(field, value, kind, reason))

    def refuse(self, *fields: str, reason: str) -> None:
        """Reports fields as inexpressible, where they differ from their defaults."""
        for field in fields:
            if self.has(field) and self.get(field) != self.defaults[field]:
                self.say(field, "inexpressible", reason)

    def finish(self) -> tuple[FieldReport, ...]:
        """All reports, with one for every field that nobody asked for."""
        for field, value in self.given.items():
            if field in self.read:
                continue
            owners = [name for name, fields in FIELDS.items() if field in fields]
            if field in self.defaults:
                if value != self.defaults[field]:
                    self.say(field, "no effect", "the other fields turn off what it belongs to.")
            elif owners:
                self.say(
                    field,
                    "foreign",
                    f"a field of {owners[0]}; {self.class_name} has none and ignores it.",
                )
            else:
                known = sorted(self.defaults)
                near = difflib.get_close_matches(field, known, n=1, cutoff=0.6)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                self.say(field, "unknown", f"no scheduler read here has such a field.{hint}")
        return tuple(self.reports)


def _load_table(reader: _Reader, steps: int) -> tuple[Training, Sampling]:
    base = _betas(reader)
    kinds = PREDICTIONS
    if reader.class_name in MULTISTEP:
        kinds = {**kinds, "flow_prediction": parametrization.flow()}
    own = reader.choice("prediction_type", kinds)
    if isinstance(own, parametrization.flow) or (
        reader.has("use_flow_sigmas") and reader.get("use_flow_sigmas", bool)
    ):
        return _load_flow_sigmas(reader, own, steps)
    rescaled = reader.has("rescale_betas_zero_snr") and reader.get("rescale_betas_zero_snr", bool)
    if rescaled:
        base = schedules.zero_terminal(base)
        if reader.class_name in FLOORED:
            reader.say(
                "rescale_betas_zero_snr",
                "approximate",
                "diffusers puts 2^-24 in the place of abar_T = 0 (sigma = 4096); here it is 0 exactly.",
            )
    training = Training(
        schedule=schedules.discrete(base),
        process=process.vp(),
        parametrization=own,
        input_scale=input_scale.none(),
        conditioning=conditioning.index(base),
        space=own,
        weight=weighting.uniform(),
    )
    schedule, grid = _path(reader, base, steps)
    return training, Sampling(schedule, grid, steps, _solver(reader), threshold=_threshold(reader))


def _betas(reader: _Reader) -> schedules.TableSchedule:
    levels = reader.get("num_train_timesteps", int)
    betas = reader.get("trained_betas", list, tuple, type(None))
    if betas is not None:
        if len(betas) != levels and "num_train_timesteps" in reader.given:
            reader.say(
                "num_train_timesteps", "no effect", f"trained_betas has {len(betas)} levels."
            )
        for field in ("beta_schedule", "beta_start", "beta_end"):
            if field in reader.given:
                reader.say(field, "no effect", "trained_betas holds the whole table.")
        return schedules.from_betas(tuple(betas))
    known = {
        "linear": schedules.linear_betas,
        "scaled_linear": schedules.scaled_linear,
        "squaredcos_cap_v2": schedules.cosine_betas,
    }
    if reader.class_name == "DDPMScheduler":
        known |= {"sigmoid": schedules.sigmoid_betas, "laplace": schedules.cosine_betas}
    made = reader.choice("beta_schedule", known)
    if made is schedules.cosine_betas:
        if reader.get("beta_schedule") == "laplace":
            reader.say(
                "beta_schedule",
                "inexpressible",
                "diffusers takes a square root too many in this table (abar = 0.71 where logSNR is 0), "
                "so it is not the published one; 'laplace()' is. The cosine table stands in.",
            )
        return made(levels=levels)
    return made(reader.number("beta_start"), reader.number("beta_end"), levels)


def _path(reader: _Reader, base: Any, steps: int) -> tuple[Any, Any]:
    """(schedule, grid) of the sampling path."""
    grid = _grid(reader, base.num_levels)
    for field, kind in (("set_alpha_to_one", False), ("final_sigmas_type", "sigma_min")):
        if reader.has(field) and reader.get(field) == kind:
            reader.say(
                field, "approximate", "its last step lands on the first level, here on clean data."
            )
    for field, made in (
        ("use_karras_sigmas", schedules.karras),
        ("use_exponential_sigmas", schedules.geometric),
    ):
        if reader.has(field) and reader.get(field, bool):
            if isinstance(grid, spacing) and "timestep_spacing" in reader.given and grid.multistep:
                reader.say("timestep_spacing", "no effect", f"{field} decides the steps.")
            ends = sigma_range(reader.class_name, base, grid, steps)
            return made(*_given_range(reader, *ends)), grids.edm()
    if isinstance(grid, spacing):
        reader.say(
            "timestep_spacing",
            "approximate",
            "no grid's spec has these steps: "
            + (
                "one point more is taken, the last dropped"
                if grid.multistep
                else "they are not whole"
            )
            + f". Audited as they are; in a config {grid.kind}(levels={grid.levels}) comes nearest.",
        )
    reader.refuse(
        "use_beta_sigmas",
        "use_lu_lambdas",
        "lambda_min_clipped",
        reason="no schedule here has these steps; those of timestep_spacing stand in.",
    )
    if reader.has("interpolation_type") and reader.get("interpolation_type") != "linear":
        reader.say("interpolation_type", "inexpressible", "the steps of timestep_spacing stand in.")
    return base, grid


def _grid(reader: _Reader, levels: int) -> Any:
    kind = reader.choice("timestep_spacing", ("leading", "linspace", "trailing"))
    offset = reader.get("steps_offset", int)
    multistep = reader.class_name in MULTISTEP
    if kind == "trailing":
        grid = grids.trailing(levels)
    elif multistep or (kind == "linspace" and reader.class_name in UNROUNDED):
        grid = spacing(kind, levels, offset if kind == "leading" else 0, multistep)
    elif kind == "leading":
        grid = grids.leading(levels, offset)
    else:
        grid = grids.linspace(levels)
    if kind != "leading" and "steps_offset" in reader.given and offset:
        reader.say("steps_offset", "no effect", f"only 'leading' is shifted, not {kind!r}.")
    return grid


def sigma_range(name: str, base: Any, grid: Any, steps: int) -> tuple[float, float]:
    """(sigma_min, sigma_max) that a class spreads Karras and exponential steps over.

    Those of the spacing's own first and last step in the unrounded classes, of the table in the others.
    """
    table = base.table()
    low, high = float(table[-1]), float(table[0])
    if name in UNROUNDED:
        path = base.logsnr(grid(steps))
        low, high = float(path[0]), float(path[-2])
    low = max(low, math.log(FLOOR) - math.log1p(-FLOOR))
    return math.exp(-high / 2), math.exp(-low / 2)


def _given_range(reader: _Reader, *ends: float) -> tuple[float, ...]:
    """The file's own sigma_min and sigma_max, where the class has such fields."""
    found = []
    for field, end in zip(("sigma_min", "sigma_max"), ends, strict=True):
        own = reader.get(field, int, float, type(None)) if reader.has(field) else None
        found.append(end if own is None else float(own))
    return tuple(found)


def _solver(reader: _Reader) -> Any:
    name = reader.class_name
    if name == "DDIMScheduler":
        return solvers.ddim()
    if name == "DDPMScheduler":
        kind = reader.get("variance_type")
        known = {
            "fixed_small": "small",
            "fixed_small_log": "small",
            "fixed_large": "large",
            "fixed_large_log": "large",
        }
        if kind not in known:
            reader.say(
                "variance_type",
                "inexpressible",
                "the variance is no network's output here; 'small' stands in.",
            )
        return solvers.ddpm(known.get(kind, "small"))
    if name == "PNDMScheduler":
        reader.say(
            "_class_name",
            "inexpressible",
            "PNDM (linear multistep) is no solver here; ddim(), of first order on the same levels, "
            "stands in.",
        )
        reader.get("skip_prk_steps")
        return solvers.ddim()
    if name in ("EulerAncestralDiscreteScheduler",):
        return solvers.euler_ancestral()
    if name == "HeunDiscreteScheduler":
        return solvers.heun()
    if name == "UniPCMultistepScheduler":
        reader.refuse(
            "predict_x0", "disable_corrector", "solver_p", reason="unipc() has no such option."
        )
        reader.refuse("shift_terminal", reason="no schedule here is stretched so.")
        variant = reader.get("solver_type")
        if variant not in ("bh1", "bh2"):
            reader.say("solver_type", "approximate", "diffusers takes 'bh2' in its place.")
            variant = "bh2"
        return solvers.unipc(
            reader.get("solver_order", int), variant, reader.get("lower_order_final", bool)
        )
    if name == "EulerDiscreteScheduler":
        reader.refuse("timestep_type", reason="the network is told the number of the level here.")
        return solvers.euler()
    return _dpm(reader)


def _dpm(reader: _Reader) -> Any:
    kind = reader.get("algorithm_type")
    if kind not in ("dpmsolver++", "sde-dpmsolver++"):
        reader.say(
            "algorithm_type",
            "inexpressible",
            "a solver of predicted noise; dpmpp(), of predicted data, stands in.",
        )
    variant = reader.get("solver_type")
    if variant not in ("midpoint", "heun"):
        reader.say("solver_type", "approximate", "diffusers takes 'midpoint' in its place.")
        variant = "midpoint"
    reader.get("euler_at_final")  # a step to clean data is of first order here in any case
    reader.refuse("variance_type", reason="the variance is no network's output here.")
    return solvers.dpmpp(
        reader.get("solver_order", int),
        1.0 if str(kind).startswith("sde") else 0.0,
        variant,
        reader.get("lower_order_final", bool),
    )


def _threshold(reader: _Reader) -> Any:
    if reader.has("thresholding") and reader.get("thresholding", bool):
        return thresholding.dynamic(
            reader.number("dynamic_thresholding_ratio"), 1.0, reader.number("sample_max_value")
        )
    if reader.has("clip_sample") and reader.get("clip_sample", bool):
        return thresholding.static(reader.number("clip_sample_range"))
    return thresholding.none()


def _load_edm(reader: _Reader, steps: int) -> tuple[Training, Sampling]:
    sigma_data = reader.number("sigma_data")
    if reader.get("prediction_type") != "epsilon":
        reader.say("prediction_type", "approximate", "the network's output is -F, here F.")
    own = parametrization.edm(sigma_data)
    reader.say(
        "training",
        "assumed",
        "the file does not say which sigmas were trained: EDM's log-normal ones are assumed.",
    )
    training = Training(
        schedule=schedules.lognormal(),
        process=process.ve(),
        parametrization=own,
        input_scale=input_scale.analytic(sigma_data),
        conditioning=conditioning.log_sigma(),
        space=own,
        weight=weighting.uniform(),
    )
    ends = reader.number("sigma_min"), reader.number("sigma_max")
    if reader.choice("sigma_schedule", ("karras", "exponential")) == "karras":
        schedule = schedules.karras(*ends, reader.number("rho"))
    else:
        schedule = schedules.geometric(*ends)
    if reader.get("final_sigmas_type") == "sigma_min":
        reader.say("final_sigmas_type", "approximate", "here the last step lands on clean data.")
    solver = solvers.euler() if reader.class_name == "EDMEulerScheduler" else _dpm(reader)
    return training, Sampling(schedule, grids.edm(), steps, solver, threshold=_threshold(reader))


def _flow_training(schedule: Any, levels: int, own: Any) -> Training:
    return Training(
        schedule=schedule,
        process=process.flow(),
        parametrization=own,
        input_scale=input_scale.none(),
        conditioning=conditioning.index(
            schedules.discrete(schedules.rectified_flow(), levels=levels)
        ),
        space=own,
        weight=weighting.uniform(),
    )


def _say_flow(reader: _Reader) -> None:
    reader.say(
        "conditioning",
        "approximate",
        "the network is told 1000 sigma; no conditioning here says it, the nearest level's index does.",
    )
    reader.say("training", "assumed", "the file does not say which t were trained: all evenly.")


def _load_flow(reader: _Reader, steps: int) -> tuple[Training, Sampling]:
    levels = reader.get("num_train_timesteps", int)
    shift, last = reader.number("shift"), 1 / levels
    if reader.get("use_dynamic_shifting", bool):
        reader.say(
            "use_dynamic_shifting",
            "inexpressible",
            "the shift depends on the image's size, which the file does not hold; none is made. For "
            "a size whose mu is known it is shift(rectified_flow(), exp(mu), 1).",
        )
        shift = 1.0
        for field in (
            "base_shift",
            "max_shift",
            "base_image_seq_len",
            "max_image_seq_len",
            "shift",
        ):
            if field in reader.given:
                reader.say(field, "inexpressible", "a part of use_dynamic_shifting.")
    reader.refuse(
        "time_shift_type",
        "invert_sigmas",
        "shift_terminal",
        "stochastic_sampling",
        *_SIGMAS,
        reason="no choice here does this; it is left out.",
    )
    _say_flow(reader)
    schedule = _shifted(shift)
    grid = grids.edm(shift * last / (1 + (shift - 1) * last))
    training = _flow_training(schedules.rectified_flow(), levels, parametrization.flow())
    return training, Sampling(schedule, grid, steps, solvers.ddim())


def _shifted(shift: float) -> Any:
    flow = schedules.rectified_flow()
    return flow if shift == 1 else schedules.shift(flow, shift, 1)


def _load_flow_sigmas(reader: _Reader, own: Any, steps: int) -> tuple[Training, Sampling]:
    """The multistep classes with use_flow_sigmas."""
    levels = reader.get("num_train_timesteps", int)
    reader.get("use_flow_sigmas")
    reader.refuse(
        "use_dynamic_shifting",
        "time_shift_type",
        *_SIGMAS,
        "use_lu_lambdas",
        reason="no choice here does this; it is left out.",
    )
    _say_flow(reader)
    schedule = _shifted(reader.number("flow_shift"))
    if reader.class_name == "UniPCMultistepScheduler":
        reader.say("use_flow_sigmas", "approximate", "its steps end at 1 / T, here evenly at 0.")
    else:
        schedule = schedules.crop(schedule, 0.0, 1 - 1 / levels)
    for field in ("timestep_spacing", "steps_offset", "rescale_betas_zero_snr"):
        if reader.given.get(field, reader.defaults[field]) != reader.defaults[field]:
            reader.say(field, "no effect", "use_flow_sigmas decides the steps.")
    reader.get("final_sigmas_type")
    training = _flow_training(schedules.rectified_flow(), levels, own)
    return training, Sampling(
        schedule, grids.uniform(), steps, _solver(reader), threshold=_threshold(reader)
    )


# What the library itself does to such a file.

_MENDS = {
    "nonzero_terminal_snr": 'train with "rescale_betas_zero_snr": true, "prediction_type": '
    '"v_prediction", then sample with "timestep_spacing": "trailing"',
    "last_level_not_sampled": '"timestep_spacing": "trailing"',
    "parametrization_at_zero_snr": '"rescale_betas_zero_snr": false, or a network trained with '
    '"prediction_type": "v_prediction"',
    "eps_trained_at_zero_snr": 'a network trained with "prediction_type": "v_prediction"',
    "linspace_at_few_steps": '"timestep_spacing": "trailing"',
    "levels_between_trained": '"timestep_spacing": "trailing" without Karras or exponential sigmas',
    "steps_crowded_in_noise": '"use_karras_sigmas": false, "timestep_spacing": "trailing"',
    "guidance_without_rescale": "guidance_rescale=0.7 in the pipeline's call",
}


def audit_loaded(loaded: Loaded, pixels: int = PIXELS) -> Report:
    """The audit of a scheduler config: of the set-up, and of what diffusers makes of it."""
    report = audit(loaded.training, loaded.sampling, pixels)
    ours = tuple(dataclasses.replace(f, mend=_MENDS.get(f.name, f.mend)) for f in report.findings)
    return dataclasses.replace(report, findings=worst_first(ours + findings(loaded)))


def findings(loaded: Loaded) -> tuple[Finding, ...]:
    """Defects of diffusers 0.42 that this file meets; they are not ours, nor of its choices."""
    found, value, steps = [], loaded.value, loaded.sampling.steps
    name, levels = loaded.class_name, value("num_train_timesteps")

    def add(flaw: str, severity: str, source: str, what: str, mend: str) -> None:
        found.append(Finding(flaw, severity, source, what, mend))

    zero = bool(value("rescale_betas_zero_snr"))
    kind = value("timestep_spacing")
    if name == "DDIMScheduler" and (kind == "linspace" or (kind == "trailing" and levels % steps)):
        add(
            "previous_level_of_another_path",
            "flaw",
            "diffusers #12633, #9261",
            f"DDIMScheduler steps by {levels} // {steps} levels and not to the next of its own list, "
            f"which with {kind!r} and {steps} steps lies elsewhere: the images carry the wrong noise.",
            f'a number of steps that divides {levels}, with "timestep_spacing": "trailing"',
        )
    if zero and (value("use_karras_sigmas") or value("use_exponential_sigmas")):
        add(
            "karras_on_zero_snr",
            "flaw",
            "diffusers #12788",
            "Karras or exponential sigmas are spread from the stand-in sigma = 4096: many steps are "
            "lost there, and rounded timesteps repeat (IndexError from 25 steps on).",
            '"use_karras_sigmas": false, "use_exponential_sigmas": false, "timestep_spacing": '
            '"trailing"',
        )
    if zero and name in FLOORED:
        add(
            "zero_snr_by_a_floor",
            "note",
            "diffusers #6024",
            f"{name} replaces zero SNR by sigma = 4096: images differ by up to 7e-3 from the exact "
            "ones, and half precision overflows (#6981).",
            "DDIMScheduler is exact; or sample with this library",
        )
    if zero and name == "DDIMScheduler" and loaded.value("prediction_type") != "epsilon":
        add(
            "eta_one_from_zero_snr",
            "note",
            "rounding of 1 - abar - sigma^2",
            "with eta = 1, DDIMScheduler's first step from zero SNR is NaN for about four in ten "
            "numbers of steps (25, 30 and 50 among them).",
            "eta below 1, or sample with this library",
        )
    if "rescale_betas_zero_snr" not in FIELDS[name] and loaded.config.get("rescale_betas_zero_snr"):
        add(
            "zero_snr_ignored",
            "flaw",
            f"{name} has no such field",
            "the file asks for zero terminal SNR, and this class ignores it.",
            '"_class_name": "DDIMScheduler"',
        )
    if value("beta_schedule") == "laplace" and name == "DDPMScheduler":
        add(
            "laplace_table",
            "flaw",
            "arXiv 2407.03297 against diffusers' table",
            "abar at the middle is 0.7073 where logSNR 0 needs 0.5: a square root too many.",
            "schedule='laplace()' in a config of this library",
        )
    if name == "EulerAncestralDiscreteScheduler" and value("prediction_type") == "sample":
        add(
            "prediction_not_implemented",
            "error",
            "EulerAncestralDiscreteScheduler.step",
            "this class raises for prediction_type 'sample'.",
            '"_class_name": "DDPMScheduler"',
        )
    return tuple(found)
