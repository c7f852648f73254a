"""A snapshot's network, arguments and arrays -> our config and parameters."""

import dataclasses
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from noise_sched import experiment
from noise_sched.experiment import ConfigError, Experiment
from noise_sched.interop.nvlabs import architectures, preconditioners, snapshot
from noise_sched.interop.nvlabs.snapshot import Persistent
from noise_sched.interop.pickles.unpickler import ForeignFileError, brief
from noise_sched.networks.published import params_from_state_dict

# Of generate.py (EDM) and generate_images.py (EDM2).
_STEPS = {"EDMPrecond": 18, "VPPrecond": 18, "VEPrecond": 18, "iDDPMPrecond": 18, "Precond": 32}
Shapes = dict[str, tuple[int, ...]]
_PIXELS = "StandardRGBEncoder"


@dataclasses.dataclass(frozen=True)
class Converted:
    """A snapshot in our terms.

    Attributes:
      experiment: built from its config.
      params: the network's parameters, those of the snapshot's moving average.
      title: what it was, in a few words.
      note: what of the snapshot's settings means nothing, in a sentence; "" for none.
    """

    experiment: Experiment
    params: Any
    title: str
    note: str = ""


def convert(loaded: dict[str, Any], steps: int | None = None, latents: bool = False) -> Converted:
    """The config and parameters of a snapshot.

    Args:
      loaded: `snapshot.read`'s dict.
      steps: of the sampling; None for the published number, 18 or EDM2's 32.
      latents: accept a network that makes latents of an autoencoder, no images.

    Raises:
      ValueError: for what has no counterpart here.
    """
    made = loaded["ema"]
    _check_encoder(loaded.get("encoder"), latents)
    choices = preconditioners.choices(made, loaded.get("loss_fn"))
    network = snapshot.child(made, "unet" if made.class_name == "Precond" else "model")
    state = _arrays(made)
    config = _base()
    config.update(process="ve()", **choices.top)
    learns_uncertainty = network.class_name == "UNet"  # EDM2's
    config.loss.update(self_conditioning=0.0, uncertainty=learns_uncertainty, **choices.loss)
    config.data.update(
        name="unknown",
        image_size=preconditioners.whole(made, "img_resolution"),
        channels=preconditioners.whole(made, "img_channels"),
    )
    fields = architectures.fields(network, state)
    absent = architectures.without_absent_attention(fields, config.data.image_size)
    config.label_dropout = float(fields.pop("label_dropout", 0.0))
    config.network = ConfigDict(fields)
    config.optimizer.update(name="adam", learning_rate=1e-4, decay="none", warmup_steps=0)
    config.sample.update(
        steps=steps or _STEPS[made.class_name],
        solver="heun()",
        guidance="none()",
        threshold="none()",
        **choices.sample,
    )
    built, params = _build(config, state)
    classes = f", {fields['num_classes']} classes" if fields["num_classes"] else ""
    size = f"{config.data.image_size}x{config.data.image_size}x{config.data.channels}"
    title = f"{made.class_name} of {fields['name']}, {size}{classes}"
    return Converted(built, params, title, _note(absent))


def _note(absent: tuple[int, ...]) -> str:
    if not absent:
        return ""
    sizes = ascii(absent)[:50].strip("(,)")
    return (
        f"no level has the attention resolutions {sizes}: left out, as the published network does."
    )


def _base() -> ConfigDict:
    """Every key of a config with its default."""
    try:
        from configs import common
    except ImportError:
        raise ValueError(
            "there is no folder configs/ here: run the command in a checkout of the repository, as "
            "it starts from configs/common.py."
        ) from None
    return common.base()


def _check_encoder(encoder: Any, latents: bool) -> None:
    """Refuses a network of latents: EDM2's files name what turns its output into images."""
    if isinstance(encoder, Persistent) and encoder.class_name != _PIXELS and not latents:
        raise ForeignFileError(
            f"makes latents for {encoder.class_name[:50]!r}, no images, and there is no such decoder "
            "here. --latents converts it all the same, to be drawn from Python."
        )


def _arrays(made: Persistent) -> dict[str, np.ndarray]:
    """All arrays that our network knows too."""
    state = snapshot.state_dict(made)
    state.pop("u", None)  # iDDPM's table of levels
    if made.class_name == "iDDPMPrecond":
        # The network also predicts variances, which sampling never uses.
        channels = preconditioners.whole(made, "img_channels")
        for name in state:
            if (
                name.startswith(("model.out_conv.", "model.dec."))
                and _is_last(name)
                and state[name].ndim
            ):
                state[name] = state[name][:channels]
    return state


def _is_last(name: str) -> bool:
    """Whether an array is of the last convolution: ADM's, or DDPM++'s."""
    return name.split(".")[-2] == "out_conv" or name.split(".")[-2].endswith("_aux_conv")


def _build(config: ConfigDict, state: dict[str, np.ndarray]) -> tuple[Experiment, Any]:
    """The experiment and its parameters."""
    try:
        params = params_from_state_dict(state)
        built = experiment.from_config(config)
        expected = _shapes(jax.eval_shape(built.init_params, jax.random.key(0)))
    except ConfigError:
        raise
    # Names and sizes from a file may be anything, and from inside a network any error may come.
    except Exception as error:
        raise ForeignFileError(f"has settings that make no network ({brief(error)}).") from None
    _check_same_arrays(config.network.name, expected, _shapes(params))
    return built, params


def _check_same_arrays(name: str, expected: Shapes, found: Shapes) -> None:
    """Refuses parameters other than the network's."""
    differing = sorted(p for p in expected.keys() | found.keys() if expected.get(p) != found.get(p))
    if differing:
        path = differing[0]
        raise ForeignFileError(
            f"has other arrays than {name} with the snapshot's own settings: "
            f"{len(differing)} differ, such as {path}: {found.get(path, 'absent')} there, "
            f"{expected.get(path, 'absent')} expected."
        )


def _shapes(tree: Any) -> Shapes:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
