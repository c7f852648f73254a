"""Where weights are looked for, and what is said where they are not."""

import hashlib
import logging

import pytest

from noise_sched.interop import published_weights as published

INCEPTION = published.WEIGHTS["inception"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(published.VARIABLE, raising=False)
    return tmp_path


def put(folder, name=INCEPTION.file):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"weights")
    return folder / name


def test_the_first_place_that_has_the_file(home, monkeypatch):
    theirs = put(home / ".cache/torch/hub/checkpoints", INCEPTION.others[0])
    assert published.find("inception") == theirs
    ours = put(home / ".cache/noise_sched")
    assert published.find("inception") == ours
    chosen = put(home / "chosen")
    monkeypatch.setenv(published.VARIABLE, "~/chosen")
    assert published.find("inception") == chosen
    assert published.find("inception", "~/.cache/noise_sched") == ours
    assert published.find("inception", str(theirs)) == theirs


@pytest.mark.parametrize(
    ("path", "target", "where"),
    [
        ("", "~/.cache/noise_sched", "no such file in .*noise_sched, .*torch/hub/checkpoints"),
        ("elsewhere.pth", "~/.cache/noise_sched", "there is no elsewhere.pth"),
        ("a folder", "'a folder'", "no such file in a folder"),
    ],
)
def test_missing_weights_say_how_to_get_them(home, monkeypatch, path, target, where):
    monkeypatch.chdir(home)
    (home / "a folder").mkdir()
    with pytest.raises(FileNotFoundError, match=where) as error:
        published.find("inception", path)
    message, command = str(error.value).split("\n")
    assert "pt_inception-2015-12-05-6726825d.pth (95,628,359 bytes, SHA-256 6726825d...)" in message
    assert command.strip() == (
        f"curl --location --create-dirs --output {target}/{INCEPTION.file} {INCEPTION.url}"
    )


def test_a_given_path_is_never_replaced_by_another_file(home):
    put(home / ".cache/noise_sched")
    with pytest.raises(FileNotFoundError, match="there is no elsewhere.pth"):
        published.find("inception", "elsewhere.pth")


def test_another_digest_is_a_warning(home, caplog):
    with caplog.at_level(logging.WARNING, "absl"):
        found = published.digest("inception", put(home))
    assert found == hashlib.sha256(b"weights").hexdigest()
    assert "is not the published file of Inception v3 for FID" in caplog.text
