"""Rules of the other choices: guidance, the data's standard deviation, offset noise.

ZT is Lin et al. 2024 (arXiv 2305.08891), EDM Karras et al. 2022 (arXiv 2206.00364).
"""

import dataclasses
import math
from typing import Any

from noise_sched.diffusion import guidance as guidances
from noise_sched.diffusion import parametrization, thresholding
from noise_sched.experiment.rules.base import Rule, Words, rule
from noise_sched.experiment.rules.config_text import chosen, spec
from noise_sched.experiment.rules.facts import Facts

GUIDED = 3.0  # guidance beyond this over-exposes from zero SNR without rescaling


@rule("sigma_data_disagrees", "error", "EDM Table 1")
def _one_sigma_data(facts: Facts) -> Words:
    found = facts.objective.sigma_data
    if len(set(found.values())) <= 1:
        return None
    said = ", ".join(f"{name} {value:g}" for name, value in found.items())
    return (
        f"different sigma_data: {said}. The data has one standard deviation.",
        f"Write the same number in each of them, measured in [-1, 1], such as "
        f"sigma_data={next(iter(found.values())):g}.",
    )


@rule("rescaled_in_another_space", "error", "ZT Algorithm 2")
def _rescaled_elsewhere(facts: Facts) -> Words:
    inner, own = _inner(facts.sampling.guidance), facts.objective.parametrization
    space = getattr(inner, "space", own)
    if not getattr(inner, "rescale", 0.0) or space == own:
        return None
    return (
        f"{chosen(facts.sampling, 'guidance')} rescales in {spec(space)}, but the network predicts "
        f"{spec(own)}, and the rescaling is not the same there.",
        f"Write sample.guidance={_guidance(facts, space=own)!r}.",
    )


@rule("guidance_without_rescale", "flaw", "ZT 3.4")
def _over_exposed(facts: Facts) -> Words:
    """Guidance that inflates the spread of the network's output (ZT 3.4), where that is the image's own.

    At alpha = 0 v is -x0, and guided v is -(x0 + (w - 1) (x0 - x0')): its spread grows with w, and ZT's
    Algorithm 2 divides that out. A velocity eps - x0 (`flow`) is not judged: it holds all of x_T's eps beside
    x0, so that w hardly changes its spread, and to rescale it by c would leave (1 - c) eps in the predicted
    x0. The guided x0 is the same linear combination in every prediction and at every SNR near 0, so a path
    of velocities that starts a hair's breadth above zero SNR is not judged either.
    """
    if isinstance(facts.objective.parametrization, parametrization.flow):
        return None
    guide: Any = facts.sampling.guidance
    inner = _inner(guide)
    strong = getattr(inner, "w", 1.0) > GUIDED and getattr(inner, "rescale", 0.0) == 0
    pulled_in = isinstance(facts.sampling.threshold, thresholding.dynamic)
    high = getattr(guide, "high", None)
    not_at_zero = high is not None and math.isfinite(high)
    if not strong or pulled_in or not_at_zero or not facts.zero_snr:
        return None
    return (
        f"guidance {spec(inner)} from zero SNR over-exposes: nothing there keeps the prediction's "
        "spread down.",
        f"sample.guidance={_guidance(facts, rescale=0.7, space=facts.objective.parametrization)!r}",
    )


@rule("offset_noise", "flaw", "ZT 5.4")
def _offset_noise(facts: Facts) -> Words:
    offset = facts.objective.offset_noise
    if not offset:
        return None
    return (
        f"offset noise {offset:g} shifts the brightness of the training noise, but sampling starts from "
        "noise without it: images come out darker and brighter, not with the data's brightness.",
        "loss.offset_noise=0.0 with a schedule of zero terminal SNR",
    )


def _inner(guidance: Any) -> Any:
    return guidance.guidance if isinstance(guidance, guidances.interval) else guidance


def _guidance(facts: Facts, **changes: Any) -> str:
    """The spec of the guidance with some of its values changed."""
    guidance = facts.sampling.guidance
    changed = dataclasses.replace(_inner(guidance), **changes)
    if isinstance(guidance, guidances.interval):
        changed = dataclasses.replace(guidance, guidance=changed)
    return spec(changed)


CHOICES: tuple[Rule, ...] = (
    _one_sigma_data,
    _rescaled_elsewhere,
    _over_exposed,
    _offset_noise,
)
