"""Long runs of small programs: compiled with all optimizations, as outside of the tests."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def optimized():
    """Undoes, for this folder, what tests/conftest.py sets."""
    before = jax.config.values["jax_disable_most_optimizations"]
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
