"""PyTorch's CPU `randn` from a seed, without PyTorch: pseudo-random weights that need no file.

Sixteen values at a time: eight pairs of uniforms become eight pairs of normals (Box and Muller); where
16 does not divide the size, the last 16 are drawn again. Equal to `torch.randn` to float32 rounding.
"""

import numpy as np


class TorchNormal:
    """Successive draws after `torch.manual_seed(seed)`, of 16 values or more each."""

    def __init__(self, seed):
        self._bits = np.random.MT19937()
        self._bits._legacy_seeding(seed)

    def __call__(self, shape):
        size = int(np.prod(shape))
        assert size >= 16, "smaller draws go another way in PyTorch"
        whole = size - size % 16
        uniform = self._uniform(size)
        values = np.empty(size)
        values[:whole] = _box_muller(uniform[:whole])
        if size % 16:
            values[-16:] = _box_muller(self._uniform(16))
        return values.reshape(shape)

    def _uniform(self, size):
        return (self._bits.random_raw(size) & 0xFFFFFF) / 2.0**24


def _box_muller(uniform):
    first, second = np.moveaxis(uniform.reshape(-1, 2, 8), 1, 0)
    radius, angle = np.sqrt(-2 * np.log1p(-first)), 2 * np.pi * second
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
