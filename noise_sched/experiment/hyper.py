"""Every number of a training that a grid may vary, in one pytree.

Its leaves are Python numbers in a single run, and in a grid arrays, with one value per cell (`stack`).
What is not a leaf belongs to the structure and is the same in all cells: classes, flags, widths of
power-function averages, the shape of the learning rate.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.numbers import Leaf, is_off, is_plain
from noise_sched.diffusion.pytrees import register_pytree, replace_leaves_named
from noise_sched.experiment import ranges
from noise_sched.messages import shown

_CONFIG_KEYS = {
    "learning_rate": "optimizer.learning_rate",
    "weight_decay": "optimizer.weight_decay",
    "ema_halflife": "ema.halflife_images",
    "label_dropout": "label_dropout",
    "augment_probability": "augment.probability",
    "sigma_data": "sigma_data",
}
SWITCHES = ("self_conditioning", "offset_noise", "augment_probability")


@register_pytree
@dataclasses.dataclass(frozen=True)
class Hyper:
    """The numbers of a training; None where it has no such number.

    Attributes:
      objective: what defines the loss. Its own leaves of the name `sigma_data` are taken out (None), so
        that they cannot disagree; `complete_objective` has them.
      learning_rate: the base η of its schedule.
      weight_decay: δ.
      ema_new_weight: 1 - d of a moving average of constant decay d, computed in float64 (see `ema`).
      ema_halflife: H in images, of a moving average that has one.
      label_dropout: probability that a label is replaced by "no class".
      augment_probability: of each distortion; a plain 0 (or None) leaves them out.
      sigma_data: the one standard deviation of the data; None takes the objective's.

    Raises:
      ValueError: where a plain number is out of range, or there are two values of sigma_data.
    """

    objective: Objective
    learning_rate: Leaf
    weight_decay: Leaf = None
    ema_new_weight: Leaf = None
    ema_halflife: Leaf = None
    label_dropout: Leaf = 0.0
    augment_probability: Leaf = 0.0
    sigma_data: Leaf = None

    def __post_init__(self):
        for name, key in _CONFIG_KEYS.items():
            value = getattr(self, name)
            if is_plain(value) and float(value) not in ranges.KEYS[key]:
                raise ValueError(f"{name}={value}: expected {ranges.allowed(key)}.")
        if is_plain(self.ema_new_weight) and not 0 < self.ema_new_weight <= 1:
            raise ValueError(f"ema_new_weight={self.ema_new_weight}: expected 1 - d, d in [0, 1).")
        found = list(self.objective.sigma_data.values())
        if not found:
            return
        all_found = found if self.sigma_data is None else [self.sigma_data, *found]
        if len({each if is_plain(each) else id(each) for each in all_found}) > 1:
            raise ValueError(
                f"different sigma_data: {', '.join(map(str, all_found))}. The data has one standard "
                "deviation: write the same number everywhere, measured in [-1, 1]."
            )
        object.__setattr__(self, "sigma_data", found[0])
        object.__setattr__(
            self, "objective", replace_leaves_named(self.objective, "sigma_data", None)
        )

    @classmethod
    def of(cls, config: ConfigDict, objective: Objective) -> "Hyper":
        """The numbers of a config, whose objective is built."""
        average = config.ema
        constant = not average.stds and not average.halflife_images
        return cls(
            objective=objective,
            learning_rate=config.optimizer.learning_rate,
            weight_decay=None if config.optimizer.name == "adam" else config.optimizer.weight_decay,
            ema_new_weight=1.0 - average.decay if constant else None,
            ema_halflife=average.halflife_images or None,
            label_dropout=config.label_dropout,
            augment_probability=config.augment.probability,
        )

    @property
    def complete_objective(self) -> Objective:
        """The objective with `sigma_data` at all its places."""
        return replace_leaves_named(self.objective, "sigma_data", self.sigma_data)


def stack(hypers: Sequence[Hyper]) -> Hyper:
    """One `Hyper` of all cells of a grid: each leaf an array [cells].

    The rates that can be left out of the program (self-conditioning, offset noise, augmentation) become
    None where they are 0 in every cell.

    Raises:
      ValueError: where the cells differ in what is not a number; all must be one program.
    """
    parts = [dict(_parts(each)) for each in hypers]
    for name, (kind, first) in parts[0].items():
        others = [i for i, part in enumerate(parts) if part[name][0] != kind]
        if others:
            other = parts[others[0]][name][1]
            raise ValueError(
                f"{name} is {shown(first)} in cell 0 and {shown(other)} in cell {others[0]}: the cells of a "
                "grid may differ in numbers only. Train those of another kind as another grid; other than "
                f"cell 0 are the cells {shown(others)}."
            )

    def stacked(path: Any, *values: Any) -> Any:
        if getattr(path[-1], "name", None) in SWITCHES and all(map(is_off, values)):
            return None
        return jnp.stack([jnp.asarray(value, float) for value in values])

    return jax.tree_util.tree_map_with_path(stacked, *hypers)


def _parts(hyper: Hyper) -> Any:
    """(name, (kind, value)) of each field, the objective's one by one; all cells are of one kind."""
    for node, prefix in ((hyper, ""), (hyper.objective, "objective.")):
        for field in dataclasses.fields(node):
            value = getattr(node, field.name)
            if value is not hyper.objective:
                static = field.metadata.get("static", False)
                yield prefix + field.name, (value if static else jax.tree.structure(value), value)
