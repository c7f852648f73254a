"""EDM's recipe (Karras et al. 2022, arXiv 2206.00364) with a small U-Net, on scikit-learn's digits.

    python -m noise_sched.train --config=configs/digits_unet.py --workdir=runs/digits_unet
    python -m noise_sched.sample --workdir=runs/digits_unet --num_images=1000 \
        --out=runs/digits_unet/samples

Expected: 800 steps take 3 min 38 s on two quiet CPU cores, compilation included. A classifier of real
digits agrees with 96.9 % of the requested labels (of 1,000 digits, 18 steps of Heun, 35 network passes;
seed 0; 97.3 % after 1,000 steps), and all ten classes are there. 1.15 M parameters; EDM's augmentation
is off, and was not tried here.
"""

from configs import common, edm_rows


def get_config(variant=None):
    """The config; `variant` is "tiny" or nothing."""
    config = common.base()
    edm_rows.recipe(config)
    config.sigma_data = 0.75  # of the digits, see digits.py
    config.data.update(name="digits", image_size=8, channels=1, flip=False)
    config.network = edm_rows.unet(
        "UNetSmall",
        num_classes=10,
        model_channels=32,
        channel_mult=(1, 2),
        num_blocks=2,
        attention_resolutions=(4,),
        channels_per_head=32,
        dropout=0.1,
    )
    config.optimizer.update(learning_rate=1e-3, warmup_images=6_400, decay="cosine")
    config.ema.halflife_images = 10_000
    config.train.update(
        steps=800, batch_size=64, log_every=100, checkpoint_every=400, image_every=400
    )
    config.sample.update(steps=18, batch_size=250)
    return common.finish(config, variant)
