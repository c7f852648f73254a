"""Everything a training run carries from one step to the next."""

from collections.abc import Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from noise_sched.training import power_ema


@flax.struct.dataclass
class TrainState:
    """The state of a run; with the data's position, all that a checkpoint has to hold.

    A pytree. Its leaves may also be shapes (`jax.eval_shape`) or shardings, hence the open types.

    Attributes:
      step: int32 scalar, the number of batches consumed.
      params: the network's parameters.
      opt_state: the optimizer's state.
      ema_params: the moving average of the parameters, a tree like `params`; with averages of
        power-function shape a dict of such trees by width, see `power_ema.arrange`.
      key: a typed PRNG key, the same for the whole run; step k draws from `fold_in(key, k)`.
      density: what a training density that adapts has learnt so far; None without one.
    """

    step: Any
    params: Any
    opt_state: Any
    ema_params: Any
    key: Any
    density: Any = None

    @classmethod
    def create(
        cls,
        params: Any,
        optimizer: optax.GradientTransformation,
        key: jax.Array,
        *,
        ema_stds: Sequence[float] = (),
        density: Any = None,
    ) -> "TrainState":
        """The state before the first step; the moving averages are copies of `params`.

        Args:
          params: the initialized parameters.
          optimizer: the transformation that the train step will use.
          key: a typed key (`jax.random.key`).
          ema_stds: relative widths of power-function averages; () for one plain average.
          density: of a training density, before the first step.

        Raises:
          ValueError: if `key` is not a typed key, or a width is out of range.
        """
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            raise ValueError(
                f"expected a typed PRNG key, got an array of {key.dtype}{list(key.shape)}: make it "
                f"with jax.random.key(seed), or wrap it with jax.random.wrap_key_data"
            )
        return cls(
            step=jnp.zeros([], jnp.int32),
            params=params,
            opt_state=optimizer.init(params),
            # In buffers of their own, so that both can be donated.
            ema_params=jax.tree.map(jnp.copy, power_ema.arrange(params, ema_stds)),
            key=jnp.copy(key),
            density=density,
        )
