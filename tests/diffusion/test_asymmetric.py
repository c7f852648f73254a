"""Asymmetric time intervals; whole published runs with them are in test_pix2seq_goldens.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import digits
from noise_sched import experiment
from noise_sched.diffusion import grids, specs
from noise_sched.diffusion.process import NoiseLevel
from noise_sched.diffusion.sampling import sample
from noise_sched.diffusion.solvers import ddim
from noise_sched.experiment import ConfigError


def test_each_step_leads_td_steps_further_and_never_beyond_clean_data():
    grid = specs.build("asymmetric(uniform(), td=1.5)", "grid")
    np.testing.assert_array_equal(grid(5), grids.uniform()(5))
    np.testing.assert_allclose(grid.targets(5), [0.5, 0.3, 0.1, 0, 0], atol=1e-7)
    assert specs.build(repr(grid), "grid") == grid
    assert grids.asymmetric(grids.trailing(20)).levels == 20 and grid.levels is None
    np.testing.assert_array_equal(
        grids.asymmetric(grids.trailing(20), 0.0).targets(7), grids.trailing(20)(7)[1:]
    )


def test_a_difference_out_of_range_is_refused():
    with pytest.raises(specs.SpecError, match="finite td >= 0, got -1"):
        specs.build("asymmetric(uniform(), td=-1)", "grid")


def test_targets_that_do_not_fit_the_path_are_refused():
    levels = NoiseLevel(jnp.asarray([0.6, 0.8, 1.0]), jnp.asarray([0.8, 0.6, 0.0]))
    x_T, denoise = jnp.zeros((1, 2)), lambda x, level, memory: None
    with pytest.raises(ValueError, match="targets must have fields of shape .steps. = .2,."):
        sample(jax.random.key(0), denoise, ddim(), levels, x_T, targets=levels)


def test_a_config_says_where_its_steps_lead():
    config = digits.get_config("tiny")
    assert experiment.from_config(config).targets is None
    config.sample.update(grid="asymmetric(uniform(), td=1.0)", steps=4, solver="ddim()")
    built = experiment.from_config(config)
    np.testing.assert_allclose(built.targets.alpha[:2], built.levels.alpha[2:4], rtol=1e-6)
    np.testing.assert_array_equal(built.targets.sigma[2:], [0.0, 0.0])
    config.sample.solver = "dpmpp(order=2)"
    with pytest.raises(ConfigError, match="a multistep solver takes each step to start where"):
        experiment.from_config(config)
