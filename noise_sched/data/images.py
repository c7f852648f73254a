"""Encoded images to arrays of bytes, with Pillow.

The one place that decides what odd files mean: palettes, CMYK and greyscale are converted to the
asked number of channels, 16-bit greyscale is scaled to 8 bits, alpha is dropped (as
`tf.image.decode_image(channels=3)` does), and an animation is its first frame.
"""

import io
import os

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

GREY_MODES = ("1", "L", "LA", "I", "I;16", "I;16L", "I;16B")

# Only cameras' formats carry a rotation, and asking a PNG for one would decode all of it.
_ROTATED_FORMATS = ("JPEG", "MPO")
_ORIENTATION_TAG = 0x0112


def decode(
    encoded: bytes | str | os.PathLike, channels: int, *, apply_rotation: bool = False
) -> UInt8[np.ndarray, "height width channels"]:
    """Decodes one image.

    Args:
        encoded: the file's bytes, or its path.
        channels: 1 (greyscale) or 3 (RGB).
        apply_rotation: turn a photograph as its EXIF tag says. TFDS pipelines never do.

    Raises:
        OSError, ValueError: what Pillow says of bytes that it cannot decode.
    """
    opened = io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded
    with Image.open(opened) as image:
        if apply_rotation and image.format in _ROTATED_FORMATS:
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            wide = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
            image = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
        elif image.mode == "F":
            raise ValueError("floating-point images are not supported: save it as 8-bit PNG")
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels[..., None] if channels == 1 else pixels


def read_header(path: str | os.PathLike) -> tuple[int, int, bool]:
    """(height, width, is greyscale) from the file's head alone, rotation applied.

    Raises:
        OSError, ValueError: what Pillow says of a file that is not an image.
    """
    with Image.open(path) as image:
        width, height = image.size
        if image.format in _ROTATED_FORMATS and image.getexif().get(_ORIENTATION_TAG, 1) >= 5:
            width, height = height, width
        return height, width, image.mode in GREY_MODES
