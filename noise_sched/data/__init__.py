"""Pictures by name, and endless batches of them.

    source = open_source("digits", image_size=8)
    batches = make_batches(source, batch_size=64, seed=0, flip=False)
    batch = next(batches)       # {"image": float32 [64, 8, 8, 1] in [-1, 1], "label": int32 [64]}

`sources` opens data sets (`tfds_dataset`, `folder`, and our own, which `offline` prepares: `digits`,
`mnist5k`, `dead_leaves`, `photo_crops` and `brightness`), `images` and `transforms` decode, crop and resize,
`order` shuffles, `pipeline` batches, and `prepare` is the command that makes public TFDS data sets readable
without TensorFlow. `augment` distorts batches on the device and labels what it did.

A label of -1 means "no label". Nothing here knows about diffusion.
"""

from noise_sched.data.pipeline import BatchIterator, make_batches
from noise_sched.data.sources import MEMORY_BUDGET, Records, Source, from_records, open_source
from noise_sched.data.tfds_dataset import DatasetNotPreparedError

__all__ = [
    "MEMORY_BUDGET",
    "BatchIterator",
    "DatasetNotPreparedError",
    "Records",
    "Source",
    "from_records",
    "make_batches",
    "open_source",
]
