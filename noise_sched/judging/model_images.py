"""A trained model's images, drawn when they are read: neither files nor memory, however many there are."""

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from noise_sched import experiment
from noise_sched.evaluation.images import Batch
from noise_sched.experiment import Experiment, keys, sampler
from noise_sched.training import files, partitioning


@dataclasses.dataclass(frozen=True, eq=False)
class ModelImages:
    """Images that a model draws; see `evaluation.images.Images`. On several hosts all have to read them.

    Attributes:
      name: of the model, for messages and reports.
      shape: the shape of one image.
      labels: int64 [count], the class that each is asked to show; -1 for none.
      draw: (start, stop) -> uint8 [stop - start, h, w, c]; image i depends on i alone, to rounding.
      piece: how many are best read at a time; batches begin at its multiples, so that the same images come
        out to the bit wherever an extraction was killed.
      content: a digest of all that the images depend on.
    """

    name: str
    shape: tuple[int, int, int]
    labels: np.ndarray
    draw: Callable[[int, int], np.ndarray]
    piece: int
    content: str

    @property
    def labelled(self) -> bool:
        """Whether every image is asked to show a class."""
        return bool((self.labels >= 0).all())

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, start: int, stop: int) -> Batch:
        """Images start ... stop - 1, drawn now."""
        stop = min(stop, len(self))
        return Batch(self.draw(start, stop), self.labels[start:stop])

    def fingerprint(self) -> str:
        """The digest of what they depend on."""
        return self.content


def model_images(
    exp: Experiment,
    params: Any,
    count: int,
    name: str,
    *,
    guide: tuple[Experiment | None, Any] = (None, None),
    run: Callable[..., Any] | None = None,
) -> ModelImages:
    """The images that `python -m noise_sched.sample` would draw with the same config.

    Args:
      exp: the experiment, whose config.sample says how.
      params: the network's parameters.
      count: how many.
      name: for messages and reports.
      guide: for autoguidance, the worse model's experiment and parameters.
      run: what draws, in place of `exp.sampler`; see there.
    """
    noise_key, label_key = keys.of_sampling(exp.config.sample.seed)
    labels = np.asarray(sampler.draw_labels(label_key, exp.config, count), np.int64)
    draw, batch = sampler.by_number(exp, params, noise_key, labels, guide, run)
    settings = exp.config.to_json(sort_keys=True)
    content = _digest(settings, count, params, guide[1])
    return ModelImages(name, exp.image_shape, labels, draw, batch, content)


def of_workdir(config: ConfigDict, workdir: str, count: int, step: sampler.Step) -> ModelImages:
    """The images of a trained model.

    Args:
      config: the workdir's, with whatever changes in config.sample.
      workdir: its folder.
      count: how many.
      step: of the checkpoint; None is the newest, "best" that of config.eval.best.

    Raises:
      ValueError, OSError: for a config or workdir that cannot work.
    """
    exp = experiment.from_config(config)
    step, params, guide = sampler.restore(exp, files.folder(workdir, "--images"), step)
    return model_images(exp, params, count, f"{workdir}, step {step}", guide=guide)


def _digest(settings: str, count: int, *params: Any) -> str:
    found = hashlib.sha256(f"{settings} {count}".encode())
    for leaf in jax.tree.leaves(params):
        found.update(np.ascontiguousarray(partitioning.gather(leaf)).data)
    return found.hexdigest()
