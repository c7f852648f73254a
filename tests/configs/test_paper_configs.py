"""What the papers' configs promise beyond running at `:tiny`, which test_configs.py sees to."""

import re

import numpy as np
import pytest
from sklearn.datasets import load_digits

from configs import edm_digits, zero_terminal_snr
from noise_sched import experiment, train
from noise_sched.experiment import sampler


def flat(config) -> dict:
    return {
        f"{name}.{key}" if hasattr(value, "items") else name: inner
        for name, value in config.items()
        for key, inner in (value.items() if hasattr(value, "items") else [("", value)])
    }


def test_the_flawed_run_differs_by_the_flaws_alone():
    mended, flawed = (flat(zero_terminal_snr.get_config(v)) for v in (None, "flawed"))
    differing = {key: (flawed[key], mended[key]) for key in mended if flawed[key] != mended[key]}
    assert differing == {
        "schedule": ("discrete(scaled_linear())", "discrete(zero_terminal(scaled_linear()))"),
        "parametrization": ("eps()", "v()"),
        "loss.space": ("eps()", "v()"),
        "sample.schedule": ("scaled_linear()", "zero_terminal(scaled_linear())"),
        "sample.grid": ("leading()", "trailing()"),
    }


def test_the_mended_run_starts_without_signal_and_the_flawed_one_with():
    mended, flawed = (
        experiment.from_config(zero_terminal_snr.get_config(v)).levels.alpha
        for v in ("tiny", "flawed,tiny")
    )
    assert float(mended[0]) == 0 and float(flawed[0]) > 0.068


@pytest.mark.slow  # test_configs.py runs the other one, which differs by the flaws alone
def test_the_flawed_run_trains_and_draws(tmp_path):
    config = zero_terminal_snr.get_config("flawed,tiny").lock()
    assert train.run(config, tmp_path / "run").step == 6
    assert sampler.run(config, tmp_path / "run", tmp_path / "samples", num_images=8)


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="unknown variant 'flaw'"):
        zero_terminal_snr.get_config("flaw,tiny")


def test_edm_has_the_digits_own_standard_deviation_everywhere():
    pixels = load_digits().images / 8 - 1
    assert pixels.std() == pytest.approx(edm_digits.get_config().sigma_data, rel=0.01)
    config = edm_digits.get_config()
    for config.sigma_data in (0.75, 0.5):  # one key is said in all four places
        said = re.findall(r"sigma_data=([\d.]+)", repr(experiment.from_config(config).objective))
        assert len(said) == 4 and set(said) == {str(config.sigma_data)}


def test_edm_samples_where_the_paper_does():
    ratio = np.asarray(experiment.from_config(edm_digits.get_config()).levels.ratio)
    expected = (80 ** (1 / 7) + np.arange(18) / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    np.testing.assert_allclose(ratio[:-1], expected, rtol=1e-5)
    assert ratio[-1] == 0
