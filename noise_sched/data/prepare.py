"""Downloads and prepares a TFDS data set so that training can read it without TensorFlow.

    pip install 'noise_sched[tf]'
    python -m noise_sched.data.prepare --dataset=cifar10 --data_dir=~/tensorflow_datasets
    python -m noise_sched.data.prepare --dataset=downsampled_imagenet/64x64
    python -m noise_sched.data.prepare --dataset=imagenet2012 --manual_dir=FOLDER_WITH_THE_TAR_FILES

Public data sets need TensorFlow here, once. The files are written as array_record. A data set that
is prepared already is left alone, and an interrupted preparation leaves nothing that could be taken
for a finished one.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from noise_sched.data import offline, tfds_dataset


def prepare(
    dataset: str,
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> str:
    """Prepares one data set as array_record and returns the folder it lies in.

    Args:
        dataset: "name" or "name/config".
        data_dir: TFDS's folder; None is its default.
        manual_dir: where files that have to be downloaded by hand lie; None is TFDS's default.

    Raises:
        ValueError: unknown name or config; TensorFlow missing where it is needed; prepared already
            in another format; files to be downloaded by hand that are missing.
    """
    import tensorflow_datasets as tfds

    if dataset in offline.MODULES:
        return offline.prepare(dataset, _expand(data_dir))

    tfds_dataset.check_known(dataset)
    base = dataset.split("/")[0].split(":")[0]
    if tfds.builder_cls(base).__module__.startswith("tensorflow_datasets."):
        missing = [
            package
            for package in ("tensorflow", "importlib_resources")
            if importlib.util.find_spec(package) is None
        ]
        if missing:
            raise ValueError(
                f"preparing {dataset!r} needs {' and '.join(missing)} (training does not): "
                "pip install 'noise_sched[tf]'"
            )
    builder = tfds.builder(dataset, data_dir=_expand(data_dir), try_gcs=False)
    if not builder.is_prepared():
        try:
            builder.download_and_prepare(
                file_format="array_record",
                download_config=tfds.download.DownloadConfig(
                    manual_dir=_expand(manual_dir), try_download_gcs=False
                ),
            )
        except AssertionError as error:
            # TFDS's way to say that files are missing which it may not download itself.
            raise ValueError(f"{dataset!r} cannot be prepared: {error}") from error
    formats = {file_format.value for file_format in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise ValueError(
            f"{dataset!r} is prepared in {builder.data_dir} already, as "
            f"{' and '.join(sorted(formats))}. Give another --data_dir to prepare it as "
            "array_record."
        )
    return builder.data_dir


def _expand(path: str | None) -> str | None:
    return None if path is None else os.path.expanduser(path)


def _check(options: argparse.Namespace) -> None:
    """Refuses options that are empty or name a file where a folder is meant."""
    for name, value in vars(options).items():
        if value is not None and not value.strip():
            raise ValueError(f"--{name}= is empty; leave it out, or give a value.")
    for name in ("data_dir", "manual_dir"):
        folder = getattr(options, name)
        if folder is not None and os.path.isfile(os.path.expanduser(folder)):
            raise ValueError(f"--{name}={folder} is a file; give a folder.")


class _Parser(argparse.ArgumentParser):
    """Mistakes in one line, as the other commands tell them."""

    def error(self, message: str) -> NoReturn:
        """Prints the message and exits with code 2."""
        print(f"error: {message}. `--help` lists the options.", file=sys.stderr)
        sys.exit(2)


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = _Parser(
        prog="python -m noise_sched.data.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--dataset", required=True, help="name or name/config, as TFDS lists it")
    parser.add_argument("--data_dir", help="default: TFDS_DATA_DIR or ~/tensorflow_datasets")
    parser.add_argument("--manual_dir", help="files that you downloaded by hand")
    options = parser.parse_args(argv)
    try:
        _check(options)
        folder = prepare(options.dataset, options.data_dir, options.manual_dir)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.dataset} is ready in {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
