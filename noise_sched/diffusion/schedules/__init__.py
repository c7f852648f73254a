r"""Noise schedules: t in [0, 1] -> logSNR, exact at both ends.

With t = 0 clean and t = 1 noise, a schedule says how much of the signal's power is left,

    (1)  gamma(t) in [0, 1],      x_t = sqrt(gamma) x0 + sqrt(1 - gamma) eps      (Chen 2023, Alg. 1)
    (2)  logsnr(t) = log gamma(t) - log(1 - gamma(t))

t is only an index: nothing behind the schedule sees it. A density of training noise levels is a
schedule too (t uniform, the schedule its quantile function), and so is a sampler's row of sigmas.

    gammas      families of gamma(t): linear, cosine, sigmoid, ...; flow; the VP diffusion's integral
    tables      T discrete levels from betas: scaled_linear, cosine_betas, from_betas, ...
    sigmas      ranges of sigma between two finite ends: karras, geometric, align_your_steps
    quantiles   densities of logSNR: lognormal, logit_normal, laplace
    transforms  of another schedule: zero_terminal, shift, crop, discrete

To add a schedule, add one frozen dataclass to one of these files: a `GammaSchedule` with `powers(t)`,
a `TableSchedule` with `beta_table()`, a `SigmaSchedule` with `log_sigma(t)`, or a `LogSnrSchedule` with
`logsnr(t)`. Its lower-case name is what configs say.
"""

# Everything public of each file, so that a new schedule is one definition in one file.
from noise_sched.diffusion.schedules.base import *  # noqa: F403
from noise_sched.diffusion.schedules.gammas import *  # noqa: F403
from noise_sched.diffusion.schedules.quantiles import *  # noqa: F403
from noise_sched.diffusion.schedules.sigmas import *  # noqa: F403
from noise_sched.diffusion.schedules.tables import *  # noqa: F403
from noise_sched.diffusion.schedules.transforms import *  # noqa: F403
