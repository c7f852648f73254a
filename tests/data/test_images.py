import io

import numpy as np
import pytest
from PIL import Image

from noise_sched.data import images


def encode(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def test_png_bytes_are_exact():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(images.decode(encode(Image.fromarray(pixels)), 3), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_becomes_the_asked_channels(mode, channels):
    image = Image.new("RGB", (4, 3), (255, 255, 255)).convert(mode)
    decoded = images.decode(encode(image), channels)
    assert decoded.shape == (3, 4, channels) and decoded.dtype == np.uint8
    assert (decoded == 255).all()


def test_cmyk_jpeg():
    image = Image.new("RGB", (8, 8), (200, 100, 50)).convert("CMYK")
    decoded = images.decode(encode(image, "JPEG", quality=95), 3)
    np.testing.assert_allclose(decoded[4, 4].astype(int), (200, 100, 50), atol=6)


def test_alpha_is_dropped():
    image = Image.new("RGBA", (2, 2), (10, 20, 30, 0))
    np.testing.assert_array_equal(images.decode(encode(image), 3)[0, 0], (10, 20, 30))


def test_sixteen_bits_are_scaled():
    wide = np.array([[0, 257, 65535, 32896]], np.uint16)
    decoded = images.decode(encode(Image.fromarray(wide)), 1)
    np.testing.assert_array_equal(decoded[0, :, 0], [0, 1, 255, 128])


def test_rotation_is_applied_on_request(tmp_path):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(path, exif=exif)
    assert images.decode(path, 3).shape == (4, 8, 3)
    assert images.decode(path, 3, apply_rotation=True).shape == (8, 4, 3)
    assert images.read_header(path) == (8, 4, False)


def test_float_images_are_refused(tmp_path):
    path = tmp_path / "float.tiff"
    Image.fromarray(np.zeros((2, 2), np.float32)).save(path)
    with pytest.raises(ValueError, match="floating-point"):
        images.decode(path, 1)
