"""What the configs share: every key with its default, the ImageNet RIN family, and `:tiny`.

A config is data. The strings are specs that `noise_sched.build` understands; change any of them from
the command line, for example --config.schedule='sigmoid(-3, 3, tau=0.9)'. Unknown keys are refused.
"""

from typing import Any

from ml_collections import ConfigDict


def base() -> ConfigDict:
    """Every key, with the published noise-scheduling choices where there are any."""
    return ConfigDict(
        dict(
            seed=0,
            # What noise, when (t -> logSNR -> alpha, sigma), and the network's two ends.
            schedule="linear(clip_min=1e-9)",
            process="vp(input_scale=1.0)",
            input_scale="per_example_std()",
            conditioning="gamma(scale=1000.0)",
            parametrization="eps()",
            sigma_data=0.5,  # of the data in [-1, 1]; specs may name it: edm(sigma_data)
            loss=dict(
                space="eps()",
                weight="uniform()",
                self_conditioning=0.9,
                clip_x0=False,
                offset_noise=0.0,
                reduction="mean",  # over an image's pixels; "sum" as EDM
                uncertainty=False,  # the network learns to weigh the levels (EDM2)
            ),
            label_dropout=0.0,  # share of labels replaced by "no class"; guidance needs some
            data=dict(
                name="digits",  # a TFDS name, or folder:/path/to/images
                split="train",
                image_size=8,
                channels=1,
                flip=False,
                data_dir="",  # "" is TFDS's own default
                skip_unreadable=False,  # pass over damaged files of a folder, with a warning
            ),
            augment=dict(probability=0.0),  # EDM's; needs network.augment_dim=9
            network=dict(
                name="RIN",
                num_classes=10,
                augment_dim=0,  # entries of the augmentation's label
                patch_size=8,
                num_layers=(4, 4, 4, 4),
                latent_slots=128,
                latent_dim=768,
                latent_mlp_ratio=4,
                latent_heads=16,
                tape_dim=512,
                tape_mlp_ratio=4,
                rw_heads=16,
                drop_units=0.0,
                drop_path=0.0,
                dtype="float32",
                remat="none",
                scan=False,
            ),
            optimizer=dict(
                name="lamb",
                learning_rate=2e-3,
                decay="cosine@0.7",
                warmup_steps=10_000,
                warmup_images=0,  # a warm-up counted in images, in place of warmup_steps
                end_factor=0.0,
                weight_decay=0.01,
                b1=0.9,
                b2=0.999,
                eps=1e-8,
                clip_norm=0.0,  # 0 is no clipping, as published for LAMB
                sanitize=False,  # gradients that are not finite: NaN -> 0, infinity -> the next
                infinite_gradient=1e5,  # of infinity's sign; EDM 1e5, EDM2 0
                normalize_weights=False,  # EDM2's filters, after each update
            ),
            ema=dict(
                decay=0.9999,
                warmup=False,
                halflife_images=0,  # EDM's half-life, in place of decay and warmup
                rampup_ratio=0.05,  # of the images so far, the longest half-life
                stds=(),  # relative widths of power-function averages, in place of the above (EDM2)
                snapshot_every=0,  # steps; kept for reconstructing other widths; 0 for none
            ),
            # How many devices share what: "data=4,fsdp=2"; "" has each train on its part of a batch.
            partition=dict(mesh=""),
            train=dict(
                steps=150_000,
                batch_size=1024,
                microbatches=1,
                time="uniform()",  # how a batch's t are drawn; "stratified()" spreads them evenly
                density="fixed()",  # "adaptive()" draws more of them where the loss is large
                skip_nonfinite=3,  # so many steps in a row may be not finite before training stops
                stop_if_unsaved=True,  # where a checkpoint fails twice; False goes on, unsaved
                digests=True,  # of every array saved, verified when it is read
                log_every=100,
                checkpoint_every=5_000,
                keep=3,
                image_every=10_000,  # a grid of samples to TensorBoard; 0 for none
                eval_every=0,  # judges samples of the averaged weights; 0 for never
            ),
            # What train.eval_every does; see python -m noise_sched.evaluate.
            eval=dict(
                num_images=1000,
                metrics="",  # "swd,fid"; "" is all that need no published weights
                reference="",  # as --reference; "" is the training data
                best="",  # the figure whose best step is kept: "swd/distance"; "" keeps none
                weights="",  # a folder of published weights; "" looks into the usual places
            ),
            sample=dict(
                seed=0,
                schedule="plain_cosine()",
                grid="uniform()",
                steps=250,
                solver="ddpm(variance='large')",
                guidance="none()",
                threshold="static(bound=1.0)",
                batch_size=64,
                ema_std=0.0,  # which of ema.stds to draw with; 0 is the first
                guide_workdir="",  # for autoguide(w): the workdir of the worse model
                classes=(),  # () draws them uniformly; (3, 7) makes equal numbers of 3s and 7s
            ),
        )
    )


def small_rin(config: ConfigDict, num_classes: int, patch_size: int, latent_slots: int) -> None:
    """A RIN of 0.4 M parameters for small grey images, and how it is optimized in minutes."""
    config.network.update(
        num_classes=num_classes,
        patch_size=patch_size,
        num_layers=(2, 2),
        latent_slots=latent_slots,
        latent_dim=64,
        latent_mlp_ratio=4,
        latent_heads=4,
        tape_dim=64,
        tape_mlp_ratio=2,
        rw_heads=4,
    )
    config.optimizer.update(
        name="adamw", learning_rate=2e-3, decay="cosine", warmup_steps=100, clip_norm=1.0
    )


def imagenet_rin(
    variant: str | None, image_size: int, input_scale: float, steps: int, **network: Any
) -> ConfigDict:
    """Class-conditional ImageNet RIN of Chen 2023 (arXiv 2301.10972), Table 5, patches of 8."""
    config = base()
    config.process = f"vp(input_scale={input_scale})"
    config.data.update(name="imagenet2012", image_size=image_size, channels=3, flip=True)
    # Scanned, the deep stacks of latents compile in half the time.
    config.network.update(num_classes=1000, num_layers=(6, 6, 6, 6), scan=True, dtype="bfloat16")
    config.network.update(network)
    config.train.steps = steps
    return finish(config, variant)


def tiny(config: ConfigDict) -> ConfigDict:
    """The same choices on a laptop in seconds: digits, a very small network, a few steps.

    Schedules, process, parametrization, solver and optimizer are the config's own: `:tiny` tests them.
    """
    if config.network.name == "RIN":
        _tiny_rin(config)
    else:
        _tiny_unet(config)
    config.network.num_classes = 10 if config.network.num_classes else 0
    if config.optimizer.warmup_images:
        config.optimizer.warmup_images = 8
    else:
        config.optimizer.warmup_steps = 1
    config.train.update(steps=6, batch_size=8, log_every=2, checkpoint_every=3, image_every=0)
    config.partition.mesh = ""
    config.sample.update(steps=4, batch_size=8)
    return config


def _tiny_rin(config: ConfigDict) -> None:
    config.data.update(name="digits", image_size=2 * config.network.patch_size, data_dir="")
    config.network.update(
        dtype="float32",  # a CPU gains nothing by less
        remat="none",
        num_layers=(1, 1),
        latent_slots=6,
        latent_dim=16,
        latent_mlp_ratio=2,
        latent_heads=2,
        tape_dim=16,
        tape_mlp_ratio=2,
        rw_heads=2,
    )


def _tiny_unet(config: ConfigDict) -> None:
    """One level of one block: compiling is what takes the time."""
    config.data.update(name="digits", image_size=8, data_dir="")
    config.network.update(
        model_channels=8, channel_mult=(1,), num_blocks=1, attention_resolutions=()
    )
    config.network.dtype = "float32"  # a CPU gains nothing by less
    if "channels_per_head" in config.network:
        config.network.channels_per_head = 8


def finish(config: ConfigDict, variant: str | None) -> ConfigDict:
    """Applies the part of --config=FILE.py:VARIANT behind the colon: nothing, or `tiny`."""
    if variant in (None, ""):
        return config
    if variant == "tiny":
        return tiny(config)
    raise ValueError(f"unknown variant {variant!r} of this config: use ':tiny', or none.")
