"""One list of rules: `from_config` refuses what the audit calls an error, in the same words."""

import itertools

from configs import digits
from noise_sched import audit, experiment
from noise_sched.auditing import report as diffusion_audit
from noise_sched.auditing.report import Curve, Density
from noise_sched.experiment import ConfigError, compatibility
from noise_sched.experiment.rules import RULES

# Of each key, choices that meet the rules: zero SNR, a table, another space, repeated levels.
CHOICES = {
    "schedule": ["discrete(zero_terminal(scaled_linear()))"],
    "process": ["ve()"],
    "parametrization": ["eps()", "edm(0.5)"],
    "conditioning": ["log_sigma()"],
    "loss.space": ["eps()", "x0()"],
    "loss.weight": ["edm(0.3)", "sigmoid()"],
    "sample.schedule": ["scaled_linear()", "discrete(cosine(), 3)"],
    "sample.grid": ["trailing(500)", "asymmetric(uniform(), td=1.0)"],
    "sample.solver": ["dpmpp()"],
    "sample.guidance": ["cfg(2, 0.7)", "autoguide(2)"],
    "network.num_classes": [0],
    "ema.stds": [(0.5,)],
}  # fmt: skip


def pairs():
    """Every choice of a key together with every choice of another."""
    for (one, some), (other, more) in itertools.combinations(CHOICES.items(), 2):
        for first, second in itertools.product(some, more):
            yield {one: first, other: second}
    # A level that is clean data, of which a predicted image does not tell the noise.
    yield {"schedule": "discrete(from_betas((0.0, 0.1)))", "parametrization": "x0()"}


def refusal(config):
    try:
        experiment.from_config(config)
    except ConfigError as error:
        return str(error)
    return ""


def test_the_audit_and_the_refusal_agree_on_every_pair_of_choices(monkeypatch):
    # What is for the picture alone is most of what an audit costs.
    monkeypatch.setattr(diffusion_audit, "_density", lambda _: Density((), (), 0.0, 0.0))
    monkeypatch.setattr(diffusion_audit, "_curve", lambda _: Curve((), (), ()))
    base, met = digits.get_config("tiny"), set()
    for changes in pairs():
        config = base.copy_and_resolve_references()
        config.update_from_flattened_dict(changes)
        found = audit.of_config(experiment.choices_of(config)).findings
        errors = [f"{f.what} {f.mend}" for f in found if f.severity == "error"]
        assert refusal(config) == "\n".join(errors), changes
        met |= {f.name for f in found if f.severity == "error"}
    assert {each.name for each in RULES if each.severity == "error"} <= met, "no pair meets these"


def test_a_path_that_stands_still_is_refused_and_still_audited():
    """Its images are all NaN; with a solver that stands still too they are not, and that is a note."""
    config = digits.get_config("tiny")
    changes = {"sample.schedule": "discrete(cosine(), levels=10)", "sample.steps": 50}
    config.update_from_flattened_dict(changes | {"sample.solver": "dpmpp()"})
    report = audit.of_config(experiment.choices_of(config))
    (error,) = [f for f in report.findings if f.severity == "error"]
    assert refusal(config) == f"{error.what} {error.mend}"
    for words in (
        "sample.steps=50",
        "discrete(cosine(), 10)",
        "dpmpp()",
        "not finite",
        "sample.steps=10,",
    ):
        assert words in refusal(config)
    text = audit.as_text(report)
    assert "ERROR levels_repeated" in text and f"Fix: {error.mend}" in text
    config.sample.solver = "ddim()"
    assert refusal(config) == ""
    (note,) = audit.of_config(experiment.choices_of(config)).findings
    assert (note.name, note.severity) == ("levels_repeated", "note")


def test_the_audit_knows_what_only_a_config_knows():
    config = digits.get_config("tiny")
    config.update_from_flattened_dict({"network.num_classes": 0, "sample.guidance": "cfg(2)"})
    (error,) = audit.of_config(experiment.choices_of(config)).findings
    assert error.name == "guidance_without_classes" and str(error) == refusal(config)


def test_every_rule_of_a_config_has_a_name_and_words_of_its_own():
    names = [each.name for each in compatibility.CONFIG_RULES]
    assert len(set(names)) == len(names) and not {each.name for each in RULES} & set(names)
    assert {each.severity for each in compatibility.CONFIG_RULES} == {"error"}
