"""A folder of your own images, from one command: a U-Net with Chen 2023's v-prediction and input scale.

    python -m noise_sched.train --config=configs/own_images.py:/path/to/folder,size=64 --workdir=runs/own
    python -m noise_sched.train --config=configs/own_images.py:/path/to/folder,laptop --workdir=runs/own
    python -m noise_sched.sample --workdir=runs/own --num_images=64 --out=runs/own/samples

Behind the colon: the folder, and if you like size=64, steps=500, network=RIN, laptop and skip_unreadable,
after commas. What is not given is chosen from the images, and said: the size (the largest of 8, 16, 32 and
64 that enlarges none; with laptop up to 16), channels (1 where all are grey), classes (first-level
subfolders), a network that one consumer GPU trains (with laptop: two CPU cores), and the input scale b of
that size. This is the only config that looks at data.

Expected: no published result; a start, and no recipe that was searched for.
"""

import sys

from configs import common, edm_rows
from noise_sched.data.survey import Survey, survey
from noise_sched.messages import hint

# Up to this size: channels, their factor level by level, where there is attention, learning rate, batch.
NETWORKS = {
    16: (32, (1, 2), 2, 1e-3, 64),
    32: (64, (1, 2, 2), 4, 5e-4, 64),
    64: (96, (1, 2, 2, 2), 8, 3e-4, 64),
    128: (96, (1, 1, 2, 2, 3), 16, 2e-4, 32),
    256: (64, (1, 1, 2, 2, 4, 4), 32, 2e-4, 16),
}
SIZES = (*range(8, 65, 8), *range(96, 1025, 32))
WORDS = ("size=N", "steps=N", "network=UNetSmall", "network=RIN", "laptop", "skip_unreadable")


def get_config(variant=None):
    """The config of "FOLDER,size=64,..."."""
    folder, given = _parse(variant)
    if folder is None:
        return common.tiny(_config(Survey(0, 0, (), 1, 8, 8, 0.5), {}))
    found = survey(
        folder,
        image_size=int(given["size"]) if "size" in given else None,
        largest=16 if "laptop" in given else 64,
        skip_unreadable="skip_unreadable" in given,
    )
    config = _config(found, given)
    config.data.name = f"folder:{folder}"
    print(_told(folder, found, config), file=sys.stderr)
    return config


def _parse(variant):
    """(the folder or None, the words behind it)."""
    folder, *words = [part.strip() for part in (variant or "").split(",")]
    if folder == "tiny" and not words:
        return None, {}
    if not folder:
        raise ValueError("name a folder of images: --config=configs/own_images.py:/path/to/folder")
    given = {}
    for word in words:
        key, equals, value = word.partition("=")
        networks = ("UNetSmall", "RIN")
        known = {"size": value.isdigit() and int(value) in SIZES}
        known |= {"steps": value.isdigit() and int(value) > 0}
        known |= {"network": value in networks}
        known |= {alone: not equals for alone in ("laptop", "skip_unreadable")}
        if not known.get(key, False):
            near = "" if key in known else hint(key, known)
            raise ValueError(
                f"unknown {word!r} behind the folder. {near}Known, after commas: {', '.join(WORDS)}; a size "
                "is a multiple of 8 up to 64, of 32 up to 1024."
            )
        given[key] = value
    if {"laptop", "network"} <= set(given):
        raise ValueError("laptop chooses the network: leave network= or laptop out.")
    return folder, given


def _config(found, given):
    config = common.base()
    size = found.image_size
    config.schedule = "linear()"
    config.process = f"vp(input_scale={scale_of(size)})"
    config.parametrization = config.loss.space = "v()"
    config.sigma_data = round(found.std, 3)
    config.label_dropout = 0.1 if found.classes else 0.0
    config.data.update(
        image_size=size,
        channels=found.channels,
        flip=False,  # letters and faces are not symmetric: --config.data.flip=True where yours are
        skip_unreadable="skip_unreadable" in given,
    )
    if "laptop" in given:
        batch, steps = _laptop(config, found), 2_000
    else:
        batch, steps = _gpu(config, found, given.get("network", "UNetSmall")), 20_000
    steps = int(given.get("steps", steps))
    config.ema.update(decay=0.999, warmup=True)
    config.optimizer.warmup_steps = min(200, steps // 10)
    config.train.update(
        steps=steps,
        batch_size=batch,
        log_every=min(100, steps),
        checkpoint_every=min(1_000, steps),
        image_every=min(1_000, steps),
    )
    config.sample.update(schedule="cosine()", steps=50, solver="ddim(eta=0.0)", batch_size=64)
    return config


def _laptop(config, found):
    """A RIN on 8 x 8 patches, as configs/sweeps/small.py found it; the batch size."""
    patch = max(1, found.image_size // 8)
    common.small_rin(config, num_classes=len(found.classes), patch_size=patch, latent_slots=16)
    config.network.update(num_layers=(1, 1), latent_mlp_ratio=2)
    config.loss.self_conditioning = 0.0  # it takes a third of the time
    config.optimizer.update(learning_rate=5e-3, b2=0.99)
    return 64


def _gpu(config, found, name):
    """A U-Net of this size, or a RIN; the batch size."""
    size, classes = found.image_size, len(found.classes)
    limit = min((limit for limit in NETWORKS if size <= limit), default=max(NETWORKS))
    channels, multiples, attention, rate, batch = NETWORKS[limit]
    if name == "RIN":
        patch = 2 if size <= 16 else 4 if size <= 64 else 8
        common.small_rin(config, num_classes=classes, patch_size=patch, latent_slots=64)
        config.network.update(latent_dim=256, tape_dim=192, num_layers=(4, 4, 4))
        config.optimizer.learning_rate = 1e-3
        return batch
    config.loss.self_conditioning = 0.0  # a U-Net has no memory
    coarsest = size // 2 ** (len(multiples) - 1)
    config.network = edm_rows.unet(
        name,
        num_classes=classes,
        model_channels=channels,
        channel_mult=multiples,
        num_blocks=2,
        attention_resolutions=(max(coarsest, size // attention),),
        channels_per_head=32,
        dropout=0.1,
    )
    config.optimizer.update(name="adamw", learning_rate=rate, decay="cosine", clip_norm=1.0)
    return batch


def scale_of(size):
    """The input scale b: 1 up to 64 pixels, then (64 / size)^0.7, near Chen 2023's 0.6 and 0.4."""
    return round(min(1.0, (64 / size) ** 0.7), 3)


def _told(folder, found, config):
    """What was chosen, and why."""
    classes = f"{len(found.classes)} classes" if found.classes else "no subfolders, so no classes"
    skipped = f", {found.unreadable} unreadable ones passed over" if found.unreadable else ""
    return "\n".join(
        [
            f"{found.images} images in {folder}{skipped}; smallest side {found.smallest_side} pixels; "
            f"{classes}",
            f"  data.image_size={found.image_size}, data.channels={found.channels}, "
            f"sigma_data={config.sigma_data} (measured)",
            f"  {config.process}: 1 up to 64 pixels, (64 / size)^0.7 above",
            f"  {config.network.name}, batch {config.train.batch_size}, {config.train.steps} steps; "
            "change any of it with --config.KEY=VALUE",
        ]
    )
