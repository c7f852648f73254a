"""Reading and checking images and labels: what is accepted, and what is said otherwise."""

import json

import numpy as np
import pytest
from PIL import Image

from noise_sched.evaluation.image_set import EvaluationInputError, image_set, read_image_set

COUNT = 6


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, size=(COUNT, 8, 8, 1)).astype(np.uint8)


@pytest.fixture
def labels():
    return np.arange(COUNT) % 3


def write_pngs(folder, pixels, names):
    folder.mkdir(parents=True, exist_ok=True)
    for name, image in zip(names, pixels, strict=True):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(folder / name)


def numbered(suffix=""):
    return [f"{i:06d}{suffix}.png" for i in range(COUNT)]


def test_uint8_and_float_images_are_the_same_set(pixels):
    floats = pixels.astype(np.float32) / 127.5 - 1
    from_uint8, from_float = image_set("a", pixels), image_set("b", floats)
    np.testing.assert_allclose(from_float.images, from_uint8.images, atol=1e-6)
    assert from_uint8.images.min() >= 0 and from_uint8.images.max() <= 1


def test_images_without_a_channel_axis_have_one_channel(pixels):
    np.testing.assert_array_equal(
        image_set("a", pixels[..., 0]).images, image_set("b", pixels).images
    )


def test_rounding_beyond_the_range_is_clipped():
    images = image_set("a", np.full((1, 8, 8, 1), 1.0005, np.float32)).images
    assert images.max() == 1


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8), np.uint8), r"expected images of shape .* got \(2, 8\)"),
        (np.zeros((0, 8, 8, 1), np.uint8), r"none of them 0; got \(0, 8, 8, 1\)"),
        (np.zeros((2, 8, 8, 1), np.int32), "must be uint8 .* or float .* got int32"),
        (np.full((2, 8, 8, 1), 255.0), r"must lie in \[-1, 1\]; got 255 to 255"),
    ],
)
def test_images_of_another_kind_are_refused(images, message):
    with pytest.raises(EvaluationInputError, match=message):
        image_set("a", images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_images_that_are_not_finite_are_refused(value):
    images = np.zeros((4, 8, 8, 1), np.float32)
    images[2, 3, 3] = value
    with pytest.raises(EvaluationInputError, match="1 of 4 images hold NaN or infinity, image 2"):
        image_set("a", images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.arange(COUNT - 1), "one label per image, 6 in all; got labels of shape"),
        (np.zeros(COUNT), "labels must be integers"),
    ],
)
def test_labels_that_do_not_fit_are_refused(pixels, labels, message):
    with pytest.raises(EvaluationInputError, match=message):
        image_set("a", pixels, labels)


@pytest.mark.parametrize("whole_folder", [False, True], ids=["file", "folder"])
def test_an_npz_is_read(tmp_path, pixels, labels, whole_folder):
    np.savez(tmp_path / "samples.npz", images=pixels, labels=labels)
    # A sampler's folder holds single images and a grid, too: the .npz has them all.
    Image.new("L", (100, 100)).save(tmp_path / "grid.png")
    read = read_image_set(tmp_path if whole_folder else tmp_path / "samples.npz")
    np.testing.assert_array_equal(read.images, pixels / 255)
    np.testing.assert_array_equal(read.labels, labels)


def test_an_npz_without_labels_is_read(tmp_path, pixels):
    np.savez(tmp_path / "a.npz", images=pixels)
    assert read_image_set(tmp_path / "a.npz").labels is None


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("where", [".", "images"])
def test_a_folder_with_labels_in_the_names_is_read(tmp_path, labels, where, channels):
    pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 6, channels)).astype(np.uint8)
    names = [f"{i:06d}_label{label}.png" for i, label in enumerate(labels)]
    write_pngs(tmp_path / where, pixels, names)
    read = read_image_set(tmp_path)
    np.testing.assert_array_equal(read.images, pixels / 255)
    np.testing.assert_array_equal(read.labels, labels)


@pytest.mark.parametrize("as_object", [False, True], ids=["list", "object"])
@pytest.mark.parametrize("place", ["labels.json", "images/labels.json"])
def test_a_folder_with_labels_json_is_read(tmp_path, pixels, labels, as_object, place):
    write_pngs(tmp_path / "images", pixels, numbered())
    given = dict(zip(numbered(), labels.tolist(), strict=True)) if as_object else labels.tolist()
    (tmp_path / place).write_text(json.dumps(given))
    np.testing.assert_array_equal(read_image_set(tmp_path).labels, labels)


def test_a_folder_without_labels_is_read(tmp_path, pixels):
    write_pngs(tmp_path, pixels, numbered())
    assert read_image_set(tmp_path).labels is None


def test_a_missing_path_is_named_with_its_neighbour(tmp_path, pixels):
    np.savez(tmp_path / "samples.npz", images=pixels)
    with pytest.raises(EvaluationInputError, match=r"sample.npz does not exist. Did you mean .*es"):
        read_image_set(tmp_path / "sample.npz")


@pytest.mark.parametrize("content", [b"", b"no archive", None], ids=["empty", "text", "cut"])
def test_a_broken_npz_is_refused(tmp_path, pixels, content):
    path = tmp_path / "samples.npz"
    np.savez(path, images=pixels)
    path.write_bytes(path.read_bytes()[:200] if content is None else content)
    with pytest.raises(EvaluationInputError, match=r"samples.npz cannot be read as an .npz"):
        read_image_set(path)


def test_a_single_array_in_an_npz_file_is_refused(tmp_path, pixels):
    with (tmp_path / "samples.npz").open("wb") as file:
        np.save(file, pixels)
    with pytest.raises(EvaluationInputError, match="cannot be read as an .npz"):
        read_image_set(tmp_path / "samples.npz")


def test_an_npz_without_images_is_refused(tmp_path, pixels):
    np.savez(tmp_path / "a.npz", x=pixels, y=np.arange(COUNT))
    with pytest.raises(EvaluationInputError, match="no array `images`; it has: x, y. Expected"):
        read_image_set(tmp_path / "a.npz")


def test_another_file_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("no images")
    with pytest.raises(EvaluationInputError, match="expected an .npz file or a folder of PNGs"):
        read_image_set(tmp_path / "a.txt")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(EvaluationInputError, match="holds no PNG files"):
        read_image_set(tmp_path)


def test_images_of_different_sizes_are_refused(tmp_path, pixels):
    write_pngs(tmp_path, pixels, numbered())
    Image.new("L", (40, 40)).save(tmp_path / "grid.png")
    with pytest.raises(EvaluationInputError, match=r"different sizes .* grid.png is \(40, 40, 1\)"):
        read_image_set(tmp_path)


def test_an_unreadable_png_is_named(tmp_path, pixels):
    write_pngs(tmp_path, pixels, numbered())
    whole = (tmp_path / "000003.png").read_bytes()
    (tmp_path / "000003.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(EvaluationInputError, match="000003.png cannot be read as an image"):
        read_image_set(tmp_path)


def test_a_png_with_transparency_is_refused(tmp_path):
    Image.new("RGBA", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(EvaluationInputError, match="8-bit grey or RGB image; got the mode 'RGBA'"):
        read_image_set(tmp_path)


def test_names_of_which_some_have_labels_are_refused(tmp_path, pixels):
    names = ["000000_label1.png", *numbered()[1:]]
    write_pngs(tmp_path, pixels, names)
    with pytest.raises(EvaluationInputError, match="5 of 6 names say no label .000001.png"):
        read_image_set(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"000000.png": 1}', "no label for 5 of 6 images .000001.png is the first"),
        ('[0, 1, 2, 0, 1, "2"]', "not every label is an integer"),
        ("[0, 1, 2, 0, 1, true]", "not every label is an integer"),
        ("3", "not every label is an integer. Expected a list of 6 integers"),
        ("[0, 1]", "one label per image, 6 in all"),
    ],
)
def test_a_wrong_labels_json_is_refused(tmp_path, pixels, text, message):
    write_pngs(tmp_path, pixels, numbered())
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(EvaluationInputError, match=message):
        read_image_set(tmp_path)
