"""Every config runs at `:tiny`: trained and sampled, some also stopped half-way and resumed bit for bit."""

import importlib
import pathlib

import jax
import numpy as np
import pytest

from noise_sched import train
from noise_sched.experiment import sampler
from noise_sched.training import loop

CONFIGS = sorted(
    path.stem
    for path in (pathlib.Path(__file__).parents[2] / "configs").glob("*.py")
    if path.stem not in ("__init__", "common", "edm_rows")
)


def arrays(state) -> list[np.ndarray]:
    state = state.replace(key=jax.random.key_data(state.key))
    return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(state))]


# EDM's 64-pixel configs are cifar10_edm with other numbers: test_edm_configs.py holds them to that.
CONFIGS, ALL = [name for name in CONFIGS if name not in ("ffhq64_edm", "afhqv2_64_edm")], CONFIGS

# At `:tiny` the larger ImageNet RINs differ from imagenet64_rin in b only: they run with the slow tests.
LARGER = [f"imagenet{size}_rin" for size in (128, 256, 512, 768, 1024)]
# own_images makes the same U-Net as digits_unet does; test_own_images.py and its notebook run the rest.
SLOW = (*LARGER, "own_images")
RUN = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CONFIGS]

# A RIN, and a U-Net with EDM's training.
RESUMED = ("digits", "cifar10_edm")


@pytest.mark.parametrize("name", RUN)
def test_tiny(name, tmp_path, monkeypatch, capsys):
    config = importlib.import_module(f"configs.{name}").get_config("tiny").lock()
    whole = train.run(config, tmp_path / "run")
    assert whole.step == config.train.steps == 6
    assert_draws(config, tmp_path)
    if name in RESUMED:
        with monkeypatch.context() as patch:
            patch.setattr(
                train, "fit", lambda *args, **more: loop.fit(*args, **more | {"steps": 4})
            )
            assert train.run(config, tmp_path / "parts").step == 4
        resumed = train.run(config, tmp_path / "parts")
        assert "resuming at step 4" in capsys.readouterr().out
        for one, other in zip(arrays(whole.state), arrays(resumed.state), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ALL)
def test_the_head_has_the_command_and_what_to_expect(name):
    head = importlib.import_module(f"configs.{name}").__doc__
    assert f"--config=configs/{name}.py" in head and "Expected:" in head


def assert_draws(config, folder) -> None:
    out = folder / "samples"
    assert sampler.run(config, folder / "run", out, num_images=8)
    found = np.load(out / "samples.npz")
    size, channels = config.data.image_size, config.data.channels
    assert found["images"].shape == (8, size, size, channels) and found["images"].dtype == np.uint8
    assert found["images"].std() > 0
    assert len(list((out / "images").glob("*.png"))) == 8 and (out / "grid.png").is_file()
    assert not sampler.run(config, folder / "run", out, num_images=8), "done already"


@pytest.mark.parametrize("name", LARGER)
def test_at_tiny_the_larger_rins_differ_in_their_input_scale_only(name):
    one, other = (
        importlib.import_module(f"configs.{each}").get_config("tiny").to_dict()
        for each in ("imagenet64_rin", name)
    )
    assert one.pop("process") != other.pop("process")
    assert one == other


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="unknown variant 'small'.*':tiny'"):
        importlib.import_module("configs.digits").get_config("small")
