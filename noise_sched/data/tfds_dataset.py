"""Data sets of TensorFlow Datasets, read without TensorFlow.

A data set that was prepared once as array_record (see `noise_sched.prepare`) is found on disk
and read by TFDS's own metadata; neither its generating code nor TensorFlow nor the network is
touched. The encoded bytes are decoded by `noise_sched.data.images`, because TFDS's own decoder
without TensorFlow keeps whatever channels a file has.

The picture is the feature "image", or else the only image feature; the label is the feature "label"
where that is a class label, and -1 (unlabelled) otherwise.
"""

import dataclasses
import importlib.util
import os
import re
from typing import Any

import numpy as np
from jaxtyping import UInt8

from noise_sched.data import images, offline
from noise_sched.messages import nearest

_NAME = re.compile(r"(?P<base>\w+)(/(?P<config>[^/:]+))?(:(?P<version>[\d.*]+))?")
_SIZE_CONFIG = re.compile(r"(\d+)(x\1)?")


class DatasetNotPreparedError(ValueError):
    """A public data set is not on disk as array_record; the message says what to run."""


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsRecords:
    """One split of a prepared data set; see `noise_sched.data.sources.Records` for the fields."""

    name: str
    class_names: tuple[str, ...]
    channels: int
    size: tuple[int, int] | None
    mixed_sizes: str
    image_key: str
    label_key: str | None
    examples: Any

    @property
    def smallest_side(self) -> int | None:
        """Shorter side where the metadata tell it, else None."""
        return None if self.size is None else min(self.size)

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, index: int) -> tuple[UInt8[np.ndarray, "height width channels"], int]:
        """Decodes image `index`; ValueError names the record that cannot be decoded."""
        try:
            example = self.examples[index]
            pixels = images.decode(example[self.image_key], self.channels)
        except Exception as error:
            raise ValueError(
                f"cannot decode image {index} of the data set {self.name}: {error}. Its files are "
                "damaged: delete them and prepare it again."
            ) from error
        return pixels, -1 if self.label_key is None else int(example[self.label_key])


def open_tfds(
    name: str,
    *,
    image_size: int | None,
    split: str,
    data_dir: str | None,
    channels: int | None,
) -> TfdsRecords:
    """Opens one split of a data set that TFDS has prepared as array_record.

    Args:
        name: "name", "name/config", either with ":version". Where the configs of a data set are
            image sizes and none is named, the smallest that is at least `image_size` is taken.
        image_size: the side that images are wanted in; used for that choice only.
        split: any TFDS split, slices such as "train[:90%]" included.
        data_dir: TFDS's folder; None is its default (`TFDS_DATA_DIR` or ~/tensorflow_datasets).
        channels: 1 or 3; None is what the data set has.

    Raises:
        DatasetNotPreparedError: not on disk, or not as array_record.
        ValueError: unknown name, config or split; no image in the data set.
    """
    # TFDS takes a second to import: `noise_sched.data` stays light until a data set is opened.
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import read_only_builder

    name = resolve_name(name, image_size)
    try:
        builder = read_only_builder.builder_from_files(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise _not_on_disk(name, data_dir) from error

    features = builder.info.features
    image_key, image = _image_feature(name, features)
    label = dict(features.items()).get("label")
    labelled = isinstance(label, tfds.features.ClassLabel)
    try:
        examples = builder.as_data_source(split, decoders={image_key: tfds.decode.SkipDecoding()})
    except NotImplementedError as error:
        raise DatasetNotPreparedError(
            f"data set {name!r} is prepared in {builder.data_dir}, but as "
            f"{builder.info.file_format.value}, which cannot be read without TensorFlow. Prepare "
            f"it as array_record into another folder:\n{prepare_command(name, 'ANOTHER_FOLDER')}"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"data set {name!r} has no split {split!r}{_hint(split, list(builder.info.splits))} "
            f"(it has {', '.join(builder.info.splits)})."
        ) from error
    except Exception as error:
        raise ValueError(
            f"the files of the data set {name!r} in {builder.data_dir} cannot be read: {error}. "
            "Delete that folder and prepare it again."
        ) from error

    height, width, native_channels = image.shape
    return TfdsRecords(
        name=name,
        class_names=tuple(label.names) if labelled else (),
        channels=channels or (1 if native_channels == 1 else 3),
        size=None if height is None or width is None else (height, width),
        mixed_sizes=f"data set {name!r} does not promise images of one size",
        image_key=image_key,
        label_key="label" if labelled else None,
        examples=examples,
    )


def resolve_name(name: str, image_size: int | None) -> str:
    """Checks a name as far as that is possible without the files, and picks a size config.

    Raises:
        ValueError: a name that TFDS could not have; sizes as configs, of which none fits.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError(
            f"got the data set name {name!r}; expected 'name', 'name/config' (either with "
            f"':version'), or 'folder:PATH'.{_folder_hint(name)}"
        )
    if match["config"] is not None:
        return name
    configs = _configs(match["base"]) or []
    sizes = {int(fit[1]): fit[0] for fit in map(_SIZE_CONFIG.fullmatch, configs) if fit}
    if not configs or len(sizes) != len(configs):
        return name
    listed = ", ".join(map(str, sorted(sizes)))
    if image_size is None:
        raise ValueError(
            f"data set {name!r} comes in sizes {listed}: give image_size, or name one as "
            f"'{match['base']}/{sizes[max(sizes)]}'."
        )
    if image_size > max(sizes):
        raise ValueError(
            f"data set {name!r} comes in sizes {listed}; got image_size={image_size}. Take "
            f"{max(sizes)} or less, or name '{match['base']}/{sizes[max(sizes)]}' to enlarge it."
        )
    config = sizes[min(size for size in sizes if size >= image_size)]
    version = f":{match['version']}" if match["version"] else ""
    return f"{match['base']}/{config}{version}"


def prepare_command(name: str, data_dir: str | None) -> str:
    """The two commands that prepare a data set, as shown in messages."""
    where = "" if data_dir is None else f" --data_dir={data_dir}"
    lines = [f"    python -m noise_sched.prepare --dataset={name}{where}"]
    if importlib.util.find_spec("tensorflow") is None:
        lines.insert(0, "    pip install 'noise_sched[tf]'")
    return "\n".join(lines)


def check_known(name: str) -> None:
    """Raises ValueError, with the nearest names, for a data set or config that TFDS lacks."""
    match = _NAME.fullmatch(name)
    known = public_names()
    base, config = (name, None) if match is None else (match["base"], match["config"])
    if base not in known:
        raise ValueError(
            f"unknown data set {base!r}{_hint(base, known)} (known: {_own()}, the image data "
            "sets of TFDS, what is prepared below data_dir, and 'folder:PATH')."
            + _folder_hint(name)
        )
    offline.is_ours(base)  # TFDS knows it then
    configs = _configs(base)
    if config is not None and configs is not None and config not in configs:
        has = ", ".join(configs) or "none"
        raise ValueError(
            f"data set {base!r} has no config {config!r}{_hint(config, configs)} (it has {has})."
        )


def public_names() -> list[str]:
    """Names of all data sets whose code is at hand, without asking the network."""
    import tensorflow_datasets as tfds

    return sorted({*offline.MODULES, *tfds.list_builders(with_community_datasets=False)})


def _not_on_disk(name: str, data_dir: str | None) -> ValueError:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.utils import file_utils

    try:
        check_known(name)
    except ValueError as error:
        return error
    looked_in = " or ".join(map(str, file_utils.list_data_dirs(given_data_dir=data_dir)))
    by_hand = ""
    try:
        if tfds.builder_cls(name.split("/")[0].split(":")[0]).MANUAL_DOWNLOAD_INSTRUCTIONS:
            by_hand = "\nIts files have to be downloaded by hand first: the command says which."
    except ImportError:
        pass  # The code of some data sets needs TensorFlow; the message does without.
    return DatasetNotPreparedError(
        f"data set {name!r} is not prepared in {looked_in}. Prepare it once (only this needs "
        f"TensorFlow):\n{prepare_command(name, data_dir)}{by_hand}"
    )


def _configs(base: str) -> list[str] | None:
    """Names of a data set's configs; None where its code is not known or cannot be imported."""
    import tensorflow_datasets as tfds

    if base not in public_names():
        return None
    try:
        return list(tfds.builder_cls(base).builder_configs)
    except (ImportError, tfds.core.registered.DatasetNotFoundError):
        return None


def _image_feature(name: str, features: Any) -> tuple[str, Any]:
    import tensorflow_datasets as tfds

    # Subclasses of Image are segmentation maps and the like.
    found = {key: value for key, value in features.items() if type(value) is tfds.features.Image}
    key = "image" if "image" in found else next(iter(found), None)
    if key is None or ("image" not in found and len(found) > 1):
        raise ValueError(
            f"data set {name!r} has {len(found) or 'no'} image features, none named 'image' "
            f"(its features: {', '.join(features)}). Take a data set with one image per example."
        )
    if found[key].np_dtype != np.uint8:
        raise ValueError(
            f"the images of data set {name!r} are {np.dtype(found[key].np_dtype).name}; only uint8 "
            "images are supported."
        )
    return key, found[key]


def _own() -> str:
    return ", ".join(map(repr, offline.MODULES))


def _hint(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    return "" if near is None else f"; did you mean {near!r}?"


def _folder_hint(name: str) -> str:
    return f" Did you mean 'folder:{name}'?" if os.path.isdir(os.path.expanduser(name)) else ""
