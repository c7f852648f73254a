"""What a workdir's config is read as."""

import importlib
import json

import pytest

from configs import common, imagenet64_edm
from noise_sched import workdir
from noise_sched.workdir import _LATER


def old_workdir(folder, config):
    """As written before the keys in `_LATER` existed."""
    for key in _LATER:
        room, name = key.split(".")
        del config[room][name]
    del config["augment"]
    (folder / "config.json").write_text(json.dumps(config))


def test_keys_that_came_later_are_filled_in_with_what_changes_nothing(tmp_path):
    config = json.loads(common.base().to_json())
    old_workdir(tmp_path, config)
    assert workdir.load_config(tmp_path).to_dict() == common.base().to_dict()
    workdir.claim(tmp_path, common.base())  # the same run


def test_a_value_that_is_there_is_kept(tmp_path):
    config = common.base()
    config.loss.reduction = "sum"
    workdir.claim(tmp_path, config)
    assert workdir.load_config(tmp_path).loss.reduction == "sum"


@pytest.mark.parametrize("name", ["digits_unet", "digits"])
def test_a_workdir_of_any_age_and_network_gets_the_newest_keys(tmp_path, name):
    config = importlib.import_module(f"configs.{name}").get_config()
    written = json.loads(config.to_json())
    for key in ("time", "skip_nonfinite"):
        del written["train"][key]
    (tmp_path / "config.json").write_text(json.dumps(written))
    loaded = workdir.load_config(tmp_path)
    assert loaded.train.time == "uniform()"
    assert loaded.network.to_dict() == config.network.to_dict()
    config.train.time = "uniform()"
    workdir.claim(tmp_path, config)  # the same run


def test_how_many_steps_may_be_skipped_may_change(tmp_path):
    config = common.base()
    workdir.claim(tmp_path, config)
    config.train.skip_nonfinite = 10
    workdir.claim(tmp_path, config)
    config.train.time = "stratified()"
    with pytest.raises(ValueError, match="train.time: 'uniform.*there, 'stratified.*given"):
        workdir.claim(tmp_path, config)


@pytest.mark.parametrize("text", ["{", ""])
def test_damage_is_told(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json is damaged .* restore it, or train again"):
        workdir.load_config(tmp_path)


def test_workdirs_of_any_network_get_the_keys_that_came_later(tmp_path):
    """EDM's networks are younger than some keys and older than others."""
    config = json.loads(imagenet64_edm.get_config().to_json())
    del config["optimizer"]["infinite_gradient"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = workdir.load_config(tmp_path)
    assert loaded.optimizer.infinite_gradient == 1e5
    assert loaded.to_dict() == imagenet64_edm.get_config().to_dict()
