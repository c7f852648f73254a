"""NVlabs' network classes -> our networks' names and fields.

Each class is a table: what its constructor's arguments are when they are left out, which of our fields
they become, and which of them our network has at one value only.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from noise_sched.interop.nvlabs.snapshot import Persistent
from noise_sched.interop.pickles.unpickler import ForeignFileError
from noise_sched.networks import song

# Arguments that the preconditioner knows too.
_SHAPE = ("img_resolution", "in_channels", "out_channels", "img_channels")
# Published names -> ours, where they differ.
_FIELDS = {
    "label_dim": "num_classes",
    "attn_resolutions": "attention_resolutions",
    "embedding_type": "embedding",
    "encoder_type": "encoder",
    "decoder_type": "decoder",
}
_COMMON = {"label_dim": 0, "label_dropout": 0.0, "augment_dim": 0, "dropout": 0.1}
_SONG = _COMMON | {
    "model_channels": 128,
    "channel_mult": (1, 2, 2, 2),
    "num_blocks": 4,
    "attn_resolutions": (16,),
    "embedding_type": "positional",
    "encoder_type": "standard",
    "decoder_type": "standard",
    "resample_filter": (1, 1),
}
_DHARIWAL = _COMMON | {
    "model_channels": 192,
    "channel_mult": (1, 2, 3, 4),
    "num_blocks": 3,
    "attn_resolutions": (32, 16, 8),
}
_EDM2 = {
    "label_dim": 0,
    "model_channels": 192,
    "channel_mult": (1, 2, 3, 4),
    "num_blocks": 3,
    "attn_resolutions": (16, 8),
    "channels_per_head": 64,
    "dropout": 0.0,
}
# What tells NCSN++ from DDPM++, besides that its encoder shows the image: (embedding, filter).
_NCSN = ("fourier", (1, 3, 3, 1))


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One published class.

    Attributes:
      name: our network.
      defaults: arguments that become fields, with the constructor's values.
      fixed: arguments of which our network has some values only: argument -> those.
      constants: fixed random numbers: field -> the buffer's name.
    """

    name: str
    defaults: Mapping[str, Any]
    fixed: Mapping[str, tuple[Any, ...]]
    constants: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def has(self, key: str, value: Any) -> bool:
        """Whether our network can be made with this argument."""
        if key in self.fixed:
            return value in self.fixed[key]
        default = self.defaults.get(key)
        kind = int | float if isinstance(default, float) else type(default)
        return key in self.defaults and isinstance(value, kind) and not isinstance(value, bool)


_KNOWN = {
    "SongUNet": Architecture(
        "DDPMpp",
        _SONG,
        fixed={
            "channel_mult_emb": (4,),
            "embedding_type": song.EMBEDDINGS,
            "encoder_type": song.ENCODERS,
            "decoder_type": song.DECODERS,
        },
        constants={"frequencies": "model.map_noise.freqs"},
    ),
    "DhariwalUNet": Architecture(
        "ADM",
        _DHARIWAL,
        fixed={"channel_mult_emb": (4,)},
    ),
    "UNet": Architecture(
        "EDM2",
        _EDM2,
        fixed={
            "channel_mult_noise": (None, 1),
            "channel_mult_emb": (None,),
            "label_balance": (0.5,),
            "concat_balance": (0.5,),
            "resample_filter": ((1, 1),),
            "res_balance": (0.3,),
            "attn_balance": (0.3,),
            "clip_act": (256,),
        },
        constants={
            "frequencies": "unet.emb_fourier.freqs",
            "phases": "unet.emb_fourier.phases",
            "logvar_frequencies": "logvar_fourier.freqs",
            "logvar_phases": "logvar_fourier.phases",
        },
    ),
}


def fields(network: Persistent, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """config.network of a published network, and `label_dropout`, which is the config's own.

    Args:
      network: the U-Net inside its preconditioner.
      state: the arrays of the whole snapshot, for the fixed random frequencies.

    Raises:
      ForeignFileError: for another class, or a choice that our network does not have.
    """
    known = _KNOWN.get(network.class_name)
    if known is None:
        raise ForeignFileError(
            f"has a network of class {network.class_name[:50]!r}; known are {', '.join(_KNOWN)}."
        )
    settings = {key: v for key, v in network.arguments().items() if key not in _SHAPE}
    if known.name == "DDPMpp":
        settings = _without_noise_width(settings)
    for key, value in settings.items():
        if not known.has(key, value):
            raise ForeignFileError(
                f"has a {network.class_name} with {ascii(key)[1:-1][:50]}={ascii(value)[:50]}, which "
                f"{known.name} here does not have."
            )
    chosen = dict(known.defaults) | {k: v for k, v in settings.items() if k in known.defaults}
    if not 0 < chosen["num_blocks"] * len(chosen["channel_mult"]) <= len(state):
        raise ForeignFileError(f"has a {network.class_name} of more blocks than arrays: damaged.")
    made = {_FIELDS.get(key, key): value for key, value in chosen.items()}
    name = known.name
    if name == "DDPMpp" and (made["embedding"], made["resample_filter"]) == _NCSN:
        name = "DDPMpp" if made["encoder"] == "standard" else "NCSNpp"
    constants = {} if made.get("embedding") == "positional" else _constants(known, state)
    return {"name": name} | made | constants | {"dtype": "float32", "remat": "none"}


def without_absent_attention(made: dict[str, Any], image_size: int) -> tuple[int, ...]:
    """Leaves out of a network's fields the attention resolutions that no level has.

    The published networks ignore them silently, and their default names 16 whatever the image's size.

    Returns:
      Those that were left out.
    """
    there = {image_size >> level for level in range(len(made["channel_mult"]))}
    wanted = made["attention_resolutions"]
    made["attention_resolutions"] = tuple(r for r in wanted if r in there)
    return tuple(r for r in wanted if r not in there)


def _constants(known: Architecture, state: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The fixed random frequencies and phases."""
    missing = sorted(set(known.constants.values()) - state.keys())
    if missing:
        raise ForeignFileError(f"has no {missing[0]}, which the network was trained with: damaged.")
    return {
        field: tuple(state[buffer].astype(float).ravel().tolist())
        for field, buffer in known.constants.items()
    }


def _without_noise_width(settings: dict[str, Any]) -> dict[str, Any]:
    """Drops SongUNet's channel_mult_noise, which goes with the embedding: 1 positional, 2 Fourier."""
    rest = dict(settings)
    width = rest.pop("channel_mult_noise", 1)
    embedding = rest.get("embedding_type", "positional")
    if width != (2 if embedding == "fourier" else 1):
        raise ForeignFileError(
            f"has a SongUNet with channel_mult_noise={ascii(width)[:50]} and embedding_type="
            f"{ascii(embedding)[:50]}, which is neither DDPM++ nor NCSN++."
        )
    return rest
