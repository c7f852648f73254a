"""NVlabs' preconditioners -> our choices at the network's two ends, and how generate.py samples.

EDM's Table 1 (Karras et al. 2022, arXiv 2206.00364): each column is a class there and four specs here, of
a `ve()` process. Sampling is what `generate.py` does without options: Heun on Karras steps from
min(80, sigma_max) to max(0.002, sigma_min) of the network. An iDDPM network knows numbered levels only, to
the nearest of which each step is rounded.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from noise_sched.interop.nvlabs.snapshot import Persistent
from noise_sched.interop.pickles.unpickler import ForeignFileError

_LOWEST, _HIGHEST = 0.002, 80.0  # sigma_min and sigma_max of generate.py
_LARGEST = 1e6  # of all numbers here, levels and noise levels; tables of levels are allocated


@dataclasses.dataclass(frozen=True)
class Choices:
    """Values of our config's keys.

    Attributes:
      top: config.KEY.
      loss: config.loss.KEY.
      sample: config.sample.KEY.
    """

    top: dict[str, Any]
    loss: dict[str, Any]
    sample: dict[str, Any]


def choices(made: Persistent, loss: Any) -> Choices:
    """The choices of a preconditioned network.

    Args:
      made: the snapshot's "ema".
      loss: its "loss_fn", whose p(sigma) is kept for further training; not needed for sampling.

    Raises:
      ForeignFileError: for another class, or without the numbers that it needs.
    """
    known = _KNOWN.get(made.class_name)
    if known is None:
        raise ForeignFileError(
            f"has a {made.class_name[:50]!r} under 'ema'; known are {', '.join(_KNOWN)}. It may be "
            "another project's file of the same kind."
        )
    return known(made, loss)


def number(made: Persistent, name: str, default: float | None = None) -> Any:
    """An attribute that is a number.

    Raises:
      ForeignFileError: if it is none, or none that a network could be made with.
    """
    value = made.state.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ForeignFileError(
            f"has a {made.class_name[:50]!r} whose {name} is {ascii(value)[:50]}, not a number of "
            "usual size: damaged."
        )
    return value


def whole(made: Persistent, name: str) -> int:
    """An attribute that is a positive integer.

    Raises:
      ForeignFileError: if it is none.
    """
    value = number(made, name)
    if not isinstance(value, int) or value < 1:
        raise ForeignFileError(f"has a {made.class_name[:50]!r} whose {name} is {value}: damaged.")
    return value


def _karras(made: Persistent) -> dict[str, Any]:
    low = max(_LOWEST, float(number(made, "sigma_min", 0.0)))
    no_limit = made.state.get("sigma_max", math.inf) == math.inf
    high = _HIGHEST if no_limit else min(_HIGHEST, float(number(made, "sigma_max")))
    if not low < high:
        raise ForeignFileError(f"has a {made.class_name} for sigma from {low} to {high}: no range.")
    schedule = f"karras(sigma_min={low!r}, sigma_max={high!r}, rho=7.0)"
    return {"schedule": schedule, "grid": "edm()"}


def _edm(made: Persistent, loss: Any) -> Choices:
    sigma_data = float(number(made, "sigma_data"))
    own = f"edm(sigma_data={sigma_data!r})"
    drawn = loss if isinstance(loss, Persistent) else Persistent("none", {})
    mean, std = float(number(drawn, "P_mean", -1.2)), float(number(drawn, "P_std", 1.2))
    top = {
        "schedule": f"lognormal(p_mean={mean!r}, p_std={std!r})",
        "input_scale": f"analytic(sigma_data={sigma_data!r})",
        "conditioning": "log_sigma(scale=0.25)",
        "parametrization": own,
        "sigma_data": sigma_data,
    }
    return Choices(top, {"space": own, "weight": own}, _karras(made))


def _vp(made: Persistent, loss: Any) -> Choices:
    d, low = float(number(made, "beta_d")), float(number(made, "beta_min"))
    first, levels = float(number(made, "epsilon_t")), whole(made, "M")
    top = {
        "schedule": f"crop(vp_diffusion(beta_d={d!r}, beta_min={low!r}), {first!r}, 1.0)",
        "input_scale": "analytic(sigma_data=1.0)",
        "conditioning": f"vp_time(beta_d={d!r}, beta_min={low!r}, scale={float(levels - 1)!r})",
        "parametrization": "eps()",
    }
    return Choices(top, _OF_NOISE, _karras(made))


def _ve(made: Persistent, loss: Any) -> Choices:
    low, high = float(number(made, "sigma_min")), float(number(made, "sigma_max"))
    top = {
        "schedule": f"geometric(sigma_min={low!r}, sigma_max={high!r})",
        "input_scale": "none()",
        "conditioning": "log_sigma(scale=1.0, unit=2.0)",
        "parametrization": "score()",
    }
    return Choices(top, _OF_NOISE, _karras(made))


def _iddpm(made: Persistent, loss: Any) -> Choices:
    clip, offset = float(number(made, "C_1")), float(number(made, "C_2"))
    levels = whole(made, "M")
    table = f"cosine_betas(offset={offset!r}, max_beta={1.0 - clip!r}, levels={levels})"
    top = {
        "schedule": table,
        "input_scale": "analytic(sigma_data=1.0)",
        "conditioning": f"index({table})",
        "parametrization": "eps()",
    }
    sample = _karras(made)
    sample["schedule"] = f"nearest({sample['schedule']}, {table})"
    return Choices(top, _OF_NOISE, sample)


_OF_NOISE = {"space": "eps()", "weight": "uniform()"}
_KNOWN: dict[str, Callable[[Persistent, Any], Choices]] = {
    "EDMPrecond": _edm,
    "VPPrecond": _vp,
    "VEPrecond": _ve,
    "iDDPMPrecond": _iddpm,
    "Precond": _edm,  # EDM2's
}
