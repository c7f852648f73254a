"""Radial power spectrum: do images have as much detail of every size as real ones?

The kind `spectrum`: for each whole spatial frequency r (in cycles along the shorter side, from 1 to half of
its pixels) the mean of |F|^2 over the frequencies whose radius rounds to r, where F is the discrete Fourier
transform of the image (grey, in [0, 1], its mean taken off). Blur takes away high frequencies, noise adds
to them.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from noise_sched.evaluation.features import Extractor, Features


def extractor(shape: tuple[int, int, int]) -> Extractor:
    """Of images of one shape (height, width, channels)."""
    height, width, channels = shape
    rings = min(height, width) // 2
    short = min(height, width)
    radius = np.hypot(
        np.fft.fftfreq(height)[:, None] * short, np.fft.fftfreq(width)[None, :] * short
    )
    members = np.stack([np.round(radius) == r for r in range(1, rings + 1)]).astype(np.float32)
    weights = members / members.sum(axis=(1, 2), keepdims=True)

    def apply(params: None, images: Array, numbers: Array) -> dict[str, Float[Array, "n rings"]]:
        grey = images.astype(jnp.float32).mean(axis=3) / 255
        power = jnp.abs(jnp.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True))) ** 2
        return {"spectrum": jnp.einsum("nhw,rhw->nr", power, weights)}

    return Extractor("spectrum", {"spectrum": rings}, apply, batch=128)


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """The mean power spectrum of images beside that of real ones.

    Attributes:
      distance: the root mean square over the frequencies of the difference in dB.
      largest: the largest difference in dB, positive where the images have more power.
      at: its frequency, in cycles along the shorter side.
    """

    distance: float
    largest: float
    at: int


def spectrum(generated: Features, real: Features) -> Spectrum:
    """Compares the mean power at each frequency, on `spectrum`."""
    gap = mean_decibels(generated) - mean_decibels(real)
    index = int(np.abs(gap).argmax())
    return Spectrum(float(np.sqrt(np.mean(gap**2))), float(gap[index]), index + 1)


def mean_decibels(features: Features) -> np.ndarray:
    """The mean power at each frequency, in dB."""
    total = sum(block.sum(axis=0) for block in features.blocks())
    # An image of one grey has no power at all; 1e-12 is far below one step of 8 bits.
    return 10 * np.log10(np.maximum(total / len(features), 1e-12))
