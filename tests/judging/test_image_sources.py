"""Images by name: folders, files and data sets; what is accepted, and what is said otherwise."""

import json

import numpy as np
import pytest
from PIL import Image

from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.image_set import image_set
from noise_sched.judging import sources

COUNT = 6


def read_image_set(path):
    """All images and labels of a name."""
    images = sources.open_images(str(path))
    batch = images.read(0, len(images))
    assert batch.images.shape == (len(images), *images.shape)
    return batch if images.labelled else batch._replace(labels=None)


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


@pytest.mark.parametrize("whole_folder", [False, True], ids=["file", "folder"])
def test_an_npz_is_read(tmp_path, pixels, labels, whole_folder):
    np.savez(tmp_path / "samples.npz", images=pixels, labels=labels)
    # A sampler's folder holds single images and a grid, too: the .npz has them all.
    Image.new("L", (100, 100)).save(tmp_path / "grid.png")
    read = read_image_set(tmp_path if whole_folder else tmp_path / "samples.npz")
    np.testing.assert_array_equal(read.images, pixels)
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
    np.testing.assert_array_equal(read.images, pixels)
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
    with pytest.raises(EvaluationInputError, match="expected an .npz file or a folder of images"):
        read_image_set(tmp_path / "a.txt")


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(EvaluationInputError, match="holds no images .*.png"):
        read_image_set(tmp_path)


def test_images_of_different_sizes_are_refused(tmp_path, pixels):
    write_pngs(tmp_path, pixels, numbered())
    Image.new("L", (40, 40)).save(tmp_path / "grid.png")
    with pytest.raises(EvaluationInputError, match=r"different sizes.* grid.png is 40x40"):
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


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("floats", [False, True])
def test_an_npz_is_read_in_pieces_in_any_order(tmp_path, pixels, labels, compressed, floats):
    save = np.savez_compressed if compressed else np.savez
    given = pixels.astype(np.float32) / 127.5 - 1 if floats else pixels
    save(tmp_path / "a.npz", images=given, labels=labels)
    images = sources.open_images(str(tmp_path / "a.npz"))
    for start, stop in ((0, 2), (2, 3), (4, COUNT), (1, 3), (0, COUNT + 3)):
        batch = images.read(start, stop)
        np.testing.assert_array_equal(batch.images, pixels[start:stop])
        np.testing.assert_array_equal(batch.labels, labels[start:stop])
    assert images.fingerprint() == image_set("b", pixels, labels).fingerprint()


def test_a_value_that_is_not_finite_is_found_before_any_work(tmp_path):
    images = np.zeros((600, 4, 4, 1), np.float32)
    images[555, 0, 0] = np.nan
    np.savez(tmp_path / "a.npz", images=images)
    with pytest.raises(EvaluationInputError, match="hold NaN or infinity, image 555 first"):
        sources.open_images(str(tmp_path / "a.npz")).fingerprint()


def test_subfolders_are_classes(tmp_path, pixels):
    write_pngs(tmp_path / "dog" / "more", pixels[:2], ["a.png", "b.png"])
    write_pngs(tmp_path / "cat", pixels[2:3], ["z.png"])
    read = read_image_set(tmp_path)
    np.testing.assert_array_equal(read.images, pixels[[2, 0, 1]])
    np.testing.assert_array_equal(read.labels, [0, 1, 1])
    before = sources.open_images(str(tmp_path)).fingerprint()
    (tmp_path / "cat").rename(tmp_path / "owl")  # other labels
    assert sources.open_images(str(tmp_path)).fingerprint() != before
    write_pngs(tmp_path, pixels[3:4], ["loose.png"])
    assert read_image_set(tmp_path).labels is None


def test_photographs_of_several_sizes_are_cut_and_resized_as_training_does(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape in (("a.jpg", (40, 30, 3)), ("b.png", (25, 60, 3))):
        Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(tmp_path / name)
    turned = Image.fromarray(rng.integers(0, 256, (20, 50, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "c.jpg", exif=exif)
    images = sources.open_images(str(tmp_path), size=16)
    assert images.shape == (16, 16, 3) and len(images) == 3
    trained_on = sources.open_images(f"folder:{tmp_path}", size=16)
    np.testing.assert_array_equal(images.read(0, 3).images, trained_on.read(0, 3).images)


def test_a_resized_set_is_known_as_another(tmp_path, pixels):
    np.savez(tmp_path / "a.npz", images=pixels)
    whole, half = (sources.open_images(str(tmp_path / "a.npz"), size=size) for size in (8, 4))
    assert whole.fingerprint() != half.fingerprint() and half.read(1, 3).images.shape == (
        2,
        4,
        4,
        1,
    )
    # Where nothing needs resizing it stays what it is.
    assert whole.fingerprint() == sources.open_images(str(tmp_path / "a.npz")).fingerprint()


def test_data_sets_by_name_and_split():
    digits = sources.open_images("digits")
    assert digits.shape == (8, 8, 1) and len(digits) == 1797 and digits.labelled
    some = sources.open_images("digits@train[:100]")
    np.testing.assert_array_equal(some.read(90, 100).images, digits.read(90, 100).images)
    assert some.name == "digits@train[:100]" and len(some) == 100


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "did you mean 'digits'"),
        ("digits@test", "split"),
        ("nowhere/a.npz", "--images=nowhere/a.npz does not exist"),
        ("folder:nowhere", "nowhere does not exist"),
        (" ", "names no images"),
    ],
)
def test_a_name_of_nothing(name, message):
    with pytest.raises(EvaluationInputError, match=message):
        sources.open_images(name)
