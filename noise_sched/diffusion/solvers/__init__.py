"""Solvers: one step from a noise level to the next. One method per file."""

from noise_sched.diffusion.solvers.base import Solver as Solver
from noise_sched.diffusion.solvers.base import State as State
from noise_sched.diffusion.solvers.ddim import ddim as ddim
from noise_sched.diffusion.solvers.ddpm import ddpm as ddpm
