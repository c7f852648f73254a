"""Every class of diffusers 0.42 that is read: its fields, their defaults, and what they may hold."""

import math
from typing import Any

_BETAS: dict[str, Any] = dict(
    num_train_timesteps=1000,
    beta_start=0.0001,
    beta_end=0.02,
    beta_schedule="linear",
    trained_betas=None,
    prediction_type="epsilon",
)
_STEPS: dict[str, Any] = dict(timestep_spacing="linspace", steps_offset=0)
_TABLE = {**_BETAS, **_STEPS}
_LATENTS = dict(beta_start=0.00085, beta_end=0.012)
_DYNAMIC = dict(thresholding=False, dynamic_thresholding_ratio=0.995, sample_max_value=1.0)
_CLIP = dict(clip_sample=True, clip_sample_range=1.0)
SPREADS = dict(use_karras_sigmas=False, use_exponential_sigmas=False, use_beta_sigmas=False)
_FLOW_SIGMAS = dict(use_flow_sigmas=False, flow_shift=1.0)
_DYNAMIC_SHIFT = dict(use_dynamic_shifting=False, time_shift_type="exponential")
_EDM = dict(
    sigma_min=0.002,
    sigma_max=80.0,
    sigma_data=0.5,
    sigma_schedule="karras",
    num_train_timesteps=1000,
    prediction_type="epsilon",
    rho=7.0,
    final_sigmas_type="zero",
)
_SOLVER = dict(solver_order=2, solver_type="midpoint", lower_order_final=True, euler_at_final=False)
_DPM = {**_SOLVER, "algorithm_type": "dpmsolver++"}
_CLIPPED_LAMBDA = dict(lambda_min_clipped=-math.inf, variance_type=None)
_DISTILLED = {
    **_TABLE,
    **_DYNAMIC,
    **_LATENTS,
    "beta_schedule": "scaled_linear",
    "original_inference_steps": 50,
    "clip_sample": False,
    "clip_sample_range": 1.0,
    "set_alpha_to_one": True,
    "timestep_spacing": "leading",
    "timestep_scaling": 10.0,
    "rescale_betas_zero_snr": False,
}
_VIDEO = {
    **_TABLE,
    **_LATENTS,
    **_CLIP,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": True,
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "rescale_betas_zero_snr": False,
    "snr_shift_scale": 3.0,
}
_KDIFFUSION = {**_TABLE, **_LATENTS, **SPREADS}
_FLOW = {
    **SPREADS,
    **_DYNAMIC_SHIFT,
    "num_train_timesteps": 1000,
    "shift": 1.0,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
    "invert_sigmas": False,
    "shift_terminal": None,
}

# Class -> its fields and their defaults.
FIELDS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **_CLIP,
        "timestep_spacing": "leading",
        "set_alpha_to_one": True,
        "rescale_betas_zero_snr": False,
    },
    "DDPMScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **_CLIP,
        "timestep_spacing": "leading",
        "variance_type": "fixed_small",
        "rescale_betas_zero_snr": False,
    },
    "UnCLIPScheduler": {
        **_CLIP,
        "num_train_timesteps": 1000,
        "variance_type": "fixed_small_log",
        "prediction_type": "epsilon",
        "beta_schedule": "squaredcos_cap_v2",
    },
    "DDPMWuerstchenScheduler": {"scaler": 1.0, "s": 0.008},
    "PNDMScheduler": {
        **_TABLE,
        "timestep_spacing": "leading",
        "skip_prk_steps": False,
        "set_alpha_to_one": False,
    },
    "EulerDiscreteScheduler": {
        **_TABLE,
        **SPREADS,
        "interpolation_type": "linear",
        "sigma_min": None,
        "sigma_max": None,
        "timestep_type": "discrete",
        "rescale_betas_zero_snr": False,
        "final_sigmas_type": "zero",
    },
    "EulerAncestralDiscreteScheduler": {**_TABLE, "rescale_betas_zero_snr": False},
    "HeunDiscreteScheduler": {**_KDIFFUSION, "clip_sample": False, "clip_sample_range": 1.0},
    "DPMSolverMultistepScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **_DPM,
        **SPREADS,
        **_FLOW_SIGMAS,
        **_DYNAMIC_SHIFT,
        **_CLIPPED_LAMBDA,
        "final_sigmas_type": "zero",
        "use_lu_lambdas": False,
        "rescale_betas_zero_snr": False,
    },
    "UniPCMultistepScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **SPREADS,
        **_FLOW_SIGMAS,
        **_DYNAMIC_SHIFT,
        "solver_order": 2,
        "predict_x0": True,
        "solver_type": "bh2",
        "lower_order_final": True,
        "disable_corrector": [],
        "solver_p": None,
        "final_sigmas_type": "zero",
        "rescale_betas_zero_snr": False,
        "sigma_min": None,
        "sigma_max": None,
        "shift_terminal": None,
    },
    "DDIMInverseScheduler": {
        **_TABLE,
        **_CLIP,
        "timestep_spacing": "leading",
        "set_alpha_to_one": True,
        "rescale_betas_zero_snr": False,
    },
    "IPNDMScheduler": {"num_train_timesteps": 1000, "trained_betas": None},
    "LMSDiscreteScheduler": {**_TABLE, **SPREADS},
    "KDPM2DiscreteScheduler": _KDIFFUSION,
    "KDPM2AncestralDiscreteScheduler": _KDIFFUSION,
    "DPMSolverSDEScheduler": {**_KDIFFUSION, "noise_sampler_seed": None},
    "DPMSolverMultistepInverseScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **_DPM,
        **SPREADS,
        **_FLOW_SIGMAS,
        **_CLIPPED_LAMBDA,
    },
    "DPMSolverSinglestepScheduler": {
        **_BETAS,
        **_DYNAMIC,
        **SPREADS,
        **_FLOW_SIGMAS,
        **_DYNAMIC_SHIFT,
        **_CLIPPED_LAMBDA,
        "solver_order": 2,
        "algorithm_type": "dpmsolver++",
        "solver_type": "midpoint",
        "lower_order_final": False,
        "final_sigmas_type": "zero",
    },
    "DEISMultistepScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **SPREADS,
        **_FLOW_SIGMAS,
        **_DYNAMIC_SHIFT,
        "solver_order": 2,
        "algorithm_type": "deis",
        "solver_type": "logrho",
        "lower_order_final": True,
    },
    "SASolverScheduler": {
        **_TABLE,
        **_DYNAMIC,
        **SPREADS,
        **_FLOW_SIGMAS,
        **_CLIPPED_LAMBDA,
        "predictor_order": 2,
        "corrector_order": 2,
        "tau_func": None,
        "algorithm_type": "data_prediction",
        "lower_order_final": True,
    },
    "LCMScheduler": _DISTILLED,
    "TCDScheduler": _DISTILLED,
    "CogVideoXDDIMScheduler": _VIDEO,
    "CogVideoXDPMScheduler": _VIDEO,
    "EDMEulerScheduler": _EDM,
    "EDMDPMSolverMultistepScheduler": {**_EDM, **_DYNAMIC, **_DPM},
    "CosineDPMSolverMultistepScheduler": {
        **_EDM,
        **_SOLVER,
        "sigma_min": 0.3,
        "sigma_max": 500.0,
        "sigma_data": 1.0,
        "sigma_schedule": "exponential",
        "prediction_type": "v_prediction",
    },
    "KarrasVeScheduler": dict(
        sigma_min=0.02, sigma_max=100.0, s_noise=1.007, s_churn=80.0, s_min=0.05, s_max=50.0
    ),
    "ScoreSdeVeScheduler": dict(
        num_train_timesteps=2000,
        snr=0.15,
        sigma_min=0.01,
        sigma_max=1348.0,
        sampling_eps=1e-5,
        correct_steps=1,
    ),
    "ScoreSdeVpScheduler": dict(
        num_train_timesteps=2000, beta_min=0.1, beta_max=20, sampling_eps=1e-3
    ),
    "FlowMatchEulerDiscreteScheduler": {**_FLOW, "stochastic_sampling": False},
    "FlowMatchLCMScheduler": {**_FLOW, "scale_factors": None, "upscale_mode": "bicubic"},
    "FlowMatchHeunDiscreteScheduler": {"num_train_timesteps": 1000, "shift": 1.0},
    "MiniMaxH3Scheduler": {"shift": 12.0},
}

# A class under another name: of the same fields, and the same steps.
ALIASES = {
    "DDIMParallelScheduler": "DDIMScheduler",
    "DDPMParallelScheduler": "DDPMScheduler",
    "FlaxDDIMScheduler": "DDIMScheduler",
    "FlaxDDPMScheduler": "DDPMScheduler",
    "FlaxDPMSolverMultistepScheduler": "DPMSolverMultistepScheduler",
    "FlaxEulerDiscreteScheduler": "EulerDiscreteScheduler",
    "FlaxKarrasVeScheduler": "KarrasVeScheduler",
    "FlaxLMSDiscreteScheduler": "LMSDiscreteScheduler",
    "FlaxPNDMScheduler": "PNDMScheduler",
    "FlaxScoreSdeVeScheduler": "ScoreSdeVeScheduler",
}

MAX_LEVELS = 1_000_000  # a table of more is refused before memory is taken for it

# Numbers: (smallest, largest, whether the ends themselves are allowed). Finite, whatever stands here.
RANGES: dict[str, tuple[float, float, bool, bool]] = {
    "num_train_timesteps": (1, MAX_LEVELS, True, True),
    "original_inference_steps": (1, MAX_LEVELS, True, True),
    "steps_offset": (0, MAX_LEVELS, True, True),
    "solver_order": (1, 3, True, True),
    "predictor_order": (1, 3, True, True),
    "corrector_order": (2, 4, True, True),
    "beta_start": (0, 1, True, False),
    "beta_end": (0, 1, False, True),
    "dynamic_thresholding_ratio": (0, 1, False, True),
    "sample_max_value": (1, math.inf, True, False),
    "s_churn": (0, math.inf, True, False),
    "s_min": (0, math.inf, True, False),
    "s": (0, math.inf, True, False),
}
_POSITIVE = (0, math.inf, False, False)
RANGES |= dict.fromkeys(
    (
        "clip_sample_range",
        "sigma_min",
        "sigma_max",
        "sigma_data",
        "rho",
        "shift",
        "flow_shift",
        "snr_shift_scale",
        "timestep_scaling",
        "scaler",
        "s_noise",
        "s_max",
        "beta_min",
        "beta_max",
        "snr",
        "sampling_eps",
    ),
    _POSITIVE,
)

# What the classes have in common, beyond their fields.
MULTISTEP = (  # take one step more and drop the last, and round what they tell the network
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "SASolverScheduler",
)
UNROUNDED = (  # take fractional steps of "linspace"
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
)
# Cuts and does not round the timesteps of Karras sigmas on the cosine table.
CUTS_COSINE = ("DPMSolverMultistepScheduler",)
FLOORED = (  # put 2^-24 in the place of abar_T = 0
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
)
ENDS_AT_FIRST_LEVEL = ("DEISMultistepScheduler", "SASolverScheduler", "TCDScheduler")
STEPS_BY_STRIDE = (
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "PNDMScheduler",
)
# Repeats the last of flow, Karras and exponential sigmas in the place of 0.
REPEATS_LAST_SIGMA = ("DEISMultistepScheduler", "SASolverScheduler")
DISTILLED = ("LCMScheduler", "TCDScheduler")
UPWARDS = ("DDIMInverseScheduler", "DPMSolverMultistepInverseScheduler")
NO_SAMPLE_PREDICTION = (
    "EulerAncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
)
