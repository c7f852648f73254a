"""Exact denoisers of Gaussian mixtures, at any noise level and in any frame."""

import jax
import jax.numpy as jnp

from noise_sched.diffusion.parametrization import Prediction


def mixture(means, stds, weights=None):
    """The exact denoiser of sum_k w_k N(means[k], stds[k]^2 I).

    Args:
      means: [components, *event].
      stds: [components].
      weights: [components]; equal without.
    """
    stds = jnp.asarray(stds)
    logits = jnp.zeros(stds.shape) if weights is None else jnp.log(weights)
    event = means.shape[1:]
    centres = means.reshape(len(means), -1)

    def denoise(x, level, memory):
        flat = x.reshape(x.shape[0], 1, -1)
        a, s = (f.reshape(-1, 1, 1) for f in (level.alpha, level.sigma))
        variance = (a * stds[None, :, None]) ** 2 + s**2  # [batch, components, 1]
        away = flat - a * centres[None]
        size = centres.shape[1]
        log = logits[None] - 0.5 * (
            jnp.sum(away**2, axis=-1) / variance[..., 0] + size * jnp.log(variance[..., 0])
        )
        responsibility = jax.nn.softmax(log, axis=-1)[..., None]
        x0 = centres[None] + a * stds[None, :, None] ** 2 / variance * away
        x0 = jnp.sum(responsibility * x0, axis=1)
        eps = jnp.sum(responsibility * s / variance * away, axis=1)
        return Prediction(x0.reshape(-1, *event), eps.reshape(-1, *event)), memory

    return denoise
