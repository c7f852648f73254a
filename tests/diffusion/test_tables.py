"""Discrete levels: their ends against Lin et al. and against diffusers' own tables (goldens/README.md)."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.diffusion import conditioning, grids, process, schedules, specs

GOLDENS = np.load(pathlib.Path(__file__).parent / "goldens" / "diffusers_choices.npz")
TABLES = {
    "linear": "linear_betas()",
    "scaled_linear": "scaled_linear()",
    "squaredcos_cap_v2": "cosine_betas()",
    "sigmoid": "sigmoid_betas()",
}


def abar(table):
    """abar_1 .. abar_T of a table of logSNR, on the host."""
    return 1 / (1 + np.exp(-np.asarray(table)))


@pytest.mark.parametrize(
    ("spec", "snr", "root"),
    [
        ("linear_betas()", 4.035993e-05, 0.006353),
        ("cosine_betas()", 2.428735e-09, 4.928220e-05),  # the paper's digits are float32's
        ("scaled_linear()", 0.004682, 0.068265),
    ],
)
def test_table_1_of_lin_et_al(spec, snr, root):
    last = specs.build(spec).table()[-1]
    # The last has four digits in print.
    assert np.exp(last) == pytest.approx(snr, rel=2e-5 if spec != "scaled_linear()" else 1e-4)
    assert np.sqrt(abar(last)) == pytest.approx(root, rel=2e-5 if "cos" in spec else 1e-4)


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("end", ["plain", "zsnr"])
def test_tables_and_algorithm_1(name, end):
    spec = TABLES[name] if end == "plain" else f"zero_terminal({TABLES[name]})"
    ours = abar(specs.build(spec).table())[GOLDENS["a/index"]]
    exact = GOLDENS[f"a/{name}/{end}/own64_alphas_cumprod"]
    held = GOLDENS[f"a/{name}/{end}/alphas_cumprod"]
    np.testing.assert_allclose(ours, exact, rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(ours, held, rtol=5e-4, atol=1e-12)  # their tables are float32


def test_the_librarys_laplace_takes_a_root_for_the_square():
    """Its alpha-bar at the middle is 0.707, where logSNR 0 needs 0.5; ours is right."""
    middle = list(GOLDENS["a/index"]).index(500)
    theirs = GOLDENS["a/laplace/plain/alphas_cumprod"][middle]
    assert theirs == pytest.approx(np.sqrt(0.5), rel=2e-3)
    assert float(schedules.laplace().gamma(0.5)) == 0.5


@pytest.mark.parametrize("spec", [*TABLES.values(), "zero_terminal(scaled_linear())"])
@pytest.mark.parametrize("x64", [False, True])
def test_t_is_level_k_exactly(spec, x64):
    with jax.enable_x64(x64):
        schedule = specs.build(spec)
        k = np.arange(0, 1001)
        by_time = schedule.logsnr(jnp.asarray(k / 1000, float))
        np.testing.assert_array_equal(by_time, schedule.level(jnp.asarray(k)))
        np.testing.assert_array_equal(by_time[1:], jnp.asarray(schedule.table(), float))
        np.testing.assert_array_equal(schedules.discrete(schedule).logsnr(k / 1000), by_time)
        assert schedule.level(0) == np.inf


def test_between_levels_logsnr_is_linear():
    with jax.enable_x64(True):
        schedule = schedules.scaled_linear()
        low, high = schedule.level(400), schedule.level(401)
        assert float(schedule.logsnr(0.40025)) == pytest.approx(low + 0.25 * (high - low))
        assert float(schedule.logsnr(0.00025)) == pytest.approx(schedule.level(1) - np.log(0.25))


def test_zero_terminal_keeps_the_first_level_and_zeroes_the_last():
    table = schedules.zero_terminal(schedules.scaled_linear()).table()
    assert table[0] == pytest.approx(schedules.scaled_linear().table()[0], rel=1e-12)
    assert table[-1] == -np.inf and np.isfinite(table[:-1]).all()
    level = process.vp().level(schedules.zero_terminal(schedules.scaled_linear()).logsnr(1.0))
    assert (float(level.alpha), float(level.sigma)) == (0, 1)


def test_cosine_without_its_clip_ends_at_zero_snr_by_itself():
    plain, clipped = schedules.cosine_betas(max_beta=1.0), schedules.cosine_betas()
    assert plain.table()[-1] == -np.inf
    np.testing.assert_allclose(plain.table()[:-1], clipped.table()[:-1], rtol=1e-12)


def test_repeated_levels():
    schedule = schedules.from_betas([0.0, 0.0, 0.5])
    found = schedule.logsnr(jnp.asarray([0.0, 0.5, 2 / 3, 0.9, 1.0]))
    assert found[:3].tolist() == [np.inf] * 3 and jnp.isfinite(found[3:]).all()


def test_a_table_may_be_traced():
    with jax.enable_x64(True):
        ends = jnp.asarray([0.012, 0.02])
        made = jax.vmap(lambda end: schedules.scaled_linear(0.00085, end).logsnr(0.777))(ends)
        plain = [schedules.scaled_linear(0.00085, float(e)).logsnr(0.777) for e in ends]
        np.testing.assert_allclose(made, jnp.stack(plain), rtol=1e-12)
        zero = jax.jit(lambda s: schedules.zero_terminal(s).logsnr(jnp.asarray([0.5, 1.0])))
        found = zero(schedules.scaled_linear())
        plain = schedules.zero_terminal(schedules.scaled_linear()).logsnr(jnp.asarray([0.5, 1.0]))
        np.testing.assert_allclose(found, plain, rtol=1e-12)


def test_traced_numbers_of_a_table_are_refused():
    with pytest.raises(ValueError, match="plain numbers.*scaled_linear"):
        jax.jit(lambda b: schedules.from_betas(b).logsnr(0.5))(jnp.full(3, 0.1))


@pytest.mark.parametrize("b", [1.0, 0.5])
@pytest.mark.parametrize("spec", ["scaled_linear()", "zero_terminal(scaled_linear())"])
def test_index_is_the_number_of_the_nearest_level(spec, b):
    schedule = specs.build(spec)
    level = process.vp(b).level(schedule.level(jnp.arange(1, 1001)))
    told = conditioning.index(schedule)(level)
    np.testing.assert_array_equal(told, np.arange(1000))
    between = process.vp(b).level(schedule.logsnr(jnp.asarray([1e-5, 0.4003, 0.4008])))
    np.testing.assert_array_equal(conditioning.index(schedule)(between), [0, 399, 400])


SPACINGS = {"leading": grids.leading, "linspace": grids.linspace, "trailing": grids.trailing}


@pytest.mark.parametrize("key", [k for k in GOLDENS if k.startswith("b/DDIMScheduler/")])
def test_grids_are_the_librarys(key):
    """Its level numbers count from 0, so that ours, t T, are larger by one."""
    _, _, spacing, offset, steps = key.split("/")
    made = {"offset": int(offset[3:])} if spacing == "leading" else {}
    times = SPACINGS[spacing](**made)(int(steps[1:]))
    np.testing.assert_array_equal(np.round(times * 1000), [*(GOLDENS[key] + 1), 0])


def test_the_librarys_ddim_leaves_its_own_grid():
    """Where S does not divide T its step() leads to a level that the next step does not start from."""
    times = GOLDENS["b/DDIMScheduler/trailing/off0/S7"]
    reached = GOLDENS["b/DDIMScheduler_prev_used/trailing/off0/S7"]
    assert (times[1:] != reached[:-1]).sum() == 5


@pytest.mark.parametrize("spacing", SPACINGS)
def test_grids_decrease_to_clean_data(spacing):
    for steps in [*range(1, 101), 999, 1000]:
        times = np.asarray(SPACINGS[spacing]()(steps))
        assert times.shape == (steps + 1,) and times[-1] == 0 and (np.diff(times) < 0).all()
        assert times[0] == 1 or spacing == "leading"


def test_table_2_of_lin_et_al():
    level = lambda grid: np.round(np.asarray(grid(10)) * 1000)[-2::-1].tolist()  # noqa: E731
    assert level(grids.leading()) == list(range(1, 1000, 100))
    assert level(grids.linspace()) == [1, 112, 223, 334, 445, 556, 667, 778, 889, 1000]
    assert level(grids.trailing()) == list(range(100, 1001, 100))


def test_a_grid_must_fit_its_levels():
    for grid in SPACINGS.values():
        with pytest.raises(ValueError, match="1001 steps do not fit on 1000 levels"):
            grid()(1001)
    with pytest.raises(ValueError, match="asks for level 1001 of 1000"):
        grids.leading(offset=1)(1000)
    with pytest.raises(ValueError, match="at least 1 step"):
        grids.edm()(0)
