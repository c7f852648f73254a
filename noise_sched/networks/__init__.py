"""Networks: (x, noise_cond, label, memory) -> (out, memory). They know nothing of diffusion."""

from noise_sched.networks.edm2 import EDM2
from noise_sched.networks.rin import RIN

__all__ = ["EDM2", "RIN"]
