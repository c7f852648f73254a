import pytest

from noise_sched import build
from noise_sched.diffusion import schedules, specs
from noise_sched.diffusion.specs import SpecError


def test_positional_keyword_and_bare_names():
    assert build("sigmoid(-3, 3, tau=0.9)") == schedules.sigmoid(-3, 3, tau=0.9)
    assert build("linear") == build("linear()") == schedules.linear()


@pytest.mark.parametrize("kind", list(specs.KINDS))
def test_repr_of_every_default_is_a_spec_again(kind):
    assert specs.choices(kind)
    for name in specs.choices(kind):
        made = build(name, kind)
        assert build(repr(made), kind) == made


def test_kind_decides_between_equal_names():
    assert build("none", "guidance") != build("none", "threshold")


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("sigmiod(-3, 3)", "schedule", "unknown schedule 'sigmiod'.*Did you mean 'sigmoid'"),
        ("dddim()", "solver", "Did you mean 'ddim'"),
        ("sigmoid(-3, 3, tua=1)", "schedule", r"Did you mean 'tau'\? The call is sigmoid\(start"),
        ("sigmoid(-3, 3, 1, 0, 5)", "schedule", "The call is sigmoid"),
        ("sigmoid(-3, 3", "schedule", "cannot read the schedule.*for example"),
        ("cosine(1, 0)", "schedule", "start < end"),
        ("cosine(tau=0)", "schedule", "tau.*positive, got 0"),
        ("linear(clip_min=2)", "schedule", r"clip_min must lie in \[0, 1\)"),
        ("plain_cosine(0.1, 0)", "schedule", "0 <= ns <= ds"),
        ("logarithmic(0, 1)", "schedule", "two different positive"),
        ("vp(input_scale=-1)", "process", "must be positive, got -1"),
        ("vp(input_scale=__import__('os'))", "process", "Known|not a literal|unknown"),
        ("linear(clip_min=x)", "schedule", "not a literal"),
        ("1 + 1", "schedule", "expected a name"),
        ("ddim(eta=2)", "solver", r"\[0, 1\]"),
        ("ddpm('medium')", "solver", "'large' or 'small'"),
        ("cfg(-1)", "guidance", "non-negative"),
        ("static(0)", "threshold", "positive"),
        ("analytic(0)", "input_scale", "positive"),
        ("linear(**{})", "schedule", "not allowed"),
    ],
)
def test_wrong_specs_say_what_is_right(spec, kind, message):
    with pytest.raises(SpecError, match=message):
        build(spec, kind)
