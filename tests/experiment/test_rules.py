"""One list of rules: `from_config` refuses what the audit calls an error, in the same words."""

import dataclasses
import itertools

from configs import digits, digits_unet
from noise_sched import experiment
from noise_sched.auditing import report, text
from noise_sched.auditing.report import Curve, Density
from noise_sched.experiment import ConfigError
from noise_sched.experiment.rules import RULES, find

# Of each key, choices that meet the rules: zero SNR, a table, another space, repeated levels.
MATHEMATICS = {
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
}
# What only a config knows has nothing to do with those but the guidance.
CONFIG = {
    "sample.guidance": ["cfg(2)", "autoguide(2)"],
    "network.num_classes": [0],
    "label_dropout": [0.0],
    "data.flip": [True],
    "augment.probability": [0.1],
    "loss.uncertainty": [True],
    "optimizer.name": ["lamb"],
    "optimizer.warmup_images": [500],
    "optimizer.normalize_weights": [True],
    "ema.stds": [(0.5,), (0.05,)],
    "ema.halflife_images": [500],
    "ema.snapshot_every": [5],
    "sample.ema_std": [0.1],
    "sample.classes": [(99,)],
}


def pairs():
    """Every choice of a key together with every choice of another."""
    for keys in (MATHEMATICS, CONFIG):
        for (one, some), (other, more) in itertools.combinations(keys.items(), 2):
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
    monkeypatch.setattr(report, "_density", lambda _: Density((), (), 0.0, 0.0))
    monkeypatch.setattr(report, "_curve", lambda _: Curve((), (), ()))
    met = set()
    without_memory = digits_unet, {"loss.self_conditioning": 0.5}
    for source, changes in [without_memory, *((digits, each) for each in pairs())]:
        config = source.get_config("tiny")
        config.update_from_flattened_dict(changes)
        found = report.audit(experiment.facts_of(config)).findings
        errors = [f"{f.what} {f.fix}" for f in found if f.severity == "error"]
        assert refusal(config) == "\n".join(errors), changes
        met |= {f.name for f in found if f.severity == "error"}
    assert {each.name for each in RULES if each.severity == "error"} <= met, "no pair meets these"


def test_a_path_that_stands_still_is_refused_and_still_audited():
    """Its images are all NaN; with a solver that stands still too they are not, and that is a note."""
    config = digits.get_config("tiny")
    changes = {"sample.schedule": "discrete(cosine(), levels=10)", "sample.steps": 50}
    config.update_from_flattened_dict(changes | {"sample.solver": "dpmpp()"})
    found = report.audit(experiment.facts_of(config))
    (error,) = [f for f in found.findings if f.severity == "error"]
    assert refusal(config) == f"{error.what} {error.fix}"
    for words in (
        "sample.steps=50",
        "discrete(cosine(), 10)",
        "dpmpp()",
        "not finite",
        "sample.steps=10,",
    ):
        assert words in refusal(config)
    said = text.as_text(found)
    assert "ERROR levels_repeated" in said and f"Fix: {error.fix}" in said
    config.sample.solver = "ddim()"
    assert refusal(config) == ""
    (note,) = report.audit(experiment.facts_of(config)).findings
    assert (note.name, note.severity) == ("levels_repeated", "note")


def test_the_audit_knows_what_only_a_config_knows():
    config = digits.get_config("tiny")
    config.update_from_flattened_dict({"network.num_classes": 0, "sample.guidance": "cfg(2)"})
    (error,) = report.audit(experiment.facts_of(config)).findings
    assert error.name == "guidance_without_classes" and str(error) == refusal(config)


def test_a_name_is_that_of_one_rule_or_of_one_at_several_severities():
    assert len({(each.name, each.severity) for each in RULES}) == len(RULES)


def test_what_asks_the_config_is_silent_without_one():
    facts = experiment.facts_of(digits.get_config("tiny"))
    alone = dataclasses.replace(facts, config=None, network=None)
    assert find(RULES, alone) == find(RULES, facts)
