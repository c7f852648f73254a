"""Tiny prepared data sets, made once per test process."""

import io

import numpy as np
import pytest
from PIL import Image


def encode(pixels: np.ndarray, file_format: str = "PNG", mode: str | None = None) -> bytes:
    image = Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image if mode is None else image.convert(mode)).save(buffer, format=file_format)
    return buffer.getvalue()


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory) -> str:
    from noise_sched.data import digits

    data_dir = str(tmp_path_factory.mktemp("digits"))
    digits.prepare(data_dir)
    return data_dir


@pytest.fixture(scope="session")
def tiny_builders():
    """Two data sets shaped like imagenet2012 and like downsampled_imagenet, known to TFDS."""
    import tensorflow_datasets as tfds

    class TinyPhotos(tfds.core.GeneratorBasedBuilder):
        """JPEG photographs of many sizes, some of them greyscale or CMYK; labelled."""

        VERSION = tfds.core.Version("1.0.0")
        url_infos = None

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(encoding_format="jpeg"),
                        "label": tfds.features.ClassLabel(names=["cat", "dog", "owl"]),
                        "file_name": tfds.features.Text(),
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(10), "validation": self._generate_examples(4)}

        def _generate_examples(self, count):
            for i in range(count):
                pixels = noise(i, 20 + i, 31 - i, 3)
                mode = (None, "L", "CMYK")[i % 3]
                yield (
                    i,
                    {
                        "image": io.BytesIO(encode(pixels, "JPEG", mode)),
                        "label": i % 3,
                        "file_name": f"{i}.jpg",
                    },
                )

    class TinyDownsampled(tfds.core.GeneratorBasedBuilder):
        """Unlabelled, one config per size, and the size is not in the metadata."""

        BUILDER_CONFIGS = [
            tfds.core.BuilderConfig(name=f"{side}x{side}", version=tfds.core.Version("2.0.0"))
            for side in (4, 8)
        ]
        url_infos = None

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict({"image": tfds.features.Image()}),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            side = int(self.builder_config.name.split("x")[0])
            for i in range(6):
                yield i, {"image": Image.fromarray(noise(i, side, side, 3))}

    return TinyPhotos, TinyDownsampled


@pytest.fixture(scope="session")
def tiny_dir(tiny_builders, tmp_path_factory) -> str:
    """A folder in which tiny_photos and tiny_downsampled/8x8 are prepared."""
    from noise_sched.data import prepare

    data_dir = str(tmp_path_factory.mktemp("tiny"))
    prepare.prepare("tiny_photos", data_dir)
    prepare.prepare("tiny_downsampled/8x8", data_dir)
    return data_dir
