"""Networks: (x, noise_cond, label, memory) -> (out, memory). They know nothing of diffusion.

    out, memory = network.apply({"params": params}, x, noise_cond, label, memory)

All take the same call, `train` and `augment_label` included, so that any goes with any recipe. RIN keeps
a memory from call to call; that of the U-Nets (ADM, DDPMpp, EDM2, NCSNpp, UNetSmall) is (). `published` reads
the parameters of networks trained elsewhere.
"""

from noise_sched.networks.adm import ADM
from noise_sched.networks.edm2 import EDM2
from noise_sched.networks.rin import RIN
from noise_sched.networks.song import DDPMpp, NCSNpp
from noise_sched.networks.unet_small import UNetSmall

__all__ = ["ADM", "DDPMpp", "EDM2", "NCSNpp", "RIN", "UNetSmall"]
