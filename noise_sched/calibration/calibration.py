"""The input scale at a resolution from the images alone, given what is good at another resolution.

    Phi_d(b(d)) = Phi_anchor(b_anchor)                                                            (1)

with Phi of `explained`: at the scale b(d) a linear denoiser explains, on average over the linear schedule's
noise levels, as much of the images of d pixels as of the same images at the anchor's resolution. The
paper (Chen 2023) searched b on ImageNet: 1 at 64 pixels, 0.6 at 128, 0.4 at 256; photographs whose spectrum
falls with the frequency to the power 2.3 give 1, 0.64, 0.40, and 0.24 at 512.

Experimental: it is the centre of a search with three points, b / 1.4, b and 1.4 b, not a replacement for it.
"""

import dataclasses
from collections.abc import Iterable, Iterator

import numpy as np

from noise_sched.calibration import explained, modes
from noise_sched.data import transforms

FEWEST = 16  # images
_FEW = 200
_USUAL_EXPONENTS = (1.8, 2.8)
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class Calibration:
    """An input scale, and what it rests on.

    Attributes:
      scale: b at `size`.
      low, high: with 90 % probability b is between them, as far as the choice of images goes (bootstrap).
      size, anchor_size: sides in pixels.
      anchor_scale: b at the anchor.
      images: how many.
      explained: the share of equation (1) that both sizes have in common.
      inverse_size: the rule of thumb, anchor_scale times anchor_size / size.
      spectrum, anchor_spectrum: variances by spatial frequency.
      variances, anchor_variances: of all modes, [height, width, channels].
      warnings: what speaks against the result, in words.
    """

    scale: float
    low: float
    high: float
    size: int
    anchor_size: int
    anchor_scale: float
    images: int
    explained: float
    inverse_size: float
    spectrum: modes.Spectrum
    anchor_spectrum: modes.Spectrum
    variances: np.ndarray = dataclasses.field(repr=False)
    anchor_variances: np.ndarray = dataclasses.field(repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def config_line(self) -> str:
        """What to give a training."""
        return f"--config.process='vp(input_scale={self.scale:.3g})'"

    @property
    def sweep(self) -> tuple[float, float, float]:
        """The three scales to try."""
        return self.scale / 1.4, self.scale, 1.4 * self.scale


def calibrate(
    images: Iterable[np.ndarray],
    size: int,
    *,
    anchor_size: int = 64,
    anchor_scale: float = 1.0,
    resamples: int = 100,
    seed: int = 0,
) -> Calibration:
    """The input scale at `size` of some images.

    Args:
      images: uint8, each [height, width, channels], not smaller than `size` and `anchor_size`. They are cut
        and resized as training does.
      size: the side of the images that will be trained on.
      anchor_size: a side at which a good input scale is known.
      anchor_scale: that scale.
      resamples: of the bootstrap.
      seed: of the bootstrap.

    Raises:
      ValueError: images that are too small, too few, all equal or grey in three channels.
    """
    pairs = _resized(images, size, anchor_size)
    return calibrate_batches(pairs, anchor_scale=anchor_scale, resamples=resamples, seed=seed)


def calibrate_batches(
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    anchor_scale: float = 1.0,
    resamples: int = 100,
    seed: int = 0,
) -> Calibration:
    """As `calibrate`, of images that are there at both sizes.

    Args:
      batches: pairs of float [n, height, width, channels] in about [-1, 1]: the same images at the size
        that is asked for, and at the anchor's.
      anchor_scale: as `calibrate`.
      resamples: as `calibrate`.
      seed: as `calibrate`.

    Raises:
      ValueError: as `calibrate`.
    """
    if not anchor_scale > 0:
        raise ValueError(f"got anchor_scale={anchor_scale}; expected a positive number.")
    found: list[modes.Modes] = []
    grey = True
    for pair in batches:
        if not found:
            groups = modes.groups_for(*(part.shape[1:] for part in pair))
            found = [modes.Modes(part.shape[1:], groups) for part in pair]
        grey = grey and bool((pair[0] == pair[0][..., :1]).all())
        for each, part in zip(found, pair, strict=True):
            each.add(part)
    count = found[0].count if found else 0
    if count < FEWEST:
        raise ValueError(
            f"got {count} images; a variance of each mode needs {FEWEST} at least, and "
            f"some hundreds to be worth anything."
        )
    at_size, at_anchor = found
    if grey and at_size.shape[2] > 1:
        raise ValueError(
            "the images are grey: their three channels are equal. Read them with one channel, or b would be "
            "that of another data set."
        )
    variances, anchor = at_size.variances(), at_anchor.variances()
    if not variances.max() > 1e-12 or not anchor.max() > 1e-12:
        raise ValueError("all images are equal: there is no variance to explain.")
    spectra = modes.spectrum(variances), modes.spectrum(anchor)
    share = explained.explained(anchor.ravel(), anchor_scale)
    low, high = _interval(at_size, at_anchor, anchor_scale, resamples, seed)
    size, anchor_size = at_size.shape[0], at_anchor.shape[0]
    return Calibration(
        scale=explained.scale_that_explains(variances.ravel(), share),
        low=low,
        high=high,
        size=size,
        anchor_size=anchor_size,
        anchor_scale=anchor_scale,
        images=count,
        explained=share,
        inverse_size=anchor_scale * anchor_size / size,
        spectrum=spectra[0],
        anchor_spectrum=spectra[1],
        variances=variances,
        anchor_variances=anchor,
        warnings=tuple(_warnings(count, spectra[0])),
    )


def _resized(
    images: Iterable[np.ndarray], size: int, anchor_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for name, value in (("size", size), ("anchor_size", anchor_size)):
        if value < 2:
            raise ValueError(f"got {name}={value}; expected 2 pixels or more.")
    batch: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for number, image in enumerate(images):
        side = min(image.shape[:2])
        asked = max(size, anchor_size)
        if side < asked:
            raise ValueError(
                f"image {number} has a side of {side} pixels, less than the {asked} asked for: enlarged, it "
                "has no detail there, and b would come out too small. Use a smaller size, or larger images."
            )
        for part, each in zip(batch, (size, anchor_size), strict=True):
            part.append(transforms.preprocess(image, each))
        if len(batch[0]) == _BATCH:
            yield np.stack(batch[0]), np.stack(batch[1])
            batch = ([], [])
    if batch[0]:
        yield np.stack(batch[0]), np.stack(batch[1])


def _interval(
    at_size: modes.Modes, at_anchor: modes.Modes, anchor_scale: float, resamples: int, seed: int
) -> tuple[float, float]:
    """5 % and 95 % of the scale over images drawn again, whole groups at a time."""
    random = np.random.default_rng(seed)
    scales = []
    for _ in range(resamples):
        # Both sizes have the same images in the same groups.
        drawn = random.multinomial(at_size.groups, np.full(at_size.groups, 1 / at_size.groups))
        variances, anchor = (each.variances(drawn).ravel() for each in (at_size, at_anchor))
        share = explained.explained(anchor, anchor_scale)
        scales.append(explained.scale_that_explains(variances, share))
    low, high = np.quantile(scales, (0.05, 0.95))
    return float(low), float(high)


def _warnings(count: int, spectrum: modes.Spectrum) -> Iterator[str]:
    if count < _FEW:
        yield f"{count} images are few: some hundreds are needed for two digits of b."
    low, high = _USUAL_EXPONENTS
    if not low <= spectrum.exponent <= high:
        yield (
            f"the variance falls with the frequency to the power {spectrum.exponent:.2f}; photographs have "
            f"{low} to {high}, and for other images it is open what this b is worth."
        )
