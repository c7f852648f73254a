"""Strict numerics for every test: silent broadcasting and silent dtype promotion are errors.

A `[batch]` noise level that meets a `[batch, height, width, channels]` image without being expanded
is the classic silent bug of diffusion code; here it raises.
"""

import atexit
import importlib.metadata
import os
import pathlib
import shutil
import tempfile

# Most programs here run a few times only, and then take longer to optimize than to run. Processes
# that tests start inherit it. tests/diffusion, which runs many steps, turns it off for itself.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Without XLA's newer fusions on CPUs a program compiles in two thirds of the time. XLA ends the process
# at a flag that it does not know, so it is given only to versions that are known to know it.
if importlib.metadata.version("jaxlib").startswith("0.10."):
    os.environ["XLA_FLAGS"] = (
        "--xla_cpu_use_fusion_emitters=false " + os.environ.get("XLA_FLAGS", "")
    ).strip()

# Features are kept by content and version: not in the home of who runs the tests, and not for the next
# run of them, whose code may be another.
os.environ["NOISE_SCHED_CACHE"] = tempfile.mkdtemp(prefix="noise_sched-")

# There is a worker for each core: threads of NumPy's products would wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# Compile time dominates the suite: keep compiled programs between runs, workers, and the processes that
# tests start. Most compile in less than half a second, and several tests use each.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR",
    str(pathlib.Path(__file__).resolve().parent.parent / ".cache" / "jax"),
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

import jax
import pytest
import threadpoolctl
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

atexit.register(shutil.rmtree, os.environ["NOISE_SCHED_CACHE"], ignore_errors=True)

# A plugin of pytest may have loaded NumPy before the variable was set.
threadpoolctl.threadpool_limits(1, "blas")

# Annotations are checked by beartype in the tests only; in production they cost nothing.
_hook = install_import_hook("noise_sched", "beartype.beartype")
_hook.__enter__()


@pytest.fixture
def float64():
    """For modules whose reference is in float64: `pytestmark = pytest.mark.usefixtures("float64")`."""
    with jax.enable_x64(True):
        yield
