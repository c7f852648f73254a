"""One training step: loss, gradient, optimizer, moving average, guards; a pure function of all its numbers.

    step(state, batch, hyper) -> (state, metrics)

`hyper` is any pytree of numbers, which only the functions that `make_step` is given look into. Its numbers
may be traced, so that `vmap` or `lax.map` of a step trains many models as one program; `compile_step`
makes the program of a single run, of which plain numbers become constants.

The random key of step k is `fold_in(state.key, k)`: it depends on nothing but the run's key and the
step, so that a resumed run draws what an uninterrupted one would have drawn, and the step after one
that was not finite has draws of its own.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from noise_sched.training import learning_rate, partitioning, power_ema
from noise_sched.training.state import TrainState

Metrics = dict[str, jax.Array]
LossFn = Callable[..., tuple[jax.Array, Metrics]]
Step = Callable[[TrainState, Any, Any], tuple[TrainState, Metrics]]
TrainStep = Callable[[TrainState, Any], tuple[TrainState, Metrics]]

_OF_DENSITY = "density/"  # metrics of this prefix are for `new_density` alone
_OWN_METRICS = ("loss", "grad_norm", "param_norm", "learning_rate", "finite", "bad_gradients")


def make_step(
    loss_fn: LossFn,
    make_optimizer: Callable[[Any], optax.GradientTransformation],
    new_weight: Callable[[Any, jax.Array], jax.Array] | None = None,
    *,
    schedule: Callable[[Any], learning_rate.Schedule] | None = None,
    sanitize: bool = False,
    infinite_gradient: float = 1e5,
    microbatches: int = 1,
    mesh: Mesh | None = None,
    new_density: Callable[[Any, Any, Metrics], Any] | None = None,
) -> Step:
    """The step of one model as a pure function, which is not compiled yet.

    Where the loss, the gradient or the updated parameters are not finite, the update is not
    applied: parameters, optimizer state and moving average keep their last finite values, only
    `step` moves on, and the metric `finite` is 0, for the host to count. The optimizer's own count of
    updates, and with it the learning rate, then lags behind `step`. Nothing here waits for the device.

    Args:
      loss_fn: `(hyper, params, key, batch) -> (loss, metrics)`, the loss a mean over the batch, metrics
        a dict of scalars; those named "levels/..." may be arrays, see `window`.
      make_optimizer: `hyper` -> an optax transformation, whose state has the same structure whatever the
        numbers; clipping the gradient is its business.
      new_weight: `(hyper, step)` -> the weight 1 - d of the new parameters in the moving average, see
        `ema`; None for averages of power-function shape, see `power_ema`.
      schedule: `hyper` -> the learning rate that the optimizer uses, to report it; None not to.
      sanitize: replace what is not finite in the gradient, NaN by 0 and infinity by `infinite_gradient` of
        its sign. The update is then applied if the loss is finite, and the metric `bad_gradients` says
        how many elements were replaced.
      infinite_gradient: 1e5 as in EDM's released training code (arXiv 2206.00364), 0 as in EDM2's
        (arXiv 2312.02696).
      microbatches: compute the gradient in this many equal parts of the batch, one after the other,
        and average: less memory, the same mean loss. Each part has a key of its own.
      mesh: over which each of those parts is spread; None for one device.
      new_density: `(hyper, density, seen)` -> the density of the next step, where `seen` are the metrics
        "density/NAME" by their names; `loss_fn` is then given the state's own as `density=`. Like the
        parameters, it stays as it was where a step is not finite.

    Returns:
      `step(state, batch, hyper) -> (state, metrics)`. Metrics are scalars: loss, grad_norm (before any
      clipping), param_norm (after the update), learning_rate (if `schedule` is given), finite (1 or 0),
      and those of `loss_fn`.

    Raises:
      ValueError: when traced, if `loss_fn` returns a metric with one of those names, or `microbatches`
        does not divide the batch.
    """
    if microbatches < 1:
        raise ValueError(f"microbatches must be at least 1, got {microbatches}")

    def step(state: TrainState, batch: Any, hyper: Any) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        given = {} if new_density is None else {"density": state.density}
        (loss, extra), grads = _value_and_grad(
            functools.partial(loss_fn, hyper, **given),
            state.params,
            key,
            batch,
            microbatches=microbatches,
            mesh=mesh,
        )
        if clash := sorted(set(extra) & set(_OWN_METRICS)):
            raise ValueError(f"loss_fn's metrics may not be named {clash}: the step reports those")
        names = [name for name in extra if name.startswith(_OF_DENSITY)]
        seen = {name.removeprefix(_OF_DENSITY): extra.pop(name) for name in names}
        density = state.density
        if new_density is not None:
            density = new_density(hyper, density, seen)
        if sanitize:
            grads, extra = _sanitized(grads, extra, infinite_gradient)

        updates, opt_state = make_optimizer(hyper).update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        if new_weight is None:
            ema_params = power_ema.update(state.ema_params, params, state.step)
        else:
            weight = new_weight(hyper, state.step)
            ema_params = power_ema.towards(state.ema_params, params, weight)

        grad_norm = optax.global_norm(grads)
        new_norm = optax.global_norm(params)
        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm) & jnp.isfinite(new_norm)

        def keep(new, old):
            return jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)

        new_state = TrainState(
            step=state.step + 1,
            params=keep(params, state.params),
            opt_state=keep(opt_state, state.opt_state),
            ema_params=keep(ema_params, state.ema_params),
            key=state.key,
            density=keep(density, state.density),
        )
        metrics = {
            "loss": loss,
            "grad_norm": grad_norm,
            "param_norm": new_norm,
            "finite": finite.astype(jnp.float32),
            **extra,
        }
        if schedule is not None:
            metrics["learning_rate"] = schedule(hyper)(_updates_done(state))
        return new_state, metrics

    return step


def compile_step(
    step: Step, hyper: Any, *, mesh: Mesh | None = None, state_shardings: Any = None
) -> TrainStep:
    """The compiled step of one run, whose numbers do not change.

    Args:
      step: from `make_step`.
      hyper: its numbers; plain ones become constants of the program.
      mesh: the mesh to run on, from `partitioning.make_mesh`; None for one device.
      state_shardings: the layout of the state on `mesh`, from `partitioning.state_shardings`; None
        for a full copy on each device.

    Returns:
      `step(state, batch) -> (state, metrics)`. The state passed in is donated: its arrays are deleted.
    """

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        return step(state, partitioning.spread(batch, mesh), hyper)

    if mesh is None:
        return jax.jit(train_step, donate_argnums=0)
    copied = partitioning.replicated(mesh)
    layout = copied if state_shardings is None else state_shardings
    return jax.jit(
        train_step,
        donate_argnums=0,
        in_shardings=(layout, None),  # the batch's is `spread`'s: that of images has more axes
        out_shardings=(layout, copied),
    )


def _updates_done(state: TrainState) -> jax.Array:
    """The number of updates that the optimizer's learning rate counts: it lags behind refused steps."""

    def of_the_rate(path: Any, _: Any) -> bool:
        return getattr(path[-1], "tuple_name", None) == "ScaleByScheduleState"

    return optax.tree_utils.tree_get(state.opt_state, "count", state.step, filtering=of_the_rate)


def _sanitized(grads, metrics, infinite):
    """Gradients without NaN and infinity, and the metrics with the number of those there were."""
    bad = sum(jnp.sum(~jnp.isfinite(g), dtype=jnp.float32) for g in jax.tree.leaves(grads))
    finite = lambda g: jnp.nan_to_num(g, nan=0.0, posinf=infinite, neginf=-infinite)
    return jax.tree.map(finite, grads), metrics | {"bad_gradients": bad}


def _value_and_grad(loss_fn, params, key, batch, *, microbatches, mesh):
    """((loss, metrics), gradients) of the mean over the batch, in one go or in parts."""
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    if microbatches == 1:
        return value_and_grad(params, key, batch)

    def split(x):
        if x.shape[0] % microbatches:
            raise ValueError(f"microbatches={microbatches} does not divide a batch of {x.shape[0]}")
        # Part i is rows i, i + n, i + 2n, ...: every part spreads over all devices without any row
        # moving from one to another.
        x = x.reshape(x.shape[0] // microbatches, microbatches, *x.shape[1:])
        return jnp.moveaxis(x, 1, 0)

    def add_part(total, part):
        index, rows = part
        value = value_and_grad(params, jax.random.fold_in(key, index), rows)
        return jax.tree.map(jnp.add, total, value), None

    parts = partitioning.spread(jax.tree.map(split, batch), mesh, lead=1)
    first = jax.tree.map(lambda x: x[0], parts)
    shapes = jax.eval_shape(value_and_grad, params, key, first)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    total, _ = jax.lax.scan(add_part, zeros, (jnp.arange(microbatches), parts))
    return jax.tree.map(lambda x: x / microbatches, total)
