"""Preparing a TFDS data set so that reading it needs no TensorFlow; the command is `noise_sched.prepare`."""

import importlib.util
import os
import runpy

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

    if offline.is_ours(dataset):
        tfds_dataset.check_known(dataset)
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


if __name__ == "__main__":
    # Where the command was before; by its name, because a room imports nothing from above it.
    runpy.run_module("noise_sched.prepare", run_name="__main__", alter_sys=True)
