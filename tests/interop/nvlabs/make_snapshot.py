"""Writes snapshots in the format of EDM and EDM2, from arrays by their published names. Needs torch.

    python tests/interop/nvlabs/make_snapshot.py tests/interop/nvlabs/tiny.pkl

makes the committed tiny.pkl, a DDPM++ of 8 x 8 pixels with random weights, and tiny.npz, the same arrays
as torch's own state_dict gives them. The modules have no forward pass: only their names, arguments and
arrays are pickled, in the way of NVlabs' `persistence`.
"""

import contextlib
import dataclasses
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


@dataclasses.dataclass
class Tree:
    """A module: what `persistence` pickles of it. No class: a torch.nn.ModuleDict."""

    class_name: str | None
    arrays: dict
    children: dict
    attributes: dict = dataclasses.field(default_factory=dict)
    kwargs: dict = dataclasses.field(default_factory=dict)


def grow(class_name, arrays, attributes=None, kwargs=None):
    """The tree of modules of arrays by their published names."""
    own, groups = {}, {}
    for key, value in arrays.items():
        first, _, rest = key.partition(".")
        if rest:
            groups.setdefault(first, {})[rest] = value
        else:
            own[first] = value
    children = {}
    for first, inner in groups.items():
        block = "_" in first and first[0].isdigit() and any("." in key for key in inner)
        kind = None if first in ("enc", "dec") else "UNetBlock" if block else "Conv2d"
        # NumPy's numbers are among the attributes of the published files.
        children[first] = grow(kind, inner, {"skip_scale": np.sqrt(0.5)} if block else {})
    return Tree(class_name, own, children, attributes or {}, kwargs or {})


def as_torch(tree):
    """The torch module of a tree."""
    import torch

    children = {name: as_torch(child) for name, child in tree.children.items()}
    if tree.class_name is None:
        return torch.nn.ModuleDict(children)
    built = made(tree.class_name, torch.nn.Module, attributes=tree.attributes, **tree.kwargs)
    for name, value in tree.arrays.items():
        if name in BUFFERS:
            built.register_buffer(name, torch.as_tensor(value))
        else:
            parameter = torch.nn.Parameter(torch.as_tensor(value), requires_grad=False)
            built.register_parameter(name, parameter)
    for name, child in children.items():
        built.add_module(name, child)
    return built


def precond(name, network, arrays, *, image_size, channels, classes, attributes, kwargs):
    """The tree of a preconditioned network.

    Args:
      name: its class.
      network: the U-Net's class; EDM2's is UNet.
      arrays: by their names in the whole, "model.enc...".
      attributes: what the constructor stores besides the sizes.
      kwargs: the U-Net's arguments.
    """
    sizes = dict(img_resolution=image_size, img_channels=channels, label_dim=classes)
    inner, told = "unet", sizes
    if network != "UNet":
        inner, told = "model", dict(img_resolution=image_size, label_dim=classes)
        told |= dict(in_channels=channels, out_channels=channels)
    stored = {**sizes, "use_fp16": False, **attributes}
    tree = grow(name, arrays, stored, {"model_type": network, **sizes, **kwargs})
    tree.children[inner].class_name = network
    tree.children[inner].kwargs = {**told, **kwargs}
    return tree


def edm_snapshot(tree):
    """The dict that EDM's training pickles."""
    return dict(
        ema=as_torch(tree),
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


def edm2_arrays(rng, width=4, mults=(1, 2), size=8, channels=3, classes=4):
    """Random weights of a small EDM2 with one block per level and attention at 4 pixels."""
    widths, emb = [width * mult for mult in mults], width * max(mults)
    shapes = {"unet.out_gain": (), "unet.emb_fourier.freqs": (width,)}
    shapes |= {"unet.emb_fourier.phases": (width,), "unet.emb_noise.weight": (emb, width)}
    shapes |= {"unet.emb_label.weight": (emb, classes)}

    def block(name, features, out, decoder=False, attends=False):
        name = f"unet.{name}"
        shapes[f"{name}.emb_gain"] = ()
        shapes[f"{name}.conv_res0.weight"] = (out, features if decoder else out, 3, 3)
        shapes[f"{name}.emb_linear.weight"] = (out, emb)
        shapes[f"{name}.conv_res1.weight"] = (out, out, 3, 3)
        if features != out:
            shapes[f"{name}.conv_skip.weight"] = (out, features, 1, 1)
        if attends:
            shapes[f"{name}.attn_qkv.weight"] = (3 * out, out, 1, 1)
            shapes[f"{name}.attn_proj.weight"] = (out, out, 1, 1)

    names = [f"{size >> level}x{size >> level}" for level in range(len(widths))]
    (big, small), (few, many) = names, widths
    shapes[f"unet.enc.{big}_conv.weight"] = (few, channels + 1, 3, 3)
    block(f"enc.{big}_block0", few, few)
    block(f"enc.{small}_down", few, few)
    block(f"enc.{small}_block0", few, many, attends=True)
    block(f"dec.{small}_in0", many, many, True, True)
    block(f"dec.{small}_in1", many, many, True)
    block(f"dec.{small}_block0", many + many, many, True, True)
    block(f"dec.{small}_block1", many + few, many, True, True)
    block(f"dec.{big}_up", many, many, True)
    block(f"dec.{big}_block0", many + few, few, True)
    block(f"dec.{big}_block1", few + few, few, True)
    shapes["unet.out_conv.weight"] = (channels, few, 3, 3)
    shapes |= {"logvar_fourier.freqs": (128,), "logvar_fourier.phases": (128,)}
    shapes["logvar_linear.weight"] = (1, 128)
    return {n: np.asarray(rng.standard_normal(shape), "f2") for n, shape in shapes.items()}


def edm2():
    """The tree of a small EDM2."""
    kwargs = dict(model_channels=4, channel_mult=[1, 2], num_blocks=1, attn_resolutions=[4])
    return precond(
        "Precond",
        "UNet",
        edm2_arrays(np.random.default_rng(0)),
        image_size=8,
        channels=3,
        classes=4,
        attributes=dict(sigma_data=0.5),
        kwargs=kwargs | dict(channels_per_head=4, dropout=0.0),
    )


def edm2_snapshot(tree):
    """The dict that EDM2's training pickles."""
    return EasyDict(
        encoder=made("StandardRGBEncoder"),
        dataset_kwargs=EasyDict(class_name="training.dataset.ImageFolderDataset"),
        loss_fn=made("EDM2Loss", attributes=dict(P_mean=-0.4, P_std=1.0, sigma_data=0.5)),
        ema=as_torch(tree),
    )


def tiny(name="EDMPrecond", attributes=None):
    """The tree of a preconditioned TINY."""
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
    )


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    made_snapshot = edm_snapshot(tiny())
    dump(made_snapshot, target)
    state = made_snapshot["ema"].state_dict()
    saved = {name: tensor.numpy() for name, tensor in state.items()}
    np.savez_compressed(target.with_suffix(".npz"), **saved)
