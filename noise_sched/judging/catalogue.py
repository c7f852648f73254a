"""The metrics by name, and the extractors of the features that they compare.

A new metric is one line of `METRICS`; a new kind of features one of `RECIPES`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.experimental import multihost_utils

from noise_sched.evaluation import (
    classifier,
    dinov2,
    inception,
    laplacian_patches,
    pixels,
    spectrum,
    tones,
)
from noise_sched.evaluation.class_agreement import class_agreement
from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.features import Extractor, Features
from noise_sched.evaluation.frechet import Statistics, frechet
from noise_sched.evaluation.images import Images
from noise_sched.evaluation.inception_score import inception_score
from noise_sched.evaluation.kernel_distance import kernel_distance
from noise_sched.evaluation.kid import kid
from noise_sched.evaluation.metric import Metric
from noise_sched.evaluation.nearest import nearest
from noise_sched.evaluation.precision_recall import density_coverage, precision_recall
from noise_sched.evaluation.sliced_wasserstein import sliced_wasserstein
from noise_sched.interop import published_weights, torch_weights
from noise_sched.messages import did_you_mean

METRICS: dict[str, Metric] = {
    # Of a classifier trained on the real images: no weights are needed, but labels.
    "class_agreement": Metric(
        "classifier/logits",
        class_agreement,
        {"agreement": "higher", "classes_seen": "higher"},
        labels=True,
    ),
    "class_fd": Metric("classifier/features", frechet, {"distance": "lower"}, fewest=100),
    # Of the images themselves.
    "swd": Metric(
        "patches/*",
        sliced_wasserstein,
        {"distance": "lower"},
        smallest=laplacian_patches.SIDE,
    ),
    "spectrum": Metric("spectrum", spectrum.spectrum, {"distance": "lower"}),
    "brightness": Metric("tones", tones.brightness, {"distance": "lower"}),
    "contrast": Metric("tones", tones.contrast, {"distance": "lower", "washed_out": "lower"}),
    "nearest": Metric("pixels", nearest, {"far": "lower", "copies": "lower"}, fewest=4),
    "kernel_distance": Metric("pixels", kernel_distance, {"distance": "lower"}, fewest=4),
    # Of published networks, whose weights are a file.
    "fid": Metric(
        "inception/2048", frechet, {"distance": "lower", "infinity": "lower"}, 2_000, "kid"
    ),
    "sfid": Metric("inception/spatial", frechet, {"distance": "lower"}, 2_000, "kid"),
    "kid": Metric("inception/2048", kid, {"distance": "lower"}, 10, "swd"),
    "inception_score": Metric("inception/logits", inception_score, {"score": "higher"}, 100, "swd"),
    "precision_recall": Metric(
        "inception/2048", precision_recall, {"precision": "higher", "recall": "higher"}, 100, "kid"
    ),
    "density_coverage": Metric(
        "inception/2048", density_coverage, {"density": "higher", "coverage": "higher"}, 100, "kid"
    ),
    "fd_dinov2": Metric(
        "dinov2", frechet, {"distance": "lower", "infinity": "lower"}, 1_000, "swd"
    ),
}

# (shape of the images, the real images or their statistics, seed) -> extractor
Recipe = Callable[[tuple[int, int, int], Any, int], Extractor]


def _inception(weights: str) -> Recipe:
    path = published_weights.find("inception", weights)
    params = inception.convert(torch_weights.read(path))
    made = inception.extractor(params, published_weights.digest("inception", path))
    return lambda shape, real, seed: made


def _dinov2(weights: str) -> Recipe:
    path = published_weights.find("dinov2", weights)
    module, params = dinov2.convert(torch_weights.read(path))
    made = dinov2.extractor(module, params, published_weights.digest("dinov2", path))
    return lambda shape, real, seed: made


def _trained(real: Images, seed: int) -> classifier.Trained:
    """The classifier of the real images; on several hosts that of the first, to the bit."""
    own = classifier.train(real, seed)
    if jax.process_count() == 1:
        return own
    return dataclasses.replace(own, params=multihost_utils.broadcast_one_to_all(own.params))


# The first word of a kind of features -> (folder of weights) -> recipe; weights are read at once, and what
# takes long, such as training the classifier, is left to the recipe.
RECIPES: dict[str, Callable[[str], Recipe]] = {
    "classifier": lambda weights: (
        lambda shape, real, seed: classifier.extractor(_trained(real, seed))
    ),
    "patches": lambda weights: lambda shape, real, seed: laplacian_patches.extractor(shape),
    "spectrum": lambda weights: lambda shape, real, seed: spectrum.extractor(shape),
    "tones": lambda weights: lambda shape, real, seed: tones.extractor(),
    "pixels": lambda weights: lambda shape, real, seed: pixels.extractor(shape),
    "inception": _inception,
    "dinov2": _dinov2,
}
_NEED_WEIGHTS = ("inception", "dinov2")


def check_names(metrics: Sequence[str]) -> None:
    """Refuses a list of metrics that is empty, repeats one or has one that there is not.

    Raises:
      EvaluationInputError: naming it, and the nearest that there is.
    """
    if not metrics:
        raise EvaluationInputError(
            f"--metrics= names no metric. {did_you_mean('', sorted(METRICS))}"
        )
    for name in metrics:
        if name not in METRICS:
            raise EvaluationInputError(
                f"There is no metric {name!r}. {did_you_mean(name, sorted(METRICS))}"
            )
    repeated = sorted({name for name in metrics if metrics.count(name) > 1})
    if repeated:
        raise EvaluationInputError(
            f"--metrics={','.join(metrics)} names {' and '.join(repeated)} twice: name each metric once."
        )


def without_weights(
    count: int, labelled: bool, real: Images | Mapping[str, Statistics]
) -> list[str]:
    """The metrics that need no published weights and can judge so many images beside these real ones.

    Beside statistics they are those that the statistics serve.
    """
    if isinstance(real, Mapping):
        return served(real)
    fewest = min(count, len(real) // 2)
    return [
        name
        for name, metric in METRICS.items()
        if _first_word(metric) not in _NEED_WEIGHTS
        and metric.fewest <= fewest
        and metric.smallest <= min(real.shape[:2])
        and (labelled or not metric.labels)
        and (real.labelled or _first_word(metric) != "classifier")
    ]


def served(found: Mapping[str, Statistics]) -> list[str]:
    """The metrics for which statistics will do in place of real images."""
    return [n for n, m in METRICS.items() if m.judge is frechet and m.features in found]


def check_statistics(metrics: Mapping[str, Metric], found: Mapping[str, Statistics]) -> None:
    """Refuses metrics that statistics from a file cannot serve.

    Raises:
      EvaluationInputError: naming those that they can.
    """
    can = served(found)
    for name in metrics:
        if name not in can:
            raise EvaluationInputError(
                f"{name} needs the real images; the reference is a file of statistics, which serves "
                f"{', '.join(can) or 'no metric'}. Give those, or the images themselves as --reference."
            )


def check_size(metrics: Mapping[str, Metric], name: str, shape: tuple[int, int, int]) -> None:
    """Refuses images that are too small for a metric.

    Raises:
      EvaluationInputError: naming it.
    """
    for metric_name, metric in metrics.items():
        if min(shape[:2]) < metric.smallest:
            raise EvaluationInputError(
                f"{name}: {metric_name} needs sides of {metric.smallest} pixels or more; got images of "
                f"{shape[0]}x{shape[1]}. Leave the metric out."
            )


def recipes(kinds: Sequence[str], weights: str) -> list[Recipe]:
    """How to make the extractors of some kinds of features, each once.

    Raises:
      EvaluationInputError: weights that are missing or cannot be read.
    """
    words = dict.fromkeys(kind.split("/")[0] for kind in kinds)
    try:
        return [RECIPES[word](weights) for word in words]
    except (ValueError, OSError) as error:
        raise EvaluationInputError(str(error)) from None


def measure(
    metric: Metric, generated: Mapping[str, Features], real: Mapping[str, Features | Statistics]
) -> Any:
    """A metric of features that were extracted; of several kinds, the mean result by field."""
    if not metric.features.endswith("/*"):
        return metric.judge(generated[metric.features], real[metric.features])
    kinds = [kind for kind in generated if kind.startswith(metric.features[:-1])]
    return metric.judge([generated[kind] for kind in kinds], [real[kind] for kind in kinds])


def notes(about: Mapping[str, Any], results: Mapping[str, Any]) -> list[str]:
    """Lines below the table: what the reader has to know of the extractors and the metrics."""
    lines = []
    settings = about["extractors"].get("classifier")
    if settings:
        lines.append(
            f"The classifier was trained on the real images: right on {settings['held_out_accuracy']:.2%} of "
            f"{settings['held_out_images']:,} that it had not seen (seed {settings['seed']})."
        )
    if "inception" in about["extractors"] and about["images"]["shape"][2] == 1:
        lines.append("Grey images were repeated to three channels for Inception.")
    return lines


def _first_word(metric: Metric) -> str:
    return metric.features.split("/")[0]
