"""Images [-1, 1] <-> uint8, and grids of them to look at."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MARGIN = 2  # pixels between images
_WANTED = 48  # small images are enlarged to about this many pixels


def to_uint8(images: np.ndarray) -> np.ndarray:
    """[-1, 1] floats, [..., h, w, c] -> 0..255, rounded; values outside are clipped."""
    return np.clip(np.round((images + 1.0) * 127.5), 0, 255).astype(np.uint8)


def to_pil(image: np.ndarray) -> Image.Image:
    """One uint8 image [h, w, 1 or 3]."""
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def labelled_grid(images: np.ndarray, labels: np.ndarray, columns: int = 10) -> Image.Image:
    """A picture with one row per label, at most ten of each, the label written at the left.

    Args:
      images: uint8 [n, h, w, c], one or more, of 1 or 3 channels.
      labels: int [n]; where all are -1 the images are simply laid out in rows.
      columns: images in a row.

    Returns:
      The picture; images smaller than 48 pixels are enlarged by a whole factor.
    """
    found = np.unique(labels)[:columns]
    if (found == -1).all():
        rows = [images[i : i + columns] for i in range(0, min(len(images), columns**2), columns)]
        names = [""] * len(rows)
    else:
        rows = [images[labels == label][:columns] for label in found]
        names = [str(label) for label in found]
    return _lay_out(rows, names, columns)


def grid(rows: list[np.ndarray]) -> Image.Image:
    """A picture of rows of uint8 images [n, h, w, c], all of one size."""
    return _lay_out(rows, [""] * len(rows), max(map(len, rows)))


def _lay_out(rows: list[np.ndarray], names: list[str], columns: int) -> Image.Image:
    height, width = rows[0].shape[1:3]
    scale = max(1, round(_WANTED / max(height, width)))
    step_y, step_x = height * scale + _MARGIN, width * scale + _MARGIN
    left = 24 if any(names) else 0
    size = (left + columns * step_x + _MARGIN, len(rows) * step_y + _MARGIN)
    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for y, (row, name) in enumerate(zip(rows, names, strict=True)):
        top = _MARGIN + y * step_y
        pen.text((6, top + step_y // 2 - 9), name, fill="black", font=font)
        for x, image in enumerate(row):
            big = to_pil(image).resize((width * scale, height * scale), Image.Resampling.NEAREST)
            picture.paste(big, (left + _MARGIN + x * step_x, top))
    return picture
