"""The random keys of a run, one for each purpose: equal seeds never give two purposes equal numbers.

Splitting a key and folding small numbers into it give the same keys (in JAX's counter-based generator
both encrypt the counter), so that key(0) split for one purpose and counted up for another would meet
again: an image's noise would be that of the parameters. Every purpose but the first therefore folds a
number of its own into the seed's key, one that no counter reaches.
"""

import zlib

import jax
from jaxtyping import Array, Key

KeyPair = tuple[Key[Array, ""], Key[Array, ""]]


def of_training(seed: int) -> KeyPair:
    """The key of the initial parameters, and that of the run: step k draws from `fold_in(key, k)`."""
    parameters, run = jax.random.split(jax.random.key(seed))
    return parameters, run


def of_sampling(seed: int) -> KeyPair:
    """The key of the images' noise, see `sampling.example_keys`, and that of their labels."""
    noise, labels = jax.random.split(_tagged(seed, "sample"))
    return noise, labels


def of_grids(seed: int) -> Key[Array, ""]:
    """The key of the noise of the images that training draws."""
    return _tagged(seed, "grid")


def of_levels(seed: int) -> Key[Array, ""]:
    """The key of the noise with which a model's error at each level is measured."""
    return _tagged(seed, "levels")


def of_fitted_steps(seed: int) -> KeyPair:
    """The keys of two sets of noise: one that steps are fitted to, one on which they are judged."""
    fitted, judged = jax.random.split(_tagged(seed, "fitted steps"))
    return fitted, judged


def _tagged(seed: int, purpose: str) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(purpose.encode()))
