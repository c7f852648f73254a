"""Networks: (x, noise_cond, label, memory) -> (out, memory). They know nothing of diffusion."""

from noise_sched.networks.adm import ADM
from noise_sched.networks.edm2 import EDM2
from noise_sched.networks.rin import RIN
from noise_sched.networks.song import DDPMpp, NCSNpp
from noise_sched.networks.unet_small import UNetSmall

__all__ = ["ADM", "DDPMpp", "EDM2", "NCSNpp", "RIN", "UNetSmall"]
