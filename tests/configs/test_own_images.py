"""configs/own_images.py: from a folder of any images to a config that trains, and what it says of it."""

import numpy as np
import pytest
from PIL import Image

from configs import own_images
from noise_sched import experiment
from noise_sched.data.survey import survey
from noise_sched.experiment import training_images


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


@pytest.fixture
def zoo(tmp_path):
    """Two classes of files as people have them."""
    folder = tmp_path / "zoo"
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(noise(40, 70)).save(folder / "cats/photo.jpg", exif=turned)
    Image.fromarray(noise(50, 50, 4), "RGBA").save(folder / "cats/transparent.png")
    Image.fromarray(noise(48, 33)).convert("P").save(folder / "cats/palette.gif")
    Image.fromarray(noise(64, 64)).save(folder / "dogs/new.webp")
    Image.fromarray(noise(64, 64)[..., 0]).save(folder / "dogs/grey.png")
    Image.fromarray(noise(64, 64)[..., 0].astype(np.uint16) * 257).save(folder / "dogs/deep.png")
    return folder


def test_what_it_finds(zoo, capsys):
    config = own_images.get_config(str(zoo))
    assert config.data.to_dict() | {"name": ""} == dict(
        name="",
        split="train",
        image_size=32,
        channels=3,
        flip=False,
        data_dir="",
        skip_unreadable=False,
    )
    assert config.network.num_classes == 2 and config.label_dropout > 0
    assert config.sigma_data == round(survey(str(zoo)).std, 3)
    told = capsys.readouterr().err
    assert "6 images" in told and "33 pixels; 2 classes" in told
    assert "data.image_size=32" in told and config.process in told and "UNetSmall" in told


def test_its_sigma_data_is_measured(tmp_path):
    for i, value in enumerate((0, 255)):
        Image.new("L", (8, 8), value).save(tmp_path / f"{i}.png")
    config = own_images.get_config(str(tmp_path))
    assert (config.sigma_data, config.data.channels, config.network.num_classes) == (1.0, 1, 0)


def test_the_largest_size_that_enlarges_none(tmp_path):
    Image.fromarray(noise(200, 300)).save(tmp_path / "a.png")
    chosen = {
        word: own_images.get_config(f"{tmp_path}{word}").data.image_size for word in ("", ",laptop")
    }
    assert chosen == {"": 64, ",laptop": 16}
    Image.new("L", (300, 7)).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match="a side of 7 pixels; give a size.*size=8"):
        own_images.get_config(str(tmp_path))
    assert own_images.get_config(f"{tmp_path},size=16").data.image_size == 16


def test_the_input_scale_is_near_the_papers():
    scales = [own_images.scale_of(size) for size in (16, 64, 128, 256)]
    np.testing.assert_allclose(scales, [1, 1, 0.6, 0.4], atol=0.03)


@pytest.mark.parametrize("network", ["UNetSmall", "RIN"])
def test_every_size_makes_an_experiment(tmp_path, network):
    Image.fromarray(noise(8, 8)).save(tmp_path / "a.png")
    for size in (8, 24, 48, 96, 160, 224, 1024):
        config = own_images.get_config(f"{tmp_path},size={size},network={network}")
        experiment.from_config(config)


def test_a_damaged_file_is_named_and_need_not_be_fatal(zoo, capsys):
    (zoo / "dogs" / "broken.jpg").write_bytes((zoo / "cats/photo.jpg").read_bytes()[:900])
    with pytest.raises(ValueError, match="dogs/broken.jpg.*pass over .*skip_unreadable"):
        training_images.opened(own_images.get_config(f"{zoo},size=8"))
    with pytest.warns(UserWarning, match="passed over 1 files: dogs/broken.jpg"):
        config = own_images.get_config(f"{zoo},laptop,size=8,steps=2,skip_unreadable")
        assert len(training_images.opened(config)) == 6
    assert "1 unreadable ones passed over" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "name a folder of images"),
        (",size=32", "name a folder of images"),
        ("DIR,size=65", "unknown 'size=65' behind the folder. Known.*multiple of 8"),
        ("DIR,size=big", "unknown 'size=big'"),
        ("DIR,steps=0", "unknown 'steps=0'"),
        ("DIR,network=ADM", "unknown 'network=ADM'"),
        ("DIR,skip", "unknown 'skip' behind.*skip_unreadable"),
        ("DIR,laptp", "Did you mean 'laptop'"),
        ("DIR,laptop,network=RIN", "laptop chooses the network"),
        ("DIR/nowhere", "nowhere"),
        ("DIR", "all pixels of the images in it are equal"),
    ],
)
def test_wrong_words(tmp_path, words, message):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=message):
        own_images.get_config(words.replace("DIR", str(tmp_path)))
