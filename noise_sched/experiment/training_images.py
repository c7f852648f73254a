"""The images that a config trains on."""

from ml_collections import ConfigDict

from noise_sched.data import open_source
from noise_sched.data.sources import Source


def opened(config: ConfigDict) -> Source:
    """Opens the data set and checks it against the network.

    Raises:
      ValueError: a data set that cannot be opened, or that has another number of classes.
    """
    data = config.data
    source = open_source(
        data.name,
        image_size=data.image_size,
        split=data.split,
        channels=data.channels,
        data_dir=data.data_dir or None,
        skip_unreadable=data.skip_unreadable,
    )
    classes = config.network.num_classes
    if classes and source.num_classes != classes:
        raise ValueError(
            f"config.network.num_classes={classes}, but {data.name!r} has {source.num_classes} "
            f"classes. Train with --config.network.num_classes={source.num_classes}."
        )
    return source
