"""CIFAR-10, class-conditional RIN of 31.0 M parameters, as published.

    python -m noise_sched.train --config=configs/cifar10_rin.py --workdir=DIR

Expected: FID 1.81, IS 10.3 (published: sigmoid(-3, 3, 0.9), 1000 DDPM steps with the cosine sampling
schedule; github.com/google-research/pix2seq/issues/35). Not reproduced here: it takes an accelerator.
LAMB, batch 256, 150,000 updates; dropout matters on this data set.
"""

from configs import common


def get_config(variant=None):
    """The config; `variant` is "tiny" or nothing."""
    config = common.base()
    config.schedule = "sigmoid(-3, 3, tau=0.9, clip_min=1e-9)"
    config.input_scale = "none()"
    config.data.update(name="cifar10", image_size=32, channels=3, flip=True)
    config.network.update(
        num_classes=10,
        patch_size=2,
        num_layers=(2, 2, 2),
        latent_slots=128,
        latent_dim=512,
        latent_heads=16,
        tape_dim=256,
        tape_mlp_ratio=2,
        rw_heads=8,
        drop_units=0.1,
        drop_path=0.1,
    )
    config.optimizer.update(learning_rate=3e-3, decay="cosine@0.8")
    config.train.update(batch_size=256)
    config.sample.update(steps=1000)
    return common.finish(config, variant)
