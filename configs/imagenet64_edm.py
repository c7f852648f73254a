"""ImageNet 64x64, class-conditional, by EDM's ADM of 295,899,267 parameters (arXiv 2206.00364).

    python -m noise_sched.train --config=configs/imagenet64_edm.py --workdir=DIR

Expected: FID 1.36 (Karras et al. 2022, Table 5: 50,000 images, 256 steps of stochastic Heun, 511 network
passes); without churn, 2.22 at best. Not reproduced here: 2,500 million images took 32 A100 thirteen days.
Published in float16 with the loss times 100; here bfloat16, which needs no such factor.
"""

from configs import common, edm_rows


def get_config(variant=None):
    """The config; `variant` is "tiny" or nothing."""
    config = common.base()
    edm_rows.recipe(config)
    config.data.update(name="imagenet2012", image_size=64, channels=3, flip=False)
    config.network = edm_rows.unet(
        "ADM",
        num_classes=1000,
        model_channels=192,
        channel_mult=(1, 2, 3, 4),
        num_blocks=3,
        attention_resolutions=(32, 16, 8),
        channels_per_head=64,
        dropout=0.1,
        dtype="bfloat16",
    )
    config.optimizer.learning_rate = 1e-4
    config.ema.halflife_images = 50_000_000
    config.train.update(
        steps=edm_rows.images_to_steps(2_500_000_000, 4096),
        batch_size=4096,
        checkpoint_every=edm_rows.images_to_steps(10_000_000, 4096),
    )
    config.sample.update(
        steps=256, solver="heun(churn=40.0, s_tmin=0.05, s_tmax=50.0, s_noise=1.003)"
    )
    return common.finish(config, variant)
