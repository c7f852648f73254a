"""The rules of a training and a sampling set-up: one list, for all who ask what is wrong.

    find(RULES, Facts(objective, sampling))

The flaws are the published ones of Lin et al. 2024 (arXiv 2305.08891), choices that contradict each other,
and paths that waste or break their steps. `from_config` refuses what a rule of severity "error" finds; an
audit reports all. Rules of what only a config knows are silent on set-ups that come from none.
"""

from noise_sched.experiment.rules.base import Finding as Finding
from noise_sched.experiment.rules.base import Rule as Rule
from noise_sched.experiment.rules.base import Words as Words
from noise_sched.experiment.rules.base import config_rule as config_rule
from noise_sched.experiment.rules.base import errors as errors
from noise_sched.experiment.rules.base import find as find
from noise_sched.experiment.rules.base import rule as rule
from noise_sched.experiment.rules.base import worst_first as worst_first
from noise_sched.experiment.rules.config_text import spec as spec
from noise_sched.experiment.rules.facts import Facts as Facts
from noise_sched.experiment.rules.refusing import RULES as RULES
from noise_sched.experiment.rules.refusing import check as check
from noise_sched.experiment.rules.refusing import check_guide as check_guide
