"""noise_sched: how much noise, when, in diffusion models.

    import noise_sched as ns
    schedule = ns.build("sigmoid(-3, 3, tau=0.9)")
    levels = ns.vp(input_scale=0.6).level(schedule.logsnr(ns.grids.uniform()(50)))

The mathematics is `noise_sched.diffusion`; training and sampling are binaries:
`python -m noise_sched.train --help`.
"""

__version__ = "0.1.0"

from noise_sched.diffusion import grids as grids
from noise_sched.diffusion.guidance import cfg as cfg
from noise_sched.diffusion.parametrization import Prediction as Prediction
from noise_sched.diffusion.parametrization import edm as edm
from noise_sched.diffusion.parametrization import eps as eps
from noise_sched.diffusion.parametrization import v as v
from noise_sched.diffusion.parametrization import x0 as x0
from noise_sched.diffusion.process import NoiseLevel as NoiseLevel
from noise_sched.diffusion.process import diffuse as diffuse
from noise_sched.diffusion.process import ve as ve
from noise_sched.diffusion.process import vp as vp
from noise_sched.diffusion.sampling import sample as sample
from noise_sched.diffusion.schedules import cosine as cosine
from noise_sched.diffusion.schedules import from_betas as from_betas
from noise_sched.diffusion.schedules import karras as karras
from noise_sched.diffusion.schedules import linear as linear
from noise_sched.diffusion.schedules import lognormal as lognormal
from noise_sched.diffusion.schedules import plain_cosine as plain_cosine
from noise_sched.diffusion.schedules import scaled_linear as scaled_linear
from noise_sched.diffusion.schedules import shift as shift
from noise_sched.diffusion.schedules import sigmoid as sigmoid
from noise_sched.diffusion.schedules import zero_terminal as zero_terminal
from noise_sched.diffusion.solvers import ddim as ddim
from noise_sched.diffusion.solvers import ddpm as ddpm
from noise_sched.diffusion.solvers import dpmpp as dpmpp
from noise_sched.diffusion.solvers import euler as euler
from noise_sched.diffusion.solvers import euler_ancestral as euler_ancestral
from noise_sched.diffusion.solvers import heun as heun
from noise_sched.diffusion.solvers import unipc as unipc
from noise_sched.diffusion.specs import build as build
