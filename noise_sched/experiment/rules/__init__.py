"""The rules of a training and a sampling set-up: one list, for all who ask what is wrong.

    find(RULES, Facts(Training(...), Sampling(...)))

The flaws are the published ones of Lin et al. 2024 (arXiv 2305.08891), choices that contradict each other,
and paths that waste or break their steps. `experiment.from_config` refuses what a rule of severity "error"
finds; `audit` reports all. What only a config knows has rules of the same shape in `compatibility`.
"""

from noise_sched.experiment.rules.base import Finding as Finding
from noise_sched.experiment.rules.base import Rule as Rule
from noise_sched.experiment.rules.base import Words as Words
from noise_sched.experiment.rules.base import errors as errors
from noise_sched.experiment.rules.base import find as find
from noise_sched.experiment.rules.base import rule as rule
from noise_sched.experiment.rules.base import worst_first as worst_first
from noise_sched.experiment.rules.choices import CHOICES
from noise_sched.experiment.rules.facts import Facts as Facts
from noise_sched.experiment.rules.noisy_end import NOISY_END
from noise_sched.experiment.rules.setup import Sampling as Sampling
from noise_sched.experiment.rules.setup import Training as Training
from noise_sched.experiment.rules.setup import spec as spec
from noise_sched.experiment.rules.steps import STEPS
from noise_sched.experiment.rules.trained_ends import TRAINED_ENDS

RULES: tuple[Rule[Facts], ...] = (*NOISY_END, *TRAINED_ENDS, *STEPS, *CHOICES)
