"""The audit: Table 1 of Lin et al. 2024, and each flaw in a pair of set-ups with and without it."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mixtures import mixture

from noise_sched.auditing.report import audit, lin_table
from noise_sched.diffusion import specs
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.sampling import Sampling, initial_noise, sample
from noise_sched.experiment.rules import RULES, Facts, find, spec
from noise_sched.experiment.rules.choices import CHOICES
from noise_sched.experiment.rules.noisy_end import NOISY_END
from noise_sched.experiment.rules.steps import STEPS
from noise_sched.experiment.rules.trained_ends import TRAINED_ENDS

# As printed in arXiv 2305.08891; the cosine row is the float32 result.
TABLE_1 = {
    "linear": (4.035993e-05, 0.006353),
    "cosine": (2.428735e-09, 4.928220e-05),
    "Stable Diffusion": (0.004682, 0.068265),
}


def test_table_1():
    rows = {row.name: row for row in lin_table()}
    assert set(rows) == set(TABLE_1)
    for name, (snr, sqrt_alpha_bar) in TABLE_1.items():
        digits = 5e-7 / snr if snr > 1e-3 else 0  # printed with four digits
        np.testing.assert_allclose(rows[name].snr, snr, rtol=max(2e-5, digits))
        digits = 5e-7 / sqrt_alpha_bar if sqrt_alpha_bar > 1e-3 else 0
        np.testing.assert_allclose(
            rows[name].sqrt_alpha_bar, sqrt_alpha_bar, rtol=max(2e-5, digits)
        )
    # All digits that float64 has, own computation.
    np.testing.assert_allclose(rows["Stable Diffusion"].snr, 0.004681917, rtol=2e-7)
    np.testing.assert_allclose(rows["cosine"].snr, 2.428767e-09, rtol=2e-7)


# Set-ups without a flaw, as specs.
MENDED = dict(
    schedule="discrete(zero_terminal(scaled_linear()))",
    process="vp()",
    parametrization="v()",
    input_scale="none()",
    conditioning="index(zero_terminal(scaled_linear()))",
    loss_space="v()",
    weight="uniform()",
    offset_noise=0.0,
    sample_schedule="zero_terminal(scaled_linear())",
    grid="trailing()",
    steps=25,
    solver="ddim()",
    guidance="cfg(7.5, rescale=0.7)",
    threshold="none()",
)
EDM = MENDED | dict(
    schedule="lognormal()",
    process="ve()",
    parametrization="edm(0.5)",
    input_scale="analytic(0.5)",
    conditioning="log_sigma()",
    loss_space="edm(0.5)",
    sample_schedule="karras()",
    grid="edm()",
    steps=18,
    solver="heun()",
    guidance="none()",
)
CHEN = MENDED | dict(
    schedule="sigmoid(-3, 3, tau=0.9)",
    process="vp(0.6)",
    input_scale="per_example_std()",
    conditioning="gamma()",
    sample_schedule="cosine()",
    grid="uniform()",
    guidance="none()",
)
FLOW = CHEN | dict(
    schedule="logit_normal()",
    process="flow()",
    parametrization="flow()",
    input_scale="none()",
    loss_space="flow()",
    sample_schedule="shift(rectified_flow(), 3, 1)",
)
PLAIN = dict(schedule="discrete(scaled_linear())", sample_schedule="scaled_linear()")
EPS = dict(parametrization="eps()", loss_space="eps()")
REPEATED = dict(sample_schedule="discrete(cosine(), levels=5)", grid="uniform()", steps=9)


def made(**choices):
    kinds = {"loss_space": "parametrization", "sample_schedule": "schedule"}
    built = {
        name: specs.build(value, kinds.get(name, name)) if isinstance(value, str) else value
        for name, value in choices.items()
    }
    fields = {f.name for f in dataclasses.fields(Objective)}
    objective = Objective(**{k: v for k, v in built.items() if k in fields})
    sampling = {k: v for k, v in built.items() if k not in fields}
    sampling["schedule"] = sampling.pop("sample_schedule")
    return objective, Sampling(**sampling)


def audited(pixels=4096, **choices):
    return audit(Facts(*made(**choices), pixels))


def found(pixels=4096, **choices):
    return {f.name: f for f in audited(pixels, **choices).findings}


@pytest.mark.parametrize("sound", [MENDED, EDM, CHEN, FLOW], ids=["zt", "edm", "chen", "flow"])
def test_nothing_is_found_in_a_sound_set_up(sound):
    assert found(**sound) == {}
    assert not audited(**sound).flawed


# (name, severity, a sound set-up, what gives it the flaw, words of the mend)
FLAWS = [
    ("nonzero_terminal_snr", "flaw", MENDED, PLAIN, "zero_terminal(scaled_linear())"),
    (
        "nonzero_terminal_snr",
        "flaw",
        MENDED,
        dict(schedule="discrete(linear_betas())", sample_schedule="linear_betas()"),
        "zero_terminal(linear_betas())",
    ),
    (
        "nonzero_terminal_snr",
        "note",
        MENDED,
        dict(schedule="discrete(cosine_betas())", sample_schedule="cosine_betas()"),
        "cosine_betas(max_beta=1.0)",
    ),
    ("last_level_not_sampled", "flaw", MENDED, dict(grid="leading(offset=1)"), "trailing()"),
    ("last_level_not_sampled", "flaw", MENDED | PLAIN, dict(grid="leading()"), "trailing()"),
    ("last_level_not_sampled", "flaw", CHEN, dict(sample_schedule="karras()"), "sigmoid("),
    ("parametrization_at_zero_snr", "error", MENDED, EPS, "v()"),
    ("parametrization_at_zero_snr", "error", CHEN, EPS, "v()"),
    ("conditioning_at_zero_snr", "error", MENDED, dict(conditioning="log_sigma()"), "angle()"),
    ("process_at_zero_snr", "error", MENDED, dict(process="ve()"), "vp()"),
    ("eps_trained_at_zero_snr", "flaw", MENDED, EPS, "v()"),
    ("zero_snr_without_weight", "flaw", MENDED, dict(weight="min_snr()"), "uniform()"),
    ("zero_snr_without_weight", "flaw", MENDED, dict(loss_space="eps()"), "loss.space='v()'"),
    ("zero_snr_without_weight", "error", MENDED, dict(weight="sigmoid()"), "uniform()"),
    (
        "levels_never_trained",
        "flaw",
        MENDED | PLAIN,
        dict(sample_schedule="zero_terminal(scaled_linear())"),
        "sample.schedule='scaled_linear()'",
    ),
    ("guidance_without_rescale", "flaw", MENDED, dict(guidance="cfg(7.5)"), "cfg(7.5, 0.7)"),
    (
        "guidance_without_rescale",
        "flaw",
        MENDED,
        dict(guidance="interval(cfg(7.5), 0.1)"),
        "cfg(7.5, 0.7)",
    ),
    ("offset_noise", "flaw", MENDED, dict(offset_noise=0.1), "offset_noise=0.0"),
    ("sigma_data_disagrees", "error", EDM, dict(weight="edm(0.3)"), "sigma_data=0.5"),
    ("sigma_data_disagrees", "error", EDM, dict(input_scale="analytic()"), "sigma_data=0.5"),
    ("sigma_data_disagrees", "error", EDM, dict(weight="uniform(edm(1.0))"), "sigma_data=0.5"),
    (
        "steps_crowded_in_noise",
        "flaw",
        MENDED,
        dict(sample_schedule="karras(0.03, 4096)", grid="edm()"),
        "trailing()",
    ),
    ("levels_repeated", "note", MENDED, REPEATED, "sample.steps=5,"),
    ("levels_repeated", "error", MENDED, REPEATED | dict(solver="dpmpp()"), "sample.steps=5,"),
    ("grid_of_another_table", "error", MENDED, dict(grid="trailing(500)"), "levels=1000"),
    (
        "multistep_off_the_path",
        "error",
        CHEN,
        dict(grid="asymmetric(uniform(), td=1.0)", solver="dpmpp()"),
        "ddim()",
    ),
    (
        "not_finite_at_the_ends",
        "error",
        MENDED,
        dict(schedule="discrete(from_betas((0.0, 0.1)))", parametrization="x0()", loss_space="v()"),
        "crop(",
    ),
    (
        "eps_trained_at_zero_snr",
        "error",
        MENDED,
        dict(parametrization="eps()", loss_space="x0()"),
        "parametrization='v()'",
    ),
    ("ends_noisy", "note", CHEN, dict(sample_schedule="plain_cosine()"), "t = 0"),
    ("levels_between_trained", "note", MENDED, dict(grid="uniform()", steps=30), "trailing()"),
    ("linspace_at_few_steps", "note", MENDED, dict(grid="linspace()", steps=10), "trailing()"),
    (
        "eps_near_zero_snr",
        "note",
        CHEN | EPS | dict(sample_schedule="plain_cosine()", threshold="static()"),
        dict(threshold="none()"),
        "static()",
    ),
    (
        "rescaled_in_another_space",
        "error",
        MENDED,
        dict(guidance="cfg(7.5, 0.7, x0())"),
        "'cfg(7.5, 0.7)'",
    ),
]


@pytest.mark.parametrize(
    ("name", "severity", "sound", "change", "mend"), FLAWS, ids=[f"{f[0]}-{f[3]}" for f in FLAWS]
)
def test_a_flaw_is_found_where_it_is_and_only_there(name, severity, sound, change, mend):
    assert name not in found(**sound)
    flaw = found(**sound | change)[name]
    assert flaw.severity == severity and mend in flaw.fix and flaw.what and flaw.source


def test_every_rule_of_the_mathematics_has_a_pair():
    assert {(name, severity) for name, severity, *_ in FLAWS} == {
        (each.name, each.severity) for each in (*NOISY_END, *TRAINED_ENDS, *STEPS, *CHOICES)
    }


# Whether a solver comes to finite images where a path at zero SNR, or further on, stands still.
REPEATING = {
    "cosine": ["ddim()", "euler()"],
    "plain_cosine": ["ddim()", "ddim(1.0)", "ddpm()", "euler()", "dpmpp(1)"],
}
SOLVERS = ["ddim()", "ddim(1.0)", "ddpm()", "euler()", "dpmpp(1)", "dpmpp()", "unipc()"]


@pytest.mark.parametrize("solver", SOLVERS)
def test_repeated_levels_are_an_error_exactly_where_images_are_not_finite(solver):
    for base, copes in REPEATING.items():
        schedule = f"discrete({base}(), levels=3)"
        training, sampling = made(**CHEN | dict(sample_schedule=schedule, steps=5, solver=solver))
        flaws = {f.name: f for f in find(RULES, Facts(training, sampling))}
        path = sampling.path(training.process)
        denoise = mixture(jnp.asarray([[0.5, -0.5], [-0.3, 0.8]]), [0.2, 0.1])
        keys = jax.random.split(jax.random.key(1), 2)
        x_T = initial_noise(keys, jax.tree.map(lambda f: f[0], path), (2,))
        images = sample(keys, denoise, sampling.solver, path, x_T)
        finite = bool(jnp.isfinite(images).all())
        assert finite == (solver in copes)
        assert flaws["levels_repeated"].severity == ("note" if finite else "error")


def test_levels_that_only_float32_repeats():
    """Near zero SNR two angles may be one number where alpha / sigma still grows; only the latter counts."""
    falls = "from_alpha_bars((1e-16, 1e-18))"
    sampling = dict(sample_schedule=falls, grid="uniform()", steps=2, threshold="static()")
    assert "levels_repeated" not in found(**CHEN | sampling)
    again = dict(sample_schedule="from_alpha_bars((0.50000000001, 0.5))")
    assert found(**CHEN | sampling | again)["levels_repeated"].severity == "note"


def test_guidance_that_over_exposes_nothing():
    for guidance in ("cfg(2.0)", "interval(cfg(7.5), 0.1, 10.0)", "none()"):
        assert "guidance_without_rescale" not in found(**MENDED | dict(guidance=guidance))
    dynamic = dict(guidance="cfg(7.5)", threshold="dynamic()")
    assert "guidance_without_rescale" not in found(**MENDED | dynamic)


def test_small_images_leak_less():
    # sqrt(SNR N): 8 x 8 pixels of the linear table keep 0.05 of a standard deviation.
    linear = MENDED | dict(schedule="discrete(linear_betas())", sample_schedule="linear_betas()")
    assert found(64, **linear)["nonzero_terminal_snr"].severity == "note"
    assert found(1024, **linear)["nonzero_terminal_snr"].severity == "flaw"


@pytest.mark.parametrize("steps", [1, 7, 10, 25, 48, 1000])
def test_trailing_always_samples_the_last_level(steps):
    report = audited(**MENDED | dict(steps=steps))
    assert report.samples_last_level and report.zero_snr and not report.flawed
    assert len(report.steps) == steps + 1 and report.steps[-1].logsnr == math.inf


def test_numbers_of_a_report():
    report = audited(**MENDED | PLAIN | dict(grid="leading(offset=1)", steps=50))
    np.testing.assert_allclose(report.terminal.snr, 0.004681917, rtol=1e-6)
    np.testing.assert_allclose(report.terminal.leak, math.sqrt(0.004681917 * 4096), rtol=1e-6)
    assert not report.samples_last_level and not report.zero_snr and report.zero_snr_supported
    agreement = report.agreement
    assert agreement.untrained == () and agreement.between_levels == 0
    np.testing.assert_allclose(agreement.trained[0], math.log(0.004681917), rtol=1e-6)
    np.testing.assert_allclose(agreement.skipped_noise, (agreement.trained[0], -5.148), rtol=1e-3)
    np.testing.assert_allclose(report.steps[0].t, 0.982)
    assert agreement.widest_step[0] < agreement.widest_step[1] == report.steps[-2].logsnr


def test_input_scaling_moves_the_terminal_snr():
    one, half = (audited(**MENDED | PLAIN | dict(process=f"vp({b})")).terminal for b in (1.0, 0.5))
    np.testing.assert_allclose(half.snr, 0.25 * one.snr, rtol=1e-12)


def test_density_of_the_lognormal():
    density = audited(**EDM).density
    total = sum(density.share) + density.noisier + density.cleaner
    np.testing.assert_allclose(total, 1.0, rtol=1e-12)
    centres = np.asarray(density.edges[:-1]) + 0.5
    # ln sigma ~ N(-1.2, 1.2^2), logSNR = -2 ln sigma ~ N(2.4, 2.4^2)
    exact = np.exp(-0.5 * ((centres - 2.4) / 2.4) ** 2) / (2.4 * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(density.share, exact, atol=2e-3)


def test_a_spec_builds_what_it_says():
    choices = made(**MENDED) + made(**EDM) + made(**FLOW)
    for each in choices:
        for field in dataclasses.fields(each):
            value = getattr(each, field.name)
            if dataclasses.is_dataclass(value):
                kind = {"loss_space": "parametrization"}.get(field.name, field.name)
                assert specs.build(spec(value), kind) == value


def test_the_precision_of_the_caller_is_left_alone():
    assert not jax.config.jax_enable_x64
    one = audited(**MENDED | PLAIN)
    assert not jax.config.jax_enable_x64
    with jax.enable_x64(True):
        assert audited(**MENDED | PLAIN) == one
