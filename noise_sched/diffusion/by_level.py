r"""What training tells of each noise level: sums over a batch, in bins of logSNR.

A bin is one wide, the first and the last are open: [-inf, -15), [-15, -14), ..., [15, inf]. With i over the
batch,

    (1)  draws_k    = mean_i [i in k]                      how much of training is spent there
    (2)  weight_k   = mean_i [i in k] w_i                  w_i = 1, or what an adaptive density divides out
    (3)  loss_k     = mean_i [i in k] w_i l_i              l_i the weighted error; mean loss_k / weight_k
    (4)  x0_error_k = mean_i [i in k] w_i mean (x0 - prediction)^2
    (5)  variance   = mean over pixels of the batch's variance of x0

All are means over the batch, so that means over microbatches and over steps are again of this kind, and a
quotient of them is a pooled one. Explained variance is 1 - x0_error_k / (weight_k variance): 1 for a
network that knows the image, 0 for one that answers with the mean image.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from noise_sched.diffusion.process import Images

EDGES = np.arange(-15.0, 16.0)
"""Between neighbouring bins, in logSNR."""

CENTRES = np.arange(-15.5, 16.0)
"""One number for each bin; those of the two open ones continue the row."""

PREFIX = "levels/"


def recorded(
    logsnr: Float[Array, "batch"],
    weight: Float[Array, "batch"],
    loss: Float[Array, "batch"],
    x0_error: Float[Array, "batch"],
    x0: Images,
) -> dict[str, Array]:
    """Equations (1) to (5) by name, and the bins' places as "logsnr"; nothing of it has a gradient."""
    hot = in_bins(logsnr)
    sums = {
        "draws": share(hot, jnp.ones_like(weight)),
        "weight": share(hot, weight),
        "loss": share(hot, weight * loss),
        "x0_error": share(hot, weight * x0_error),
        "variance": _variance(x0),
        "logsnr": jnp.asarray(CENTRES, logsnr.dtype),
    }
    return {PREFIX + name: jax.lax.stop_gradient(value) for name, value in sums.items()}


def in_bins(logsnr: Float[Array, "batch"]) -> Bool[Array, "batch bins"]:
    """Whether an example lies in a bin."""
    return one_hot(jnp.searchsorted(EDGES.astype(logsnr.dtype), logsnr, side="right"), len(CENTRES))


def one_hot(index: Int[Array, "batch"], count: int) -> Bool[Array, "batch count"]:
    """Whether an example's index is this one."""
    return index[:, None] == jnp.arange(count, dtype=index.dtype)[None, :]


def share(hot: Bool[Array, "batch bins"], values: Float[Array, "batch"]) -> Float[Array, "bins"]:
    """The sum of the values in each bin, divided by the number of examples."""
    # Not a product: one value that is infinite would spoil the bins that it is not in.
    return jnp.mean(jnp.where(hot, values[:, None], 0.0), axis=0)


def _variance(x0: Images) -> Float[Array, ""]:
    """Equation (5), without bias."""
    count = x0.shape[0]
    spread = jnp.mean(jnp.square(x0)) - jnp.mean(jnp.square(jnp.mean(x0, axis=0)))
    return spread * (count / max(count - 1, 1))
