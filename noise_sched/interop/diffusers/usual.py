"""What a scheduler file does not hold is what its users do: the loss in the network's own space, weight 1."""

from noise_sched.diffusion import input_scale, weighting
from noise_sched.diffusion.conditioning import Conditioning
from noise_sched.diffusion.input_scale import InputScale
from noise_sched.diffusion.loss import Objective
from noise_sched.diffusion.parametrization import Parametrization
from noise_sched.diffusion.process import Process
from noise_sched.diffusion.schedules import Schedule

_AS_IT_IS = input_scale.none()


def usual_objective(
    schedule: Schedule,
    process: Process,
    own: Parametrization,
    conditioning: Conditioning,
    scale: InputScale = _AS_IT_IS,
) -> Objective:
    """How a network that predicts `own` is trained on the levels of `schedule`."""
    return Objective(
        schedule=schedule,
        process=process,
        parametrization=own,
        input_scale=scale,
        conditioning=conditioning,
        loss_space=own,
        weight=weighting.uniform(),
    )
