"""ImageNet 64x64, class-conditional, by EDM2's network of size S, 280 M parameters (arXiv 2312.02696).

    python -m noise_sched.train --config=configs/imagenet64_edm2.py --workdir=DIR

Expected: FID 1.58 (Karras et al. 2024: 50,000 images, 32 steps of Heun, 63 network passes, with the best
width of the moving average, reconstructed after training). Not reproduced here: 1,074 million images
take a cluster. Published in float16; here bfloat16.

The filters keep their norm, so that only the learning rate's decay, 1 / sqrt(step), ends the training; two
averages of relative widths 0.05 and 0.10 are kept, and snapshots of them give any other width afterwards.
"""

from ml_collections import ConfigDict

from configs import common, edm_rows


def get_config(variant=None):
    """The config; `variant` is "tiny" or nothing."""
    config = common.base()
    edm_rows.recipe(config)
    config.schedule = "lognormal(p_mean=-0.8, p_std=1.6)"
    config.loss.uncertainty = True
    config.data.update(name="imagenet2012", image_size=64, channels=3, flip=False)
    config.network = ConfigDict(
        dict(
            name="EDM2",
            num_classes=1000,
            model_channels=192,
            channel_mult=(1, 2, 3, 4),
            num_blocks=3,
            attention_resolutions=(16, 8),
            channels_per_head=64,
            dropout=0.0,
            dtype="bfloat16",
            remat="none",
            scan=False,
            pad_channels=1,
        )
    )
    config.optimizer.update(learning_rate=0.01, decay="inverse_sqrt@35000", b2=0.99)
    config.optimizer.update(normalize_weights=True, infinite_gradient=0.0)
    images, batch = 2**30, 2048
    config.ema.update(halflife_images=0, stds=(0.05, 0.10), snapshot_every=2**23 // batch)
    config.train.update(steps=images // batch, batch_size=batch, checkpoint_every=2**23 // batch)
    config.sample.update(steps=32)
    return common.finish(config, variant)
