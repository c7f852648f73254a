"""Zero terminal SNR (Lin et al. 2024, arXiv 2305.08891), and with `:flawed` the flaws it fixes.

    python -m noise_sched.train --config=configs/zero_terminal_snr.py --workdir=runs/fixed
    python -m noise_sched.train --config=configs/zero_terminal_snr.py:flawed --workdir=runs/flawed

Images of every brightness. Stable Diffusion's schedule leaves 6.8 % of the signal at its last level; a
model learns to read the brightness from it, and sampling starts without any. The fixed run moves the
last level to zero SNR, predicts v, which is defined there, and samples that level first.

Expected: see docs/results/brightness.md. The fixed run's images are as dark and as bright as the
data's, the flawed run's are of medium brightness.
"""

from configs import common

_SCHEDULE = "scaled_linear()"


def get_config(variant=None):
    """The config; `variant` is "flawed", "tiny", "flawed,tiny" or nothing."""
    variants = (variant or "").split(",")
    config = common.base()
    if "flawed" in variants:
        schedule, grid, output = _SCHEDULE, "leading()", "eps()"
    else:
        schedule, grid, output = f"zero_terminal({_SCHEDULE})", "trailing()", "v()"
    config.schedule = f"discrete({schedule})"
    config.parametrization = config.loss.space = output
    config.sample.update(schedule=schedule, grid=grid)

    config.process = "vp()"
    config.input_scale = "none()"
    config.conditioning = "angle()"
    config.data.update(name="brightness", image_size=32, channels=1, flip=False)
    common.small_rin(config, num_classes=4, patch_size=4, latent_slots=16)
    config.loss.self_conditioning = 0.0
    config.ema.update(decay=0.995, warmup=True)
    config.train.update(
        steps=1_500, batch_size=32, log_every=100, checkpoint_every=500, image_every=0
    )
    config.sample.update(steps=25, solver="ddim(eta=0.0)", batch_size=250)
    for each in variants:
        config = config if each == "flawed" else common.finish(config, each)
    return config
