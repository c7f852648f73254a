"""Judging a model while it is trained: config.train.eval_every and the section `eval`."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from noise_sched.evaluation.metric import Better
from noise_sched.experiment import Experiment
from noise_sched.experiment.ranges import ConfigError
from noise_sched.judging import catalogue, extraction, model_images, sources
from noise_sched.judging.judge import Judge
from noise_sched.messages import did_you_mean


class Evaluation(NamedTuple):
    """What training does every config.train.eval_every steps.

    Attributes:
      measure: (step, the average that images are drawn with) -> figures by name, on the first host; none on
        others. All hosts have to call it.
      better: the direction of config.eval.best; None where no best step is kept.
    """

    measure: Callable[[int, Any], dict[str, float]]
    better: Better | None


def evaluation(exp: Experiment) -> Evaluation:
    """What judges the averaged parameters of a step.

    All that can be refused is refused here, before training begins; what takes long, such as the features
    of the reference, is left to the first evaluation.

    Raises:
      ValueError, OSError: a metric, reference, figure or weights that are none.
    """
    wanted = exp.config.eval
    if exp.needs_guide:
        print("training evaluates without guidance: it does not read sample.guide_workdir.")
        exp = exp.unguided()
    judge = judge_of(exp)
    better = _direction(wanted.best, judge.directions) if wanted.best else None
    run = exp.sampler()

    def measure(step: int, params: Any) -> dict[str, float]:
        images = model_images.model_images(
            exp, params, wanted.num_images, f"the model at step {step}", run=run
        )
        report = judge(images)
        extraction.forget(report.generated)
        return report.figures()

    return Evaluation(measure, better)


def judge_of(exp: Experiment, show: bool = True) -> Judge:
    """What judges images as config.eval says; `show` is whether a progress bar is shown.

    Raises:
      ValueError, OSError: a metric, reference or weights that are none, too few images.
    """
    config = exp.config
    wanted, size = config.eval, config.data.image_size
    if wanted.reference:
        real = sources.open_images(wanted.reference, "config.eval.reference", size=size)
    else:
        real = sources.training_data(config)
    labelled = bool(config.network.num_classes)
    metrics = [name.strip() for name in wanted.metrics.split(",") if name.strip()]
    metrics = metrics or catalogue.without_weights(wanted.num_images, labelled, real)
    cache = pathlib.Path(sources.CACHE).expanduser()
    judge = Judge(
        real, exp.image_shape, metrics, cache, weights=wanted.weights, beside=False, show=show
    )
    judge.check_count("config.eval.num_images", wanted.num_images, labelled)
    return judge


def _direction(figure: str, known: Mapping[str, Better]) -> Better:
    """The direction in which config.eval.best is better.

    Raises:
      ConfigError: it is no figure of these metrics.
    """
    if figure not in known:
        raise ConfigError(
            f"config.eval.best={figure!r} is no figure of the metrics that are measured. "
            f"{did_you_mean(figure, known)}"
        )
    return known[figure]
