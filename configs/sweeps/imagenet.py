"""The axis `size` at the paper's scale: class-conditional ImageNet at 64, 128 and 256 pixels."""

from configs import imagenet64_rin, imagenet128_rin, imagenet256_rin
from configs.sweeps.cells import Cell, difference, named

_CONFIGS = {64: imagenet64_rin, 128: imagenet128_rin, 256: imagenet256_rin}


def sizes() -> list[Cell]:
    """Each resolution's network and training; the input scale is left to the sweep."""
    base = imagenet64_rin.get_config()
    found = []
    for size, module in _CONFIGS.items():
        changes = difference(base, module.get_config())
        changes.pop("process", None)
        found.append(named("size", size, changes))
    return found
