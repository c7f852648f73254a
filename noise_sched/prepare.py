"""Downloads and prepares a TFDS data set so that training can read it without TensorFlow.

    pip install 'noise_sched[tf]'
    python -m noise_sched.prepare --dataset=cifar10 --data_dir=~/tensorflow_datasets
    python -m noise_sched.prepare --dataset=downsampled_imagenet/64x64
    python -m noise_sched.prepare --dataset=imagenet2012 --manual_dir=FOLDER_WITH_THE_TAR_FILES

Public data sets need TensorFlow here, once. The files are written as array_record. A data set that
is prepared already is left alone, and an interrupted preparation leaves nothing that could be taken
for a finished one.
"""

import os

from absl import flags

from noise_sched import command_line
from noise_sched.data.prepare import prepare


def main() -> None:
    """The command: flags in, mistakes reported in one message."""
    with command_line.clear_errors():
        dataset = command_line.required("dataset", "--dataset=cifar10")
        folder = prepare(dataset, _folder("data_dir"), _folder("manual_dir"))
        print(f"{dataset} is ready in {folder}")


def _folder(name: str) -> str | None:
    """The value of a flag that names a folder, which need not exist; None where it is not given."""
    value = flags.FLAGS[name].value
    if value is not None and not value.strip():
        raise ValueError(f"--{name}= is empty; leave it out, or give a value.")
    if value is not None and os.path.isfile(os.path.expanduser(value)):
        raise ValueError(f"--{name}={value} is a file; give a folder.")
    return value


def _define_flags() -> None:
    """Called by the binary only: in one process, as in the tests, several may be imported."""
    flags.DEFINE_string("dataset", None, "Name or name/config, as TFDS lists it.")
    flags.DEFINE_string("data_dir", None, "Default: TFDS_DATA_DIR or ~/tensorflow_datasets.")
    flags.DEFINE_string("manual_dir", None, "Files that you downloaded by hand.")


if __name__ == "__main__":
    command_line.run(main, _define_flags)
