"""Schedules of several families in one program.

The numbers of a schedule are leaves, but its formula is part of the program: a grid over `linear()`,
`cosine(...)` and `sigmoid(...)` would be three programs to compile. `one_of` has them all, and a number
that says which. A schedule costs next to nothing beside a network, so neither does this.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from noise_sched.diffusion.numbers import Leaf
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.schedules import Schedule
from noise_sched.diffusion.schedules.base import Time, Value
from noise_sched.experiment.hyper import Hyper


@register_pytree
@dataclasses.dataclass(frozen=True)
class one_of:
    """One schedule of several.

    Attributes:
      which: the number of the one that it is; may be traced.
      choices: the schedules, of different families.
    """

    which: Leaf
    choices: tuple[Schedule, ...]

    @property
    def _index(self) -> jax.Array:
        return jnp.asarray(self.which).astype(jnp.int32)  # in a grid all leaves are floats

    def logsnr(self, t: Time) -> Value:
        """That of the schedule that it is."""
        return jax.lax.switch(self._index, [each.logsnr for each in self.choices], t)

    def gamma(self, t: Time) -> Value:
        """That of the schedule that it is."""
        return jax.lax.switch(self._index, [each.gamma for each in self.choices], t)


def unified(hypers: Sequence[Hyper]) -> list[Hyper]:
    """The same numbers, all with a schedule of one structure: where families differ, `one_of` them all.

    A cell's own schedule stands in its family's place; the other places hold another cell's, unused.
    """
    families: dict[jax.tree_util.PyTreeDef, Schedule] = {}
    for hyper in hypers:
        families.setdefault(jax.tree.structure(hyper.objective.schedule), hyper.objective.schedule)
    if len(families) == 1:
        return list(hypers)
    found = []
    for hyper in hypers:
        own = hyper.objective.schedule
        kind = jax.tree.structure(own)
        choices = tuple(own if each == kind else other for each, other in families.items())
        schedule = one_of(list(families).index(kind), choices)
        objective = dataclasses.replace(hyper.objective, schedule=schedule)
        found.append(dataclasses.replace(hyper, objective=objective))
    return found
