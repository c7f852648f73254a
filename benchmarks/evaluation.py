"""Times FID's Inception against torch-fidelity's network in torch: one Markdown table.

    python -m benchmarks.evaluation --out=docs/results/evaluation_speed.md

Needs `torch` and `torch-fidelity` (install that one with --no-deps: of the rest its Inception needs nothing).
Both get uint8 images of 64 x 64 and give all their features, with the same pseudo-weights from one file
in torch's format; it is checked that the features agree to 1e-4. Repeats are interleaved, the sides in
turn, and ratios are of medians, so that a busy machine slows all. Compilation is not in the figures.
Everything is float32, on a GPU too: TF32 is off.
"""

import argparse
import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

# Both frameworks share one GPU: JAX must not take all of its memory at the start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import numpy as np
import torch

from benchmarks import machine
from noise_sched.evaluation import inception
from noise_sched.interop import torch_weights

SIZE = 64
FEATURES = ("64", "192", "768", "2048", "logits_unbiased")
# The kernels of convolutions that XLA took on CPUs before jaxlib 0.10.
OLDER_KERNELS = {"xla_cpu_experimental_ynn_fusion_type": ""}


@dataclasses.dataclass(frozen=True)
class Side:
    """An extractor, ready to run.

    Attributes:
      name: for the table.
      features: images uint8 [n, h, w, 3] -> the features of length 2048, waited for.
    """

    name: str
    features: Callable[[np.ndarray], np.ndarray]


def pseudo_weights() -> dict[str, torch.Tensor]:
    """Random weights of the published shapes, of a size at which activations stay near 1."""
    rng, made = np.random.default_rng(0), {}
    for name, shape in inception.published_shapes().items():
        if name.endswith("running_var"):
            array = 0.5 + rng.random(shape)
        elif name.endswith("bn.weight"):
            array = 1 + 0.1 * rng.standard_normal(shape)
        elif len(shape) == 1:
            array = 0.1 * rng.standard_normal(shape)
        else:
            array = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        made[name] = torch.from_numpy(array.astype(np.float32))
    return made


def ours(weights: pathlib.Path, options: dict[str, Any], name: str) -> Side:
    made = inception.extractor(inception.convert(torch_weights.read(weights)), digest="")
    apply = jax.jit(made.apply, compiler_options=options)

    def features(images):
        found = apply(made.params, images, np.arange(len(images)))
        return np.asarray(jax.block_until_ready(found)["inception/2048"])

    return Side(name, features)


def theirs(weights: pathlib.Path, layout: torch.memory_format, name: str) -> Side:
    _stand_in_for_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", list(FEATURES), feature_extractor_weights_path=str(weights)
    ).to(device, memory_format=layout)

    def features(images):
        x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).contiguous()
        with torch.no_grad():
            return network(x)[FEATURES.index("2048")].cpu().numpy()

    return Side(name, features)


def _stand_in_for_torchvision() -> None:
    """Other extractors of the package need it; where it is not installed, a mock will do."""
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        for part in ("", ".datasets", ".transforms", ".transforms.functional"):
            sys.modules[f"torchvision{part}"] = mock.MagicMock()


def sides(gpu: bool) -> list[Side]:
    with tempfile.TemporaryDirectory() as folder:
        weights = pathlib.Path(folder) / "weights.pth"
        torch.save(pseudo_weights(), weights)
        made = [ours(weights, {}, "noise_sched")]
        if not gpu:
            made.append(ours(weights, OLDER_KERNELS, "noise_sched, XLA's older CPU kernels"))
        return [
            *made,
            theirs(weights, torch.contiguous_format, "torch-fidelity"),
            theirs(weights, torch.channels_last, "torch-fidelity, channels last"),
        ]


def rows(contestants: list[Side], batch: int, repeats: int) -> list[str]:
    """The lines of one batch size; ratios are to torch-fidelity as it comes."""
    images = np.random.default_rng(0).integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)
    features = [side.features(images) for side in contestants]  # compiles, too
    seconds: list[list[float]] = [[] for _ in contestants]
    for _ in range(repeats):
        for side, times in zip(contestants, seconds, strict=True):
            start = time.perf_counter()
            side.features(images)
            times.append(time.perf_counter() - start)
    median = [statistics.median(times) for times in seconds]
    plain = [side.name for side in contestants].index("torch-fidelity")
    lines = []
    for side, mine, own in zip(contestants, median, features, strict=True):
        expected = features[plain]
        np.testing.assert_allclose(own, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
        cells = [side.name, str(batch), f"{1e3 * mine / batch:.1f}", f"{batch / mine:.1f}"]
        lines.append(f"| {' | '.join([*cells, f'{median[plain] / mine:.2f}×'])} |")
    return lines


def main() -> None:
    """Prints the table and writes it to --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file to write.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batches", type=int, nargs="*", help="By default 16 64, on a GPU 64 256.")
    arguments = parser.parse_args()
    gpu = jax.default_backend() == "gpu"
    lines = head(arguments.repeats)
    print("\n".join(lines))
    contestants = sides(gpu)
    for batch in arguments.batches or ((64, 256) if gpu else (16, 64)):
        lines += rows(contestants, batch, arguments.repeats)
        print("\n".join(lines[-len(contestants) :]), flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


def head(repeats: int) -> list[str]:
    """What was run, where and with what."""
    fidelity = importlib.metadata.version("torch-fidelity")
    return [
        "# FID's Inception against torch-fidelity's",
        "",
        f"    python -m benchmarks.evaluation {' '.join(sys.argv[1:])}".rstrip(),
        "",
        f"{SIZE}×{SIZE} pixels, float32. {machine.describe()},",
        f"torch {torch.__version__} ({torch.get_num_threads()} threads), torch-fidelity {fidelity}. "
        f"Medians of {repeats}",
        "interleaved repeats; ratios are to torch-fidelity as it comes. The features agree to 1e-4.",
        "",
        "| extractor | batch | ms an image | images/s | ratio |",
        "|---|---|---|---|---|",
    ]


if __name__ == "__main__":
    main()
