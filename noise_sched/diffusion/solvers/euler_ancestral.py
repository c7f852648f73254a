r"""Ancestral Euler, as k-diffusion made it known: Euler down to less noise, then fresh noise.

In the frame alpha = 1, from noise level sigma to sigma_next:

    (1)  up^2   = eta^2 sigma_next^2 (1 - sigma_next^2 / sigma^2),     down^2 = sigma_next^2 - up^2
    (2)  x_next = x0 + down eps + up z

Since sigma_next^2 / sigma^2 is the ratio of the SNRs, this is equation (1) of `ddim`, term by term, and
here it is that: exact in every frame, from zero SNR and to clean data.
"""

import dataclasses

from noise_sched.diffusion.numbers import Leaf
from noise_sched.diffusion.pytrees import register_pytree
from noise_sched.diffusion.solvers.ddim import ddim


@register_pytree
@dataclasses.dataclass(frozen=True)
class euler_ancestral(ddim):
    """Equation (2): `ddim(eta)` under the name that other libraries use, and with their default.

    Attributes:
      eta: 1 is ancestral, 0 is `euler()`.
    """

    eta: Leaf = 1.0
