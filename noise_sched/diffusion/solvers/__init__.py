"""Solvers: one step from a noise level to the next. One method per file."""

from noise_sched.diffusion.solvers.base import Solver as Solver
from noise_sched.diffusion.solvers.base import State as State
from noise_sched.diffusion.solvers.consistency import lcm as lcm
from noise_sched.diffusion.solvers.consistency import tcd as tcd
from noise_sched.diffusion.solvers.ddim import ddim as ddim
from noise_sched.diffusion.solvers.ddpm import ddpm as ddpm
from noise_sched.diffusion.solvers.deis import deis as deis
from noise_sched.diffusion.solvers.dpm2 import dpm2 as dpm2
from noise_sched.diffusion.solvers.dpmpp import dpmpp as dpmpp
from noise_sched.diffusion.solvers.dpmpp_sde import dpmpp_sde as dpmpp_sde
from noise_sched.diffusion.solvers.dpmpp_single import dpmpp_single as dpmpp_single
from noise_sched.diffusion.solvers.euler import euler as euler
from noise_sched.diffusion.solvers.euler_ancestral import euler_ancestral as euler_ancestral
from noise_sched.diffusion.solvers.heun import heun as heun
from noise_sched.diffusion.solvers.lms import lms as lms
from noise_sched.diffusion.solvers.pndm import pndm as pndm
from noise_sched.diffusion.solvers.sa_solver import sa_solver as sa_solver
from noise_sched.diffusion.solvers.unipc import unipc as unipc
