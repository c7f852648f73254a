"""Networks: (x, noise_cond, label, memory) -> (out, memory). They know nothing of diffusion."""

from noise_sched.networks.rin import RIN

__all__ = ["RIN"]
