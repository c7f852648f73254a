"""Rules of the two outermost levels that training draws: all that is computed there is finite."""

import math

import jax

from noise_sched.experiment.rules.base import Rule, Words, errors, rule
from noise_sched.experiment.rules.config_text import chosen
from noise_sched.experiment.rules.facts import Facts
from noise_sched.experiment.rules.noisy_end import NOISY_END


@rule("not_finite_at_the_ends", "error", "what the outermost draws of t give, computed")
def _not_finite(facts: Facts) -> Words:
    if any(each(facts) for each in errors(NOISY_END)):
        return None  # told in more words there
    logsnr, met = jax.device_get(facts.met)
    objective = facts.objective
    output, space = (chosen(objective, field) for field in ("parametrization", "loss_space"))
    names = dict(
        seen=f"the input that {chosen(objective, 'input_scale')} makes",
        condition=chosen(objective, "conditioning"),
        weight=f"{chosen(objective, 'weight')} in {space}",
        loss=f"the loss of {output} in {space}",
        gradient=f"the gradient of {output} in {space}",
    )
    for name, values in met._asdict().items():
        for value, end, at in zip(values, ("cleanest", "noisiest"), logsnr, strict=True):
            if not math.isfinite(value):
                return (
                    f"{names[name]} is {value} at the {end} level that {chosen(objective, 'schedule')} "
                    f"draws, logSNR {at:.4g}.",
                    "Predict and measure in 'v()', condition on 'angle()', or draw less of the schedule: "
                    "'crop(..., 0.001, 0.999)'.",
                )
    return None


TRAINED_ENDS: tuple[Rule, ...] = (_not_finite,)
