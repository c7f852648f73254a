import pathlib
import shutil
import sys

import numpy as np
import pytest

from noise_sched.data import DatasetNotPreparedError, open_source, tfds_dataset, transforms


def test_photographs_of_many_sizes(tiny_dir):
    source = open_source("tiny_photos", image_size=8, data_dir=tiny_dir)
    assert len(source) == 10 and source.image_shape == (8, 8, 3)
    assert source.class_names == ("cat", "dog", "owl")
    labels = source.gather(np.arange(10))["label"]
    assert sorted(labels.tolist()) == sorted(i % 3 for i in range(10))
    assert "tensorflow" not in sys.modules


def test_splits_and_slices(tiny_dir):
    def open_split(split):
        return open_source("tiny_photos", image_size=8, data_dir=tiny_dir, split=split)

    assert len(open_split("validation")) == 4
    assert len(open_split("train[:50%]")) == 5
    with pytest.raises(ValueError, match="no split 'trian'; did you mean 'train'"):
        open_split("trian")


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_converted(tiny_dir, channels):
    source = open_source("tiny_photos", image_size=8, data_dir=tiny_dir, channels=channels)
    assert source[0]["image"].shape == (8, 8, channels)


def test_unlabelled_and_its_size_config_is_chosen(tiny_dir):
    source = open_source("tiny_downsampled", image_size=8, data_dir=tiny_dir)
    assert source.name == "tiny_downsampled/8x8" and source.num_classes == 0
    assert source.gather(np.arange(6))["label"].tolist() == [-1] * 6


def test_smallest_sufficient_size_config(tiny_dir):
    assert tfds_dataset.resolve_name("tiny_downsampled", 3) == "tiny_downsampled/4x4"
    assert tfds_dataset.resolve_name("tiny_downsampled", 5) == "tiny_downsampled/8x8"
    assert tfds_dataset.resolve_name("tiny_downsampled:2.0.0", 5) == "tiny_downsampled/8x8:2.0.0"
    with pytest.raises(ValueError, match="sizes 4, 8; got image_size=16"):
        tfds_dataset.resolve_name("tiny_downsampled", 16)
    with pytest.raises(ValueError, match="give image_size"):
        tfds_dataset.resolve_name("tiny_downsampled", None)


@pytest.mark.parametrize(
    ("name", "image_size", "resolved"),
    [
        ("downsampled_imagenet", 32, "downsampled_imagenet/32x32"),
        ("downsampled_imagenet", 64, "downsampled_imagenet/64x64"),
        ("celeb_a_hq", 256, "celeb_a_hq/256"),
        ("imagenet2012", 64, "imagenet2012"),
        ("cifar10", 32, "cifar10"),
        ("celeb_a_hq/512", 256, "celeb_a_hq/512"),
    ],
)
def test_size_configs_of_public_data_sets(name, image_size, resolved):
    assert tfds_dataset.resolve_name(name, image_size) == resolved


def test_no_size_without_a_fixed_one(tiny_dir):
    with pytest.raises(ValueError, match="'tiny_photos' does not promise.*image_size"):
        open_source("tiny_photos", image_size=None, data_dir=tiny_dir)


def test_values_are_those_of_the_transforms(tiny_dir):
    source = open_source("tiny_photos", image_size=8, data_dir=tiny_dir)
    records = tfds_dataset.open_tfds(
        "tiny_photos", image_size=8, split="train", data_dir=tiny_dir, channels=None
    )
    for i in (0, 7):
        pixels, label = records.read(i)
        np.testing.assert_array_equal(source[i]["image"], transforms.preprocess(pixels, 8))
        assert source[i]["label"] == label


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cifar10", "cifar10"),
        ("imagenet2012", "imagenet2012"),
        ("downsampled_imagenet", "downsampled_imagenet/64x64"),
        ("celeb_a_hq", "celeb_a_hq/64"),
    ],
)
def test_an_unprepared_data_set_says_what_to_run(tmp_path, name, shown):
    with pytest.raises(DatasetNotPreparedError) as error:
        open_source(name, image_size=64, data_dir=tmp_path)
    command = f"python -m noise_sched.prepare --dataset={shown} --data_dir={tmp_path}\n"
    assert command in str(error.value) + "\n"
    assert str(tmp_path) in str(error.value)


def test_the_extra_is_named_where_tensorflow_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(tfds_dataset.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetNotPreparedError, match=r"pip install 'noise_sched\[tf\]'"):
        open_source("cifar10", image_size=32, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifra10", "unknown data set 'cifra10'; did you mean 'cifar10'"),
        ("CIFAR10", "did you mean 'cifar10'"),
        ("digit", "did you mean 'digits'"),
        ("imagenet_2012", "did you mean 'imagenet2012'"),
        ("celeb_a_hq/255", "no config '255'; did you mean '256'"),
        ("cifar10/large", r"no config 'large' \(it has none\)"),
        ("xyzzyxyzzy", r"unknown data set 'xyzzyxyzzy' \(known"),
        ("hugging:face", "expected 'name'"),
        ("", "expected 'name'"),
    ],
)
def test_unknown_names(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        open_source(name, image_size=64, data_dir=tmp_path)


def test_a_folder_given_without_its_prefix(tmp_path):
    with pytest.raises(ValueError, match=f"Did you mean 'folder:{tmp_path}'"):
        open_source(str(tmp_path), image_size=8)


@pytest.fixture
def copied(tiny_dir, tmp_path) -> pathlib.Path:
    shutil.copytree(pathlib.Path(tiny_dir, "tiny_photos"), tmp_path / "tiny_photos")
    return tmp_path


def test_another_file_format_is_refused(copied):
    (info,) = copied.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(DatasetNotPreparedError, match="as tfrecord.*another folder"):
        open_source("tiny_photos", image_size=8, data_dir=copied)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_files_are_reported(copied, damage):
    (file,) = copied.rglob("*train.array_record*")
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match="tiny_photos.*prepare it again"):
        open_source("tiny_photos", image_size=8, data_dir=copied)


def test_a_data_set_whose_code_is_gone(copied):
    """Whatever lies prepared in data_dir can be read, known to TFDS or not."""
    (copied / "tiny_photos").rename(copied / "of_somebody_else")
    for file in list(copied.rglob("*tiny_photos*")):
        file.rename(file.with_name(file.name.replace("tiny_photos", "of_somebody_else")))
    (info,) = copied.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("tiny_photos", "of_somebody_else"))
    assert len(open_source("of_somebody_else", image_size=8, data_dir=copied)) == 10
