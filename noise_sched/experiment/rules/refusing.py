"""The one list of rules, and what is refused by it."""

import dataclasses

from noise_sched.diffusion.guidance import none
from noise_sched.experiment.ranges import ConfigError
from noise_sched.experiment.rules.base import Rule, errors, find
from noise_sched.experiment.rules.choices import CHOICES
from noise_sched.experiment.rules.facts import Facts
from noise_sched.experiment.rules.network import NETWORK
from noise_sched.experiment.rules.noisy_end import NOISY_END
from noise_sched.experiment.rules.optimization import OPTIMIZATION
from noise_sched.experiment.rules.steps import STEPS
from noise_sched.experiment.rules.trained_ends import TRAINED_ENDS

RULES: tuple[Rule, ...] = (
    *NOISY_END,
    *TRAINED_ENDS,
    *STEPS,
    *CHOICES,
    *NETWORK,
    *OPTIMIZATION,
)
_ERRORS = errors(RULES)


def check(facts: Facts) -> None:
    """Refuses what cannot work.

    Raises:
      ConfigError: one line for each rule of severity "error" that finds something.
    """
    if found := find(_ERRORS, facts):
        raise ConfigError("\n".join(map(str, found)))


def check_guide(own: Facts, guide: Facts) -> None:
    """Refuses a second network that cannot guide the first: both are called with one x_t, level and label.

    Its parametrization, input scale, conditioning and size may differ, for each has its own ends. A guide
    without classes is what Karras et al. 2024 (arXiv 2312.02696) take for classifier-free guidance.

    Raises:
      ConfigError: naming what differs, with both values.
    """
    ours, theirs = own.config, guide.config
    given = f"config.sample.guide_workdir={ours.sample.guide_workdir!r} cannot guide this model"
    pairs = {
        f"data.{key}": (theirs.data[key], ours.data[key]) for key in ("image_size", "channels")
    }
    if theirs.network.num_classes:
        pairs["network.num_classes"] = theirs.network.num_classes, ours.network.num_classes
    pairs["process"] = guide.objective.process, own.objective.process
    differences = [
        f"{key} is {a!r} there and {b!r} here" for key, (a, b) in pairs.items() if a != b
    ]
    if differences:
        raise ConfigError(
            f"{given}: {', '.join(differences)}. Both are called with the same noisy image, level and "
            "label: give the workdir of a model with the same of each."
        )
    path = dataclasses.replace(own.sampling, guidance=none())
    if found := find(_ERRORS, Facts(guide.objective, path)):
        raise ConfigError(
            f"{given}. With its workdir's config and this one's sample.*: {' '.join(map(str, found))}"
        )
