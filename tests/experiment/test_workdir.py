"""What a workdir's config is read as."""

import importlib
import json
import threading

import pytest

from configs import common, imagenet64_edm, imagenet64_edm2
from noise_sched.experiment import workdir
from noise_sched.experiment.workdir import LATER


def old_workdir(folder, config):
    """As written before the keys in `LATER` existed."""
    for key in LATER:
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


def test_a_workdir_of_edm2_gets_the_knobs_that_came_later(tmp_path):
    config = imagenet64_edm2.get_config()
    written = json.loads(config.to_json())
    for key in ("scan", "pad_channels"):
        del written["network"][key]
    (tmp_path / "config.json").write_text(json.dumps(written))
    assert workdir.load_config(tmp_path).to_dict() == config.to_dict()
    for key in ("scan", "pad_channels"):
        del config.network[key]
    workdir.claim(
        tmp_path, config
    )  # a config of one's own, which still lacks them, is the same run


def claims_at_once(folder, configs):
    """What claiming from as many threads as there are configs raised in each."""
    failures, barrier = [None] * len(configs), threading.Barrier(len(configs))

    def claim(index):
        barrier.wait()
        try:
            workdir.claim(folder, configs[index])
        except Exception as error:
            failures[index] = error

    threads = [threading.Thread(target=claim, args=(i,)) for i in range(len(configs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_claims_of_one_run_at_once_all_succeed(tmp_path):
    for n in range(50):
        folder = tmp_path / str(n)
        assert claims_at_once(folder, [common.base()] * 4) == [None] * 4
        assert [path.name for path in folder.iterdir()] == ["config.json"]
        assert workdir.load_config(folder).to_dict() == common.base().to_dict()


def test_of_claims_of_several_runs_at_once_one_succeeds(tmp_path):
    configs = [common.base() for _ in range(4)]
    for seed, config in enumerate(configs):
        config.seed = seed
    for n in range(25):
        failures = claims_at_once(tmp_path / str(n), configs)
        first = failures.index(None)
        assert workdir.load_config(tmp_path / str(n)).seed == first
        others = [str(failure) for index, failure in enumerate(failures) if index != first]
        assert all(f"seed: {first} there" in text for text in others), others


def test_what_a_killed_claim_left_is_no_obstacle(tmp_path):
    for name in (".lock", ".partial-config.json-0123456789ab", "config.tmp"):
        (tmp_path / name).write_text("{")
    workdir.claim(tmp_path, common.base())
    assert workdir.load_config(tmp_path).seed == 0


def test_a_folder_being_built_takes_its_name_at_the_end(tmp_path):
    with workdir.building(tmp_path / "new") as made:
        (made / "file").write_text("a")
        assert not (tmp_path / "new").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new" / "file").read_text() == "a"
    with pytest.raises(ValueError, match="is not empty"), workdir.building(tmp_path / "new"):
        pass
    with pytest.raises(ValueError, match="is not empty"):
        with workdir.building(tmp_path / "other"):
            (tmp_path / "other").mkdir()
            (tmp_path / "other" / "file").write_text("of another process")
    assert (tmp_path / "other" / "file").read_text() == "of another process"
    with pytest.raises(OSError, match="--out=.*file/out cannot be written: File exists"):
        with workdir.building(tmp_path / "new" / "file" / "out", "--out"):
            pass
