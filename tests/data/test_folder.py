import pathlib

import numpy as np
import pytest
from PIL import Image

from noise_sched.data import make_batches, open_source


def save(path: pathlib.Path, height: int, width: int, value: int = 0, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value,) * 3
    Image.new(mode, (width, height), colour).save(path)


def first_pixels(source) -> list[int]:
    rows = [source[i]["image"] for i in range(len(source))]
    return [round((float(image[0, 0, 0]) + 1) * 127.5) for image in rows]


@pytest.fixture
def classes(tmp_path):
    save(tmp_path / "owl" / "a.png", 6, 6, 30)
    save(tmp_path / "cat" / "b.png", 6, 6, 10)
    save(tmp_path / "cat" / "deep" / "c.png", 6, 6, 20)
    return tmp_path


def test_a_flat_folder_is_unlabelled(tmp_path):
    for value in (3, 1, 2):
        save(tmp_path / f"{value}.png", 4, 4, value)
    source = open_source(f"folder:{tmp_path}", image_size=4)
    assert source.num_classes == 0 and source.image_shape == (4, 4, 3)
    assert first_pixels(source) == [1, 2, 3]
    assert source.gather(np.arange(3))["label"].tolist() == [-1, -1, -1]
    batch = next(make_batches(source, batch_size=4, seed=0, flip=True))
    assert batch["label"].tolist() == [-1] * 4 and batch["label"].dtype == np.int32


def test_subfolders_are_classes_by_sorted_name(classes):
    source = open_source(f"folder:{classes}", image_size=6)
    assert source.class_names == ("cat", "owl") and source.num_classes == 2
    assert first_pixels(source) == [10, 20, 30]
    assert [int(source[i]["label"]) for i in range(3)] == [0, 0, 1]


def test_hidden_files_and_litter_are_passed_over(classes):
    (classes / ".DS_Store").write_text("x")
    (classes / "cat" / "Thumbs.db").write_text("x")
    (classes / ".cache").mkdir()
    (classes / ".cache" / "x.txt").write_text("x")
    assert len(open_source(f"folder:{classes}", image_size=6)) == 3


def test_home_is_expanded(classes, monkeypatch):
    monkeypatch.setenv("HOME", str(classes.parent))
    assert len(open_source(f"folder:~/{classes.name}", image_size=6)) == 3


@pytest.mark.parametrize(("channels", "expected"), [(None, 1), (1, 1), (3, 3)])
def test_channels_of_greyscale_images(tmp_path, channels, expected):
    save(tmp_path / "a.png", 4, 4, 7, mode="L")
    source = open_source(f"folder:{tmp_path}", image_size=4, channels=channels)
    assert source.image_shape == (4, 4, expected)


def test_one_colour_image_makes_all_colour(tmp_path):
    save(tmp_path / "a.png", 4, 4, 7, mode="L")
    save(tmp_path / "b.png", 4, 4, 7)
    assert open_source(f"folder:{tmp_path}", image_size=4).image_shape == (4, 4, 3)


def test_bad_files_are_named_at_opening(classes):
    (classes / "cat" / "notes.txt").write_text("hello")
    (classes / "owl" / "empty.png").touch()
    with pytest.raises(ValueError) as error:
        open_source(f"folder:{classes}", image_size=6)
    message = str(error.value)
    assert "2 of 5 files cannot be read as images" in message
    assert "cat/notes.txt" in message and "owl/empty.png" in message


def test_many_bad_files_are_counted(tmp_path):
    for i in range(8):
        (tmp_path / f"{i}.txt").write_text("hello")
    with pytest.raises(ValueError, match="8 of 8 files.*4.txt.* and 3 more"):
        open_source(f"folder:{tmp_path}", image_size=6)


@pytest.mark.parametrize("memory_budget", [0, 2**20])
def test_a_truncated_file_is_named(tmp_path, memory_budget):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut.png"):
        open_source(f"folder:{tmp_path}", image_size=32, memory_budget=memory_budget)[0]


def test_mixed_sizes_are_refused_without_a_size(tmp_path):
    for name in "abc":
        save(tmp_path / f"{name}.png", 4, 4)
    save(tmp_path / "odd.png", 4, 5)
    with pytest.raises(ValueError, match=r"most are 4x4, but not odd.png \(4x5\).*image_size"):
        open_source(f"folder:{tmp_path}", image_size=None)
    assert open_source(f"folder:{tmp_path}", image_size=4).image_shape == (4, 4, 3)


def test_one_size_is_kept_without_a_size(tmp_path):
    save(tmp_path / "a.png", 4, 6)
    save(tmp_path / "b.png", 4, 6)
    assert open_source(f"folder:{tmp_path}", image_size=None).image_shape == (4, 6, 3)


def test_small_images_are_enlarged_with_a_warning(tmp_path):
    save(tmp_path / "a.png", 40, 40, 50)
    save(tmp_path / "b.png", 3, 5, 50)
    with pytest.warns(UserWarning, match="side of 3 pixels.*enlarged to 8"):
        source = open_source(f"folder:{tmp_path}", image_size=8)
    np.testing.assert_allclose(source[1]["image"], 2 * 50 / 255 - 1, atol=1e-5)


def test_rotated_photographs_are_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "photo.jpg", exif=exif)
    assert open_source(f"folder:{tmp_path}", image_size=None).image_shape == (8, 4, 3)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match="no image in"):
        open_source(f"folder:{tmp_path}", image_size=4)


def test_an_empty_class(classes):
    (classes / "dog").mkdir()
    with pytest.raises(ValueError, match="no image in the class folder dog"):
        open_source(f"folder:{classes}", image_size=6)


def test_images_beside_classes(classes):
    save(classes / "loose.png", 6, 6)
    with pytest.raises(ValueError, match="loose.png beside the subfolders cat, owl"):
        open_source(f"folder:{classes}", image_size=6)


def test_not_a_folder(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        open_source(f"folder:{tmp_path / 'nowhere'}", image_size=4)
    save(tmp_path / "a.png", 4, 4)
    with pytest.raises(ValueError, match="is a file, not a folder"):
        open_source(f"folder:{tmp_path / 'a.png'}", image_size=4)


def test_folders_have_one_split(classes):
    with pytest.raises(ValueError, match="use 'train'"):
        open_source(f"folder:{classes}", image_size=6, split="test")


def test_damaged_files_can_be_passed_over(classes):
    (classes / "owl" / "note.jpg").write_text("no image")
    whole = (classes / "cat" / "b.png").read_bytes()
    Image.effect_noise((64, 64), 50).save(classes / "owl" / "z.png")
    cut = classes / "owl" / "z.png"
    cut.write_bytes(cut.read_bytes()[: 2 * len(whole)])  # a good head, damaged behind it
    with pytest.warns(UserWarning, match="passed over 2 files: owl/note.jpg.*owl/z.png"):
        source = open_source(f"folder:{classes}", image_size=6, skip_unreadable=True)
    assert first_pixels(source) == [10, 20, 30]
    with pytest.raises(ValueError, match="1 of 4 files.*Move them.*data.skip_unreadable=True"):
        cut.unlink()
        open_source(f"folder:{classes}", image_size=6)


def test_a_folder_of_damaged_files_only_is_refused_all_the_same(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ValueError, match="1 of 1 files cannot be read"):
        open_source(f"folder:{tmp_path}", image_size=6, skip_unreadable=True)
