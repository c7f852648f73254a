"""Scheduler files as they are published, for several tests."""

# Stable Diffusion's table.
BETAS = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    trained_betas=None,
)
SD15 = dict(
    _class_name="PNDMScheduler",
    _diffusers_version="0.6.0",
    **BETAS,
    clip_sample=False,
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
)
SD21_BASE = dict(SD15, _diffusers_version="0.10.0.dev0", prediction_type="epsilon")
SD21_V = dict(
    _class_name="DDIMScheduler",
    _diffusers_version="0.8.0",
    **BETAS,
    clip_sample=False,
    prediction_type="v_prediction",
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
)
SDXL = dict(
    _class_name="EulerDiscreteScheduler",
    _diffusers_version="0.19.0.dev0",
    **BETAS,
    clip_sample=False,
    interpolation_type="linear",
    prediction_type="epsilon",
    sample_max_value=1.0,
    set_alpha_to_one=False,
    skip_prk_steps=True,
    steps_offset=1,
    timestep_spacing="leading",
    use_karras_sigmas=False,
)
ZERO = dict(SD21_V, rescale_betas_zero_snr=True, timestep_spacing="trailing")
DPM = dict(_class_name="DPMSolverMultistepScheduler", **BETAS, prediction_type="epsilon")
