r"""From a network to a denoiser: the three choices at a network's two ends.

    input_scale     x_t         -> what the network sees        (EDM's c_in)
    conditioning    level       -> what it is conditioned on    (EDM's c_noise)
    parametrization its output  -> Prediction(x0, eps)          (EDM's c_skip, c_out)

Together they are what EDM calls preconditioning (Karras et al. 2022, section 5). Training uses
`Preconditioner.output`, sampling `Preconditioner.denoise`; both go through the same lines.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

from jaxtyping import Array, Float

from noise_sched.diffusion.conditioning import Conditioning
from noise_sched.diffusion.input_scale import InputScale
from noise_sched.diffusion.parametrization import Parametrization, Prediction
from noise_sched.diffusion.process import Images, NoiseLevel
from noise_sched.diffusion.pytrees import register_pytree

Memory: TypeAlias = Any  # a pytree that travels from step to step: RIN's latents, () for a U-Net
Network: TypeAlias = Callable[[Images, Float[Array, "batch"], Memory], tuple[Images, Memory]]
Denoise: TypeAlias = Callable[[Images, NoiseLevel, Memory], tuple[Prediction, Memory]]


@register_pytree
@dataclasses.dataclass(frozen=True)
class Preconditioner:
    """The meaning of a network's input, condition and output.

    Attributes:
      parametrization: what its output is.
      input_scale: what multiplies its input.
      conditioning: what it is conditioned on.
    """

    parametrization: Parametrization
    input_scale: InputScale
    conditioning: Conditioning

    def output(
        self, network: Network, x: Images, level: NoiseLevel, memory: Memory
    ) -> tuple[Images, Memory]:
        """The network's raw output at `x` [batch, ...] and `level` [batch]."""
        return network(self.input_scale(level, x), self.conditioning(level), memory)

    def denoise(self, network: Network, dtype: Any = None) -> Denoise:
        """The denoiser (x, level, memory) -> (Prediction, memory) of a network.

        Args:
          network: (x, noise_cond, memory) -> (out, memory).
          dtype: what the network is called in, where that is not the state's dtype: with a float64
            x_T and float32 here only the network's own output is rounded, as in EDM's sampler.
        """
        network = network if dtype is None else called_in(dtype, network)

        def denoise(x: Images, level: NoiseLevel, memory: Memory) -> tuple[Prediction, Memory]:
            out, memory = self.output(network, x, level, memory)
            return self.parametrization.to_prediction(level, x, out), memory

        return denoise


def called_in(dtype: Any, network: Network) -> Network:
    """A network that is called in `dtype`, whatever dtype its caller keeps."""

    def call(x: Images, noise_cond: Float[Array, "batch"], memory: Memory) -> tuple[Images, Memory]:
        out, memory = network(x.astype(dtype), noise_cond.astype(dtype), memory)
        return out.astype(x.dtype), memory

    return call
