import concurrent.futures
import multiprocessing
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from noise_sched.data import digits, open_source


def test_bytes_are_rounded_and_can_be_undone():
    values = np.arange(17)[None]
    stored = digits.to_bytes(values)
    np.testing.assert_array_equal(stored, np.floor(values * 255 / 16 + 0.5))
    np.testing.assert_array_equal(np.round(stored * (16 / 255)), values)


def test_the_data_set_is_scikit_learns(digits_dir):
    source = open_source("digits", image_size=8, data_dir=digits_dir)
    truth = load_digits()
    assert len(source) == 1797
    assert source.image_shape == (8, 8, 1)
    assert source.num_classes == 10 and source.in_memory
    whole = source.gather(np.arange(1797))
    np.testing.assert_array_equal(whole["label"], truth.target)
    pixels = (whole["image"][..., 0] + 1) / 2
    np.testing.assert_allclose(pixels, truth.images / 16, atol=0.5 / 255 + 1e-6)


def test_prepared_without_tensorflow_as_array_record(digits_dir):
    assert list(pathlib.Path(digits_dir).rglob("*.array_record*"))
    assert "tensorflow" not in sys.modules


def test_preparing_again_changes_nothing(digits_dir):
    (file,) = pathlib.Path(digits_dir).rglob("*.array_record*")
    before = file.stat().st_mtime_ns
    digits.prepare(digits_dir)
    assert file.stat().st_mtime_ns == before


def test_a_second_process_that_finishes_later_is_content(tmp_path, monkeypatch):
    original = digits.Digits.download_and_prepare

    def overtaken(self, **options):
        original(digits.Digits(data_dir=str(tmp_path)), **options)
        raise OSError("Directory not empty")

    monkeypatch.setattr(digits.Digits, "download_and_prepare", overtaken)
    digits.prepare(str(tmp_path))
    assert digits.Digits(data_dir=str(tmp_path)).is_prepared()


@pytest.mark.slow
def test_several_processes_may_prepare_at_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(digits.prepare, [str(tmp_path)] * 2))
    assert len(open_source("digits", image_size=8, data_dir=tmp_path)) == 1797


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="file.*data_dir"):
        digits.prepare(str(tmp_path / "file"))


def test_preparing_is_silent(tmp_path, capfd):
    digits.prepare(str(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_importing_the_package_is_light():
    code = (
        "import sys, noise_sched.data as d; "
        "assert not {'tensorflow_datasets', 'grain', 'sklearn'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
