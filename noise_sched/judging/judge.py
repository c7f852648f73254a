"""Two sets of images -> figures by metric, with what chance alone gives beside them.

Beside each figure stands the same one of two disjoint parts of the real images ("real"): no model can be
expected to do better. The part that stands for the generated images has as many as those, or half of the
real ones where there are not twice as many; so both figures have about the same bias.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.features import Extractor, Features
from noise_sched.evaluation.frechet import Statistics
from noise_sched.evaluation.images import Images
from noise_sched.evaluation.metric import Better, Metric
from noise_sched.judging import catalogue
from noise_sched.judging.catalogue import METRICS
from noise_sched.judging.extraction import extract

PARTITION_SEED = 0  # of the real images into two parts


@dataclasses.dataclass(frozen=True)
class Report:
    """What was measured, and with what.

    Attributes:
      about: every setting that moves a figure: names, counts and digests of the images, extractors.
      results: what each metric says of the generated images, by the metric's name.
      real: the same of two disjoint parts of the real ones; empty where there are none.
      generated: the features of the generated images by kind, for a picture.
      reference: those of the real ones, or statistics of them.
    """

    about: Mapping[str, Any]
    results: Mapping[str, Any]
    real: Mapping[str, Any]
    generated: Mapping[str, Features]
    reference: Mapping[str, Features | Statistics]

    def figures(self) -> dict[str, float]:
        """The numbers that a table shows, by "metric/field"."""
        return {
            f"{name}/{field}": float(getattr(result, field))
            for name, result in self.results.items()
            for field in METRICS[name].shows
        }


class Judge:
    """Measures sets of images beside one set of real ones.

    Args:
      real: the real images; or statistics by kind of features, from a file, which serve Frechet distances.
      shape: the shape of the images that will be judged.
      metrics: names of `METRICS`.
      cache: a folder for features; those of the real images stay there for the next time.
      weights: a folder of published weights; "" looks into the usual places.
      beside: whether the real images are measured against themselves, too.
      also: kinds of features to extract besides, for a picture.
      name: of the images that will be judged, for messages.
      seed: of the classifier that is trained on the real images.
      mesh: the devices; None for all.
      show: whether extracting shows a progress bar.

    Raises:
      EvaluationInputError: a metric that is none or that these real images cannot serve, another shape of
        images, or weights that are missing; before any work.
    """

    def __init__(
        self,
        real: Images | Mapping[str, Statistics],
        shape: tuple[int, int, int],
        metrics: Sequence[str],
        cache: pathlib.Path,
        *,
        weights: str = "",
        beside: bool = True,
        also: Sequence[str] = (),
        name: str = "the images",
        seed: int = 0,
        mesh: Mesh | None = None,
        show: bool = True,
    ):
        catalogue.check_names(metrics)
        self._metrics = {each: METRICS[each] for each in metrics}
        catalogue.check_size(self._metrics, name, shape)
        self._real, self._shape, self._cache, self._mesh = real, shape, cache, mesh
        self._seed, self._show = seed, show
        self._beside = beside and not isinstance(real, Mapping)
        if isinstance(real, Mapping):
            catalogue.check_statistics(self._metrics, real)
        else:
            check_same_shape(name, shape, real)
            self._check("reference", real)
        kinds = [metric.features for metric in self._metrics.values()]
        self._recipes = catalogue.recipes([*kinds, *also], weights)

    @property
    def directions(self) -> dict[str, Better]:
        """Which way is better, by the name of each figure, "metric/field"."""
        return {
            f"{name}/{field}": better
            for name, metric in self._metrics.items()
            for field, better in metric.shows.items()
        }

    def check(self, images: Images) -> None:
        """Refuses images that the metrics cannot judge.

        Raises:
          EvaluationInputError: another shape, too few, or no labels where a metric needs them.
        """
        if isinstance(self._real, Mapping):
            if images.shape != self._shape:
                raise EvaluationInputError(
                    f"{images.name}: images of {size_of(images.shape)}; expected {size_of(self._shape)}."
                )
        else:
            check_same_shape(images.name, images.shape, self._real)
        self._check("images", images)

    def __call__(self, images: Images) -> Report:
        """Measures a set of images. On several hosts all have to call it; the first gets the results.

        Raises:
          EvaluationInputError: as `check`, or for an image that cannot be read.
        """
        self.check(images)
        about_images = _about(images)  # reads all of them: what is wrong is found before the work
        extractors, reference, real_about, chance_of = self._reference
        content = about_images["sha256"]
        generated = extract(images, extractors, self._cache, self._mesh, content, self._show)
        about = {
            "images": about_images,
            "reference": real_about,
            "extractors": {each.name: dict(each.settings) for each in extractors},
        }
        if jax.process_index() != 0:
            return Report(about, {}, {}, {}, {})
        results = {
            name: catalogue.measure(metric, generated, reference)
            for name, metric in self._metrics.items()
        }
        chance = chance_of(len(images)) if self._beside else {}
        return Report(about, results, chance, generated, reference)

    @functools.cached_property
    def _reference(self) -> tuple[list[Extractor], Mapping[str, Any], dict[str, Any], Any]:
        """What depends on the real images alone, made once."""
        real = self._real
        extractors = [recipe(self._shape, real, self._seed) for recipe in self._recipes]
        if isinstance(real, Mapping):
            counts = {kind: each.count for kind, each in real.items()}
            return extractors, real, {"statistics": counts}, None
        about = _about(real)
        reference = extract(real, extractors, self._cache, self._mesh, about["sha256"])

        @functools.cache
        def chance_of(count: int) -> dict[str, Any]:
            return {
                name: _among_real(metric, reference, count)
                for name, metric in self._metrics.items()
            }

        return extractors, reference, about, chance_of

    def _check(self, role: str, images: Images) -> None:
        self.check_count(f"{images.name} ({role})", len(images), images.labelled)
        classes, labels = getattr(self._real, "classes", None), getattr(images, "labels", None)
        if classes is None or labels is None or not any(m.labels for m in self._metrics.values()):
            return
        if labels.max() >= classes:
            raise EvaluationInputError(
                f"{images.name}: {np.sum(labels >= classes)} of {len(labels)} labels are no class of the "
                f"reference, 0 to {classes - 1}, such as {labels[labels >= classes][0]}."
            )

    def check_count(self, name: str, count: int, labelled: bool) -> None:
        """Refuses a number of images, or images without labels, that a metric cannot judge.

        Raises:
          EvaluationInputError: naming the metric.
        """
        for metric_name, metric in self._metrics.items():
            if count < metric.fewest:
                instead = f" {metric.instead} would do with fewer." if metric.instead else ""
                raise EvaluationInputError(
                    f"{name}: {metric_name} needs at least {metric.fewest:,} images; got {count:,}.{instead}"
                )
            if metric.labels and not labelled:
                raise EvaluationInputError(
                    f"{name} has no labels, or not one for every image, and {metric_name} compares with "
                    "them. Expected `labels` in an .npz, all of them 0 or more; in a folder names like "
                    '000000_label3.png, a labels.json ({"000000.png": 3, ...}), or a subfolder per class; '
                    "of a model images sampled for a class. Or leave the metric out of --metrics."
                )


def check_same_shape(name: str, shape: tuple[int, int, int], real: Images) -> None:
    """Refuses images that have not the size of the real ones: nothing is resized silently.

    Raises:
      EvaluationInputError: height, width or channels differ.
    """
    if shape != real.shape:
        mend = "Give samples of a model of the reference, or another reference (--reference=)."
        if shape[2] == real.shape[2]:
            mend += (
                " To cut the reference to its centre square and resize it as training does, add "
                f"--resize=antialias:{min(shape[:2])}."
            )
        raise EvaluationInputError(
            f"{name}: images of {size_of(shape)} cannot be compared with {real.name}, which has "
            f"{size_of(real.shape)} (height x width x channels). {mend}"
        )


def size_of(shape: Sequence[int]) -> str:
    """A size as people write it: 32x32x3."""
    return "x".join(map(str, shape))


def _about(images: Images) -> dict[str, Any]:
    return {
        "name": images.name,
        "count": len(images),
        "shape": list(images.shape),
        "sha256": images.fingerprint(),
    }


def _among_real(metric: Metric, reference: Mapping[str, Features], count: int) -> Any:
    """A metric of two disjoint parts of the real images, the first of at most `count`."""
    parts: tuple[dict[str, Features], dict[str, Features]] = ({}, {})
    for kind, features in reference.items():
        # One seed and one count give all kinds the same parts, but for those of fewer images.
        order = np.random.default_rng(PARTITION_SEED).permutation(len(features))
        first = min(count, len(features) // 2)
        parts[0][kind] = features.part(order[:first], f"{features.name}, a part")
        parts[1][kind] = features.part(order[first:], f"{features.name}, the rest")
    return catalogue.measure(metric, *parts)
