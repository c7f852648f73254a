"""What a rule is: a named question to the facts of a set-up, with a severity and where it was published.

    error   cannot work: not finite, undefined, or two choices that contradict each other
    flaw    works, and draws other images than the data's
    note    worth knowing; harmless at this size or a matter of taste

A set-up with an error is refused where a config is read; everything is said by `python -m noise_sched.audit`.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import TypeAlias

from noise_sched.experiment.rules.facts import Facts

# (what is wrong, with its numbers; the change that ends it), or None where nothing is.
Words: TypeAlias = tuple[str, str] | None

SEVERITIES = ("error", "flaw", "note")


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
      name: of the flaw, for programs.
      severity: "error", "flaw" or "note".
      source: where it was published.
      what: what is wrong, with its numbers.
      fix: the change that ends it, as text of a config.
    """

    name: str
    severity: str
    source: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what} {self.fix}"


@dataclasses.dataclass(frozen=True)
class Rule:
    """A question to the facts of a set-up.

    Attributes:
      name: of what it finds, for programs. Two rules share a name where one thing is worse at times.
      severity: "error", "flaw" or "note".
      source: where it was published.
      look: facts -> what is wrong and what to do, or None.
    """

    name: str
    severity: str
    source: str
    look: Callable[[Facts], Words]

    def __call__(self, facts: Facts) -> Finding | None:
        """What is wrong, or None."""
        words = self.look(facts)
        return None if words is None else Finding(self.name, self.severity, self.source, *words)


def rule(name: str, severity: str, source: str) -> Callable[[Callable[[Facts], Words]], Rule]:
    """Makes a rule of the function below it."""
    return lambda look: Rule(name, severity, source, look)


def config_rule(
    name: str, severity: str, source: str
) -> Callable[[Callable[[Facts], Words]], Rule]:
    """Makes a rule of the function below it, which asks the config: it is silent where there is none."""

    def make(look: Callable[[Facts], Words]) -> Rule:
        return Rule(name, severity, source, lambda facts: look(facts) if facts.config else None)

    return make


def find(rules: Iterable[Rule], facts: Facts) -> tuple[Finding, ...]:
    """What the rules find, worst first."""
    found = (each(facts) for each in rules)
    return worst_first(finding for finding in found if finding is not None)


def errors(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Those of the rules that refuse a config."""
    return tuple(each for each in rules if each.severity == "error")


def worst_first(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors, then flaws, then notes; otherwise in the order given."""
    return tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)))
