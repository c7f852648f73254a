"""Freed memory is kept for the next step instead of being given back to the system.

XLA's programs for CPUs ask for one temporary buffer at each call and free it at the end. By default glibc
maps such a large one anew each time, so that a training step begins with the system clearing every page of
it: a fifth of the processor time of `configs/digits.py` (docs/results/memory.md). Two thresholds of its
allocator decide that, and neither alone does it: from what size on memory is mapped, and how much of what
is free at the end of its heap it keeps.
"""

import ctypes
import os
import sys

KEPT = 2**30  # bytes; buffers beyond it are mapped as before
# <malloc.h>'s names of the thresholds.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_OWN_SETTINGS = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_MAX_")


def keep_freed() -> bool:
    """Lets glibc keep up to `KEPT` bytes of freed memory; call it before the work starts.

    Nothing happens on other systems, with an allocator without `mallopt`, or where the environment has
    settings of its own. On a GPU or TPU the buffers are the device's, and it changes next to nothing.

    Returns:
      Whether it was done.
    """
    if not sys.platform.startswith("linux") or _set_by_user():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # Older versions refuse more than 32 MiB here; they can be told to map nothing at all instead.
    if not mallopt(_MMAP_THRESHOLD, KEPT) and not mallopt(_MMAP_MAX, 0):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, KEPT))


def _set_by_user() -> bool:
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc" in tunables or any(name in os.environ for name in _OWN_SETTINGS)
