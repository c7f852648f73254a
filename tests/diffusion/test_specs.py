import dataclasses
import itertools

import jax
import pytest

from noise_sched import build
from noise_sched.diffusion import grids, parametrization, schedules, specs, weighting
from noise_sched.diffusion.specs import SpecError


def test_positional_keyword_and_bare_names():
    assert build("sigmoid(-3, 3, tau=0.9)") == schedules.sigmoid(-3, 3, tau=0.9)
    assert build("linear") == build("linear()") == schedules.linear()


# What cannot be made without arguments.
NEEDS = {
    "from_betas": "from_betas([0.1, 0.2])",
    "from_alpha_bars": "from_alpha_bars([0.9, 0.5])",
    "from_levels": "from_levels([-1.5, 2.0])",
    "zero_terminal": "zero_terminal(scaled_linear())",
    "shift": "shift(cosine(), 256)",
    "interpolated_shift": "interpolated_shift(cosine())",
    "crop": "crop(lognormal(), 0.001, 0.999)",
    "discrete": "discrete(scaled_linear())",
    "nearest": "nearest(karras(), cosine_betas())",
    "asymmetric": "asymmetric(uniform())",
    "interval": "interval(cfg(3.0), 0.2, 5.0)",
}


@pytest.mark.parametrize("kind", list(specs.KINDS))
def test_repr_of_every_default_is_a_spec_again(kind):
    assert specs.choices(kind)
    for name in specs.choices(kind):
        made = build(NEEDS.get(name, name), kind)
        assert build(repr(made), kind) == made


@pytest.mark.parametrize("kind", list(specs.KINDS))
def test_jit_tells_every_choice_from_every_other(kind):
    made = {name: build(NEEDS.get(name, name), kind) for name in specs.choices(kind)}
    assert len(made) > 1
    for one, other in itertools.combinations(made, 2):
        assert jax.tree.structure(made[one]) != jax.tree.structure(made[other]), (one, other)


def test_kind_decides_between_equal_names():
    assert build("none", "guidance") != build("none", "threshold")


def test_a_nested_name_means_what_the_field_says():
    """`flow` and `edm` are also a process, a weight and a grid."""
    assert build("uniform(flow())", "weight") == weighting.uniform(parametrization.flow())
    assert build("cfg(3, space=edm)", "guidance").space == parametrization.edm()
    with pytest.raises(SpecError, match="unknown schedule 'vp'"):
        build("zero_terminal(vp())", "schedule")


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        ("edm()", "a parametrization and a weight and a grid"),
        ("edm(0.5)", "a parametrization and a weight and a grid"),
        ("uniform", "a weight and a grid and a time"),
        ("none()", "a input_scale and a guidance and a threshold"),
        ("flow()", "a process and a parametrization"),
        ("sigmoid()", "a schedule and a weight"),
    ],
)
def test_a_name_of_several_kinds_is_refused_without_one(spec, kinds):
    with pytest.raises(SpecError, match=rf"is ambiguous: .* is {kinds}. .*build\("):
        build(spec)


def test_arguments_may_tell_the_kind():
    assert build("edm(last=0.5)") == grids.edm(last=0.5)
    assert build("sigmoid(-3, 3, tau=0.9)") == schedules.sigmoid(-3, 3, 0.9)
    assert build("sigmoid(bias=1)") == weighting.sigmoid(1)


def test_every_field_of_every_choice_refuses_other_types():
    """Generically, so that a new choice is checked by being written."""
    for kind in specs.KINDS:
        for name, made in specs.choices(kind).items():
            needed = NEEDS.get(name, name)
            for field in dataclasses.fields(made):
                if field.default is dataclasses.MISSING and needed != name:
                    continue  # given by position there
                for wrong in ("{}", "1e999", "1j"):
                    arguments = needed[needed.find("(") + 1 : -1] + ", " if "(" in needed else ""
                    spec = f"{name}({arguments}{field.name}={wrong})"
                    with pytest.raises(
                        SpecError, match=f"{field.name} of {name} must be|multiple v"
                    ):
                        build(spec, kind)


def test_no_kind_of_that_name():
    with pytest.raises(SpecError, match="unknown kind 'schedul'. Did you mean 'schedule'"):
        build("linear()", "schedul")


def test_shared_numbers():
    names = {"sigma_data": 0.3}
    assert build("edm(sigma_data)", "parametrization", names) == parametrization.edm(0.3)
    assert build("uniform(edm(sigma_data=sigma_data))", "weight", names).space.sigma_data == 0.3
    with pytest.raises(SpecError, match="'sigma_dat' is not a literal.*the shared sigma_data"):
        build("edm(sigma_dat)", "parametrization", names)


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
        (
            "vp(input_scale=__import__('os'))",
            "process",
            "input_scale of vp must be a finite number, got __import__",
        ),
        ("linear(clip_min=x)", "schedule", "not a literal"),
        ("1 + 1", "schedule", "expected a name"),
        ("ddim(eta=2)", "solver", r"\[0, 1\]"),
        ("ddpm('medium')", "solver", "'large' or 'small'"),
        ("cfg(-1)", "guidance", "non-negative"),
        ("static(0)", "threshold", "positive"),
        ("analytic(0)", "input_scale", "positive"),
        ("linear(**{})", "schedule", "not allowed"),
        ("from_betas([0.1, 1.2])", "schedule", r"beta_2 = 1.2 is outside \[0, 1\)"),
        ("from_betas([0.1, -0.2])", "schedule", "abar grow"),
        ("from_betas([1, 0.2])", "schedule", "only the last may be 1"),
        ("from_betas([])", "schedule", "empty"),
        ("from_alpha_bars([0.5, 0.6])", "schedule", "abar_2 = 0.6 after 0.5.*never increases"),
        ("from_alpha_bars([0, 0])", "schedule", "only the last may be 0"),
        ("scaled_linear(0.1, 2)", "schedule", r"in \[0, 1\)"),
        ("scaled_linear(levels=0)", "schedule", "at least 1 and at most 1,000,000, got 0"),
        ("cosine_betas(max_beta=2)", "schedule", r"max_beta in \(0, 1\]"),
        ("karras(80, 0.002)", "schedule", "0 < sigma_min < sigma_max"),
        ("karras(rho=0)", "schedule", "rho.*positive"),
        ("geometric(0, 1)", "schedule", "0 < sigma_min"),
        ("align_your_steps('sd3')", "schedule", "'sd15', 'sdxl', 'svd', got 'sd3'"),
        ("lognormal(0, 0)", "schedule", "p_std.*positive"),
        ("laplace(b=-1)", "schedule", "positive, got -1"),
        ("vp_diffusion(-1)", "schedule", "beta_d >= 0"),
        ("crop(cosine(), 1, 0)", "schedule", "start < end"),
        ("shift(cosine(), -1)", "schedule", "image_size.*positive"),
        ("interpolated_shift(cosine(), 64, 64, 32)", "schedule", "low <= high"),
        ("discrete(cosine())", "schedule", "needs levels"),
        ("zero_terminal()", "schedule", "missing a required argument: 'schedule'"),
        ("edm(0)", "parametrization", "sigma_data.*positive"),
        ("min_snr(0)", "weight", "positive, got 0"),
        ("p2(k=0)", "weight", "positive"),
        ("cfg(3, rescale=1.5)", "guidance", r"rescale.*\[0, 1\], got 1.5"),
        ("autoguide(-1)", "guidance", "autoguide.*non-negative"),
        ("interval(cfg(3), 2, 1)", "guidance", "low < high"),
        ("dynamic(1.5)", "threshold", r"percentile.*\(0, 1\]"),
        ("dynamic(maximum=0.5)", "threshold", "smaller than bound"),
        ("log_sigma(unit=0)", "conditioning", "unit.*positive"),
        ("edm(last=1.0)", "grid", r"\[0, 1\)"),
    ],
)
def test_wrong_specs_say_what_is_right(spec, kind, message):
    with pytest.raises(SpecError, match=message):
        build(spec, kind)
