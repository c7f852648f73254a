"""Whether what a command is asked for fits into the machine's memory, checked before the work."""

import os


def check_images(flag: str, count: int, image_shape: tuple[int, ...]) -> None:
    """Refuses a number of images that cannot be held, as bytes, before they are written.

    They are held twice, in batches and as one array (uint8), with a label and a number each (int32).

    Raises:
      ValueError: naming the flag and how many fit.
    """
    each = 2 * image_shape[0] * image_shape[1] * image_shape[2] + 8
    has = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = min(has // each, 2**31 - 1)  # images are numbered in int32
    if count > most:
        raise ValueError(
            f"--{flag}={count}: {count * each / 2**30:,.0f} GiB of images are more than this machine holds, "
            f"at most {most:,} of {'x'.join(map(str, image_shape))}. Draw fewer, or several times with "
            "another --config.sample.seed."
        )
