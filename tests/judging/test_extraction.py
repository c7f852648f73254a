"""Features of images in files: every row there, in order, once, on any devices, and after a kill."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.features import Extractor
from noise_sched.evaluation.image_set import image_set
from noise_sched.judging import extraction

COUNT = 600  # four pieces and a rest; batches of 100 do not divide a piece


@pytest.fixture(scope="module")
def images():
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 1)).astype(np.uint8)
    return image_set("some", pixels, np.arange(COUNT) % 3)


def _sums(params, images, numbers):
    flat = images.reshape(len(images), -1).astype(jnp.float32)
    return {
        "sums": params * flat.sum(1, keepdims=True),
        "numbers": jnp.repeat(numbers[:, None].astype(jnp.float32), 2, 1),
    }


def sums(scale=2.0, **changes) -> Extractor:
    outputs = {"sums": 1, "numbers": 2}
    settings = {"scale": scale}
    return Extractor("sums", outputs, _sums, jnp.float32(scale), settings, 100, **changes)


def assert_right(features, images, count=COUNT):
    expected = 2.0 * images.images[:count].reshape(count, -1).astype(float).sum(1)
    np.testing.assert_array_equal(features["sums"].take(np.arange(count))[:, 0], expected)
    blocks = np.concatenate(list(features["numbers"].blocks(rows=77)))
    np.testing.assert_array_equal(blocks, np.arange(count)[:, None] * np.ones(2))
    np.testing.assert_array_equal(features["sums"].labels, images.labels[:count])


def test_every_row_is_there_in_order(images, tmp_path):
    features = extraction.extract(images, [sums()], tmp_path)
    assert_right(features, images)
    picked = np.array([5, 3, 400])
    part = features["sums"].part(picked)
    np.testing.assert_array_equal(part.take(np.arange(3)), features["sums"].take(picked))
    np.testing.assert_array_equal(part.part(np.array([2])).labels, images.labels[[400]])


def test_what_is_there_is_not_extracted_again(images, tmp_path, monkeypatch):
    extraction.extract(images, [sums()], tmp_path)
    monkeypatch.setattr(type(images), "read", None)
    monkeypatch.setattr(type(images), "fingerprint", lambda self: "same")
    with pytest.raises(TypeError):  # another digest: other images
        extraction.extract(images, [sums()], tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(
        extraction, "_run", lambda images, jobs, show: [].remove(0) if jobs else None
    )
    assert_right(extraction.extract(images, [sums()], tmp_path), images)
    with pytest.raises(ValueError, match="list.remove"):  # another setting: other features
        extraction.extract(images, [sums(3.0)], tmp_path)


class Killed(BaseException):
    """As a signal."""


@pytest.mark.parametrize("after", [1, 2])
def test_a_killed_extraction_goes_on(images, tmp_path, monkeypatch, after):
    reads = []
    read = type(images).read

    def dying(self, start, stop):
        reads.append(start)
        if len(reads) > after:
            raise Killed
        return read(self, start, stop)

    monkeypatch.setattr(type(images), "fingerprint", lambda self: "same")
    monkeypatch.setattr(type(images), "read", dying)
    with pytest.raises(Killed):
        extraction.extract(images, [sums()], tmp_path)
    records = list(tmp_path.glob("*/done.json"))
    done = json.loads(records[0].read_text())["done"] if records else 0
    # A kill that leaves no time to note how far it is leaves rows behind the note.
    for record in records:
        with (record.parent / "sums").open("ab") as file:
            file.write(b"half a r")
    monkeypatch.setattr(type(images), "read", read)
    starts = []
    monkeypatch.setattr(
        type(images), "read", lambda self, a, b: starts.append(a) or read(self, a, b)
    )
    assert_right(extraction.extract(images, [sums()], tmp_path), images)
    assert starts[0] == done // 128 * 128 and (after == 1 or done > 0)


def test_an_image_that_cannot_be_read_keeps_what_was_extracted(images, tmp_path, monkeypatch):
    read = type(images).read

    def broken(self, start, stop):
        if start > 400:
            raise EvaluationInputError("x.png cannot be read")
        return read(self, start, stop)

    monkeypatch.setattr(type(images), "fingerprint", lambda self: "same")
    monkeypatch.setattr(type(images), "read", broken)
    with pytest.raises(EvaluationInputError, match="x.png"):
        extraction.extract(images, [sums()], tmp_path)
    (record,) = tmp_path.glob("*/done.json")
    assert json.loads(record.read_text())["done"] >= 256


def test_a_few_images_are_enough_for_some(images, tmp_path):
    features = extraction.extract(images, [sums(most=300)], tmp_path)
    assert_right(features, images, 300)


def test_where_another_process_is_at_work_the_features_are_made_elsewhere(
    images, tmp_path, monkeypatch
):
    def taken(folder, flag):
        raise ValueError("in use")

    monkeypatch.setattr(extraction.locks, "hold", taken)
    features = extraction.extract(images, [sums()], tmp_path)
    assert_right(features, images)
    assert not list(tmp_path.glob("sums-*/done.json")) or features["sums"].values.owner


def test_forgotten_features_leave_nothing(images, tmp_path):
    extraction.forget(extraction.extract(images, [sums()], tmp_path))
    assert not list(tmp_path.iterdir())
