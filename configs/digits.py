"""scikit-learn's digits, the default: a 0.4 M-parameter RIN on 8x8 real images, in minutes on a laptop.

    python -m noise_sched.train --config=configs/digits.py --workdir=runs/digits

Expected: see docs/results/digits.md, where every choice below is measured.
"""

from configs import common


def get_config(variant=None):
    """The config; `variant` is "tiny" or nothing."""
    config = common.base()
    config.schedule = "linear()"
    config.parametrization = "v()"
    config.loss.space = "v()"
    config.input_scale = "none()"
    config.sigma_data = 0.75  # (load_digits().images / 8 - 1).std() is 0.7521, the mean -0.389
    config.label_dropout = 0.1
    config.data.update(name="digits", image_size=8, channels=1, flip=False)
    common.small_rin(config, num_classes=10, patch_size=2, latent_slots=10)
    config.ema.update(decay=0.999, warmup=True)
    config.train.update(
        steps=3_000, batch_size=64, log_every=100, checkpoint_every=1_000, image_every=1_500
    )
    config.sample.update(schedule="cosine()", steps=50, solver="ddim(eta=0.0)", batch_size=250)
    return common.finish(config, variant)
