"""What a metric is: a function of two sets of features, and what a report has to know of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

Better = Literal["lower", "higher"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric.

    Attributes:
      features: the kind of features that it compares, a name of an extractor's `outputs`; "patches/*" is
        all whose names begin so, each compared by itself.
      judge: (generated features, real features) -> a frozen dataclass of numbers.
      shows: the fields of that dataclass which the table shows, and in which direction they are better.
      fewest: images that it needs on each side, to mean anything.
      instead: the metric that would do with fewer.
      labels: whether it compares with the images' labels.
      smallest: the shortest side, in pixels, of images that it can judge.
    """

    features: str
    judge: Callable[..., Any]
    shows: Mapping[str, Better]
    fewest: int = 2
    instead: str = ""
    labels: bool = False
    smallest: int = 1
