"""Writes snapshots in the format of EDM and EDM2, from arrays by their published names. Needs torch.

    python tests/convert/make_snapshot.py tests/convert/tiny.pkl

makes the committed tiny.pkl, a DDPM++ of 8 x 8 pixels with random weights, and tiny.npz, the same arrays
as torch's own state_dict gives them. The modules have no forward pass: only their names, arguments and
arrays are pickled, in the way of NVlabs' `persistence`.
"""

import contextlib
import pathlib
import pickle
import sys
import types

import numpy as np

# The source that persistent objects carry; running it would be seen.
SOURCE = "import pathlib\npathlib.Path('the_source_was_run').touch()\n"
BUFFERS = ("resample_filter", "freqs", "phases", "u")
TINY = dict(
    embedding_type="positional",
    encoder_type="standard",
    decoder_type="standard",
    channel_mult_noise=1,
    resample_filter=[1, 1],
    model_channels=8,
    channel_mult=[1],
    num_blocks=1,
    attn_resolutions=[],
    dropout=0.13,
    augment_dim=9,
)


def reconstruct(meta):
    raise AssertionError("a snapshot was unpickled by its own rules")


class EasyDict(dict):
    pass


@contextlib.contextmanager
def published_modules():
    """NVlabs' modules, as far as their names are pickled."""
    reconstruct.__module__, reconstruct.__qualname__ = (
        "torch_utils.persistence",
        "_reconstruct_persistent_obj",
    )
    EasyDict.__module__ = "dnnlib.util"
    made = {
        name: types.ModuleType(name)
        for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util")
    }
    made["torch_utils.persistence"]._reconstruct_persistent_obj = reconstruct
    made["dnnlib.util"].EasyDict = EasyDict
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


def persistent(name, base=object):
    """A class whose objects are pickled as `persistence` does it."""

    def reduce(self):
        state = base.__reduce__(self)[2]
        meta = dict(type="class", version=6, module_src=SOURCE, class_name=name, state=state)
        return reconstruct, (meta,), None

    return type(name, (base,), {"__reduce__": reduce})


def made(name, base=object, /, *, attributes=(), **kwargs):
    """An object of a persistent class, called with `kwargs`."""
    built = persistent(name, base)()
    for key, value in {**dict(attributes), "_init_args": (), "_init_kwargs": kwargs}.items():
        setattr(built, key, value)
    return built


def module(name, arrays, *, children=None, attributes=(), **kwargs):
    """A torch module from arrays by name; `children` says of which class those of a path are."""
    import torch

    built = made(name, torch.nn.Module, attributes=attributes, **kwargs)
    groups = {}
    for key, value in arrays.items():
        first, _, rest = key.partition(".")
        if rest:
            groups.setdefault(first, {})[rest] = value
        elif first in BUFFERS:
            built.register_buffer(first, torch.as_tensor(value))
        else:
            parameter = torch.nn.Parameter(torch.as_tensor(value), requires_grad=False)
            built.register_parameter(first, parameter)
    for first, inner in groups.items():
        built.add_module(first, _child(first, inner, children or {}))
    return built


def _child(name, arrays, children):
    import torch

    if name in children:
        return children[name](arrays)
    if name in ("enc", "dec"):
        keys = dict.fromkeys(key.partition(".")[0] for key in arrays)
        blocks = torch.nn.ModuleDict()
        for key in keys:
            inner = {k.partition(".")[2]: v for k, v in arrays.items() if k.startswith(key + ".")}
            # NumPy's numbers are among the attributes of the published files.
            blocks[key] = module("UNetBlock", inner, attributes={"skip_scale": np.sqrt(0.5)})
        return blocks
    return module("Conv2d", arrays, attributes={"up": False}, bias=True)


def precond(name, network, arrays, *, image_size, channels, classes, attributes, kwargs, inner):
    """A preconditioned network.

    Args:
      name: its class.
      network: the U-Net's class.
      arrays: by their names in the whole, "model.enc...".
      attributes: what the constructor stores besides the sizes.
      kwargs: the U-Net's arguments.
      inner: the U-Net's name, "model" or "unet".
    """
    sizes = dict(img_resolution=image_size, img_channels=channels, label_dim=classes)
    if inner == "model":
        told = dict(img_resolution=image_size, in_channels=channels, out_channels=channels)
        told |= dict(label_dim=classes)
    else:
        told = dict(sizes)
    children = {inner: lambda own: module(network, own, **told, **kwargs)}
    stored = {**sizes, "use_fp16": False, **attributes}
    return module(
        name, arrays, children=children, attributes=stored, model_type=network, **sizes, **kwargs
    )


def edm_snapshot(network):
    """The dict that EDM's training pickles."""
    return dict(
        ema=network,
        loss_fn=made("EDMLoss", attributes=dict(P_mean=-1.1, P_std=1.3, sigma_data=0.5)),
        augment_pipe=made("AugmentPipe", attributes=dict(p=0.12, xflip=1e8), p=0.12),
        dataset_kwargs=dict(class_name="training.dataset.ImageFolderDataset", path="images.zip"),
    )


def dump(snapshot, path, protocol=4):
    """Writes a snapshot as the published ones are: by pickle, tensors in torch's legacy streams."""
    with published_modules(), open(path, "wb") as file:
        pickle.dump(snapshot, file, protocol=protocol)


def tiny_arrays(rng, width=TINY["model_channels"], channels=3, classes=4):
    """Random weights of TINY, in half precision as EDM2's are."""
    emb, shapes = 4 * width, {}

    def layer(name, *shape, bias=True):
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    def block(name, features, attends=False):
        layer(f"{name}.norm0", features)
        layer(f"{name}.conv0", width, features, 3, 3)
        layer(f"{name}.affine", width, emb)
        layer(f"{name}.norm1", width)
        layer(f"{name}.conv1", width, width, 3, 3)
        if features != width:
            layer(f"{name}.skip", width, features, 1, 1)
        if attends:
            layer(f"{name}.norm2", width)
            layer(f"{name}.qkv", 3 * width, width, 1, 1)
            layer(f"{name}.proj", width, width, 1, 1)

    layer("map_label", width, classes)
    layer("map_augment", width, TINY["augment_dim"], bias=False)
    layer("map_layer0", emb, width)
    layer("map_layer1", emb, emb)
    layer("enc.8x8_conv", width, channels, 3, 3)
    block("enc.8x8_block0", width)
    block("dec.8x8_in0", width, attends=True)
    block("dec.8x8_in1", width)
    block("dec.8x8_block0", 2 * width)
    block("dec.8x8_block1", 2 * width)
    layer("dec.8x8_aux_norm", width)
    layer("dec.8x8_aux_conv", channels, width, 3, 3)
    return {
        f"model.{name}": (0.3 * rng.standard_normal(shape)).astype(np.float16)
        for name, shape in shapes.items()
    }


def tiny(name="EDMPrecond", attributes=None):
    """A preconditioned TINY."""
    limits = dict(sigma_min=0, sigma_max=float("inf"), sigma_data=0.5)
    return precond(
        name,
        "SongUNet",
        tiny_arrays(np.random.default_rng(0)),
        image_size=8,
        channels=3,
        classes=4,
        attributes=limits if attributes is None else attributes,
        kwargs=TINY,
        inner="model",
    )


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    net = tiny()
    dump(edm_snapshot(net), target)
    saved = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    np.savez_compressed(target.with_suffix(".npz"), **saved)
