"""Times RIN and DDPM++ at 32 px against PyTorch networks of equal size: one Markdown table.

    python -m benchmarks.networks --out=docs/results/networks.md

Needs `torch`, `diffusers` and `rin-pytorch` (install that one with --no-deps: it would replace torch,
and only its trainer needs the rest). The peers are rin-pytorch's RIN and diffusers' UNet2DModel, with
the sizes of configs/cifar10_rin.py and configs/cifar10_edm.py, without labels. A forward is one
evaluation; a training step is loss, gradient and Adam on a batch that is already there, the loss a
mean square, one evaluation each (no self-conditioning pass). Repeats are interleaved, the two sides in
turn, and ratios are of medians, so that a busy machine slows both. Compilation is not in the figures.

On a CPU both are float32 and torch is eager, as it is usually run there. On a GPU both are bfloat16
with float32 parameters; torch is compiled, with channels last.
"""

import argparse
import dataclasses
import importlib.machinery
import importlib.util
import os
import pathlib
import statistics
import sys
import time
import types
from collections.abc import Callable
from typing import Any

# Both frameworks share one GPU: JAX must not take all of its memory at the start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from ml_collections import ConfigDict
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import machine
from configs import cifar10_edm, cifar10_rin
from noise_sched import experiment

SIZE, CHANNELS = 32, 3
LEARNING_RATE = 1e-4
# Dense bfloat16 peaks in TFLOP/s, from the makers' data sheets.
PEAKS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "L4": 121.0}


@dataclasses.dataclass(frozen=True)
class Side:
    """One network of a pair, ready to run.

    Attributes:
      name: for the table.
      parameters: how many.
      forward_flops: of one image, multiplications and additions; as the framework counts them.
      forward: one evaluation of the batch, waited for.
      train: one training step on it, waited for.
      compiling: seconds until both had run once.
    """

    name: str
    parameters: int
    forward_flops: float
    forward: Callable[[], Any]
    train: Callable[[], Any]
    compiling: float


def pairs(dtype: Any) -> dict[str, tuple[Any, Callable[[], torch.nn.Module]]]:
    """Ours, and how to make the peer."""
    rin = network_of(cifar10_rin.get_config(), dtype, drop_units=0.0, drop_path=0.0)
    unet = network_of(cifar10_edm.get_config("C"), dtype, dropout=0.0)
    return {"RIN": (rin, rin_peer), "DDPM++": (unet, unet_peer)}


def network_of(config: ConfigDict, dtype: Any, **changes: Any) -> Any:
    """The network of a config, without labels."""
    config.network.update(num_classes=0, dtype=str(jnp.dtype(dtype)), **changes)
    return experiment.from_config(config).network


def rin_peer() -> torch.nn.Module:
    """rin-pytorch's RIN with the sizes of ours; it has no attention among patches then."""
    _stand_in("torchvision", "transforms", "utils")
    _stand_in("ema_pytorch", "EMA")
    _stand_in("accelerate", "Accelerator", "DistributedDataParallelKwargs")
    from rin_pytorch import RIN

    return RIN(
        dim=256,
        image_size=SIZE,
        patch_size=2,
        channels=CHANNELS,
        depth=3,
        latent_self_attn_depth=2,
        dim_latent=512,
        num_latents=127,
        latent_token_time_cond=True,
        patches_self_attn=False,
        heads=16,
        dim_head=32,
    )


def _stand_in(name: str, *attributes: str) -> None:
    """An empty module where something that rin-pytorch's trainer needs is not installed."""
    if importlib.util.find_spec(name) is None:
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        for attribute in attributes:
            setattr(module, attribute, None)
        sys.modules[name] = module


def unet_peer() -> torch.nn.Module:
    """diffusers' U-Net with DDPM++'s widths, depth and attention at 16 px."""
    return diffusers.UNet2DModel(
        sample_size=SIZE,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        layers_per_block=4,
        block_out_channels=(256, 256, 256),
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=256,
        norm_num_groups=32,
    )


def ours(name: str, network: Any, x: np.ndarray) -> Side:
    """Our network, jitted; the training state is donated from step to step."""
    batch, noise = jnp.asarray(x), jnp.zeros(len(x))
    memory = network.initial_memory(len(x))
    variables = jax.jit(lambda key: network.init(key, batch, noise, None, memory))
    params = variables(jax.random.key(0))["params"]
    optimizer = optax.adam(LEARNING_RATE)

    @jax.jit
    def forward(params, batch):
        return network.apply({"params": params}, batch, noise, None, memory)[0]

    def loss(params, batch):
        out, _ = network.apply({"params": params}, batch, noise, None, memory, train=True)
        return jnp.mean(jnp.square(out - batch))

    def step(params, opt_state, batch):
        value, grads = jax.value_and_grad(loss)(params, batch)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    start = time.perf_counter()
    compiled = jax.jit(forward).lower(params, batch).compile()
    flops = float(compiled.cost_analysis()["flops"]) / len(x)
    compiled(params, batch).block_until_ready()
    # The training state has buffers of its own, for it is donated.
    state = [jax.tree.map(jnp.copy, params), optimizer.init(params)]
    train_step = jax.jit(step, donate_argnums=(0, 1)).lower(*state, batch).compile()

    def train():
        state[0], state[1], value = train_step(*state, batch)
        return value.block_until_ready()

    train()
    seconds = time.perf_counter() - start
    count = sum(leaf.size for leaf in jax.tree.leaves(params))
    return Side(
        f"{name} (noise_sched)",
        count,
        flops,
        lambda: compiled(params, batch).block_until_ready(),
        train,
        seconds,
    )


def theirs(make: Callable[[], torch.nn.Module], x: np.ndarray, gpu: bool) -> Side:
    """The peer: eager in float32 on a CPU, compiled in bfloat16 with channels last on a GPU."""
    device = torch.device("cuda" if gpu else "cpu")
    layout = torch.channels_last if gpu else torch.contiguous_format
    torch.manual_seed(0)
    model = make().to(device).to(memory_format=layout)
    batch = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    batch = batch.to(device).to(memory_format=layout)
    noise = torch.zeros(len(x), device=device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=gpu)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(batch, noise)
    name = f"{type(model).__name__} ({type(model).__module__.split('.')[0].replace('_', '-')})"
    parameters = sum(each.numel() for each in model.parameters())
    start = time.perf_counter()
    network = torch.compile(model) if gpu else model

    def evaluate():
        with torch.autocast(device.type, torch.bfloat16, enabled=gpu):
            out = network(batch, noise)
        return out if torch.is_tensor(out) else out.sample

    def wait():
        if gpu:
            torch.cuda.synchronize()

    def forward():
        with torch.no_grad():
            evaluate()
        wait()

    def train():
        optimizer.zero_grad(set_to_none=True)
        torch.mean(torch.square(evaluate().float() - batch)).backward()
        optimizer.step()
        wait()

    forward()
    train()
    seconds = time.perf_counter() - start
    return Side(name, parameters, counter.get_total_flops() / len(x), forward, train, seconds)


def measure(sides: list[Side], repeats: int) -> list[dict[str, list[float]]]:
    """Seconds of every repeat, for each side: {"forward": [...], "train": [...]}."""
    found: list[dict[str, list[float]]] = [{"forward": [], "train": []} for _ in sides]
    for _ in range(repeats):
        for what in ("forward", "train"):
            for side, times in zip(sides, found, strict=True):
                start = time.perf_counter()
                getattr(side, what)()
                times[what].append(time.perf_counter() - start)
    return found


def rows(sides: list[Side], found: list[dict], batch: int, peak: float | None) -> list[str]:
    """Two lines of the table, ours and the peer's."""
    lines = []
    medians = [
        {what: statistics.median(times[what]) for what in ("forward", "train")} for times in found
    ]
    for i, (side, median) in enumerate(zip(sides, medians, strict=True)):
        # A backward pass is about two forward ones.
        rate = 3 * side.forward_flops * batch / median["train"] / 1e12
        cells = [side.name, f"{side.parameters / 1e6:.2f} M", f"{side.forward_flops / 1e9:.1f}"]
        for what in ("forward", "train"):
            cells += [f"{1e3 * median[what]:.0f}", f"{batch / median[what]:.1f}"]
            cells += [f"{medians[1][what] / median[what]:.2f}×" if i == 0 else ""]
        cells += [f"{rate:.3g}" + (f" ({rate / peak:.0%})" if peak else "")]
        cells += [f"{side.compiling:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Prints the table and writes it to --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, help="Markdown file to write.")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, help="Images; by default 8, on a GPU 256.")
    parser.add_argument("--only", choices=["RIN", "DDPM++"], help="One of the pairs.")
    arguments = parser.parse_args()
    gpu = jax.default_backend() == "gpu"
    batch = arguments.batch or (256 if gpu else 8)
    peak = _peak() if gpu else None

    lines = head(batch, arguments.repeats, gpu)
    print("\n".join(lines))
    x = np.random.default_rng(0).standard_normal((batch, SIZE, SIZE, CHANNELS)).astype(np.float32)
    for name, (network, make) in pairs(jnp.bfloat16 if gpu else jnp.float32).items():
        if arguments.only in (None, name):
            sides = [ours(name, network, x), theirs(make, x, gpu)]
            lines += rows(sides, measure(sides, arguments.repeats), batch, peak)
            print("\n".join(lines[-2:]), flush=True)
    if arguments.out:
        arguments.out.write_text("\n".join(lines) + "\n")


def _peak() -> float | None:
    kind = jax.devices()[0].device_kind
    return next((peak for name, peak in PEAKS.items() if name in kind), None)


def head(batch: int, repeats: int, gpu: bool) -> list[str]:
    """What was run, where and with what."""
    how = "bfloat16, torch.compile, channels last" if gpu else "float32, torch eager"
    return [
        "# Networks against PyTorch's",
        "",
        f"    python -m benchmarks.networks {' '.join(sys.argv[1:])}".rstrip(),
        "",
        f"32×32 pixels, batch {batch}, {how}. {machine.describe()},",
        f"torch {torch.__version__} ({torch.get_num_threads()} threads), diffusers "
        f"{diffusers.__version__}. Medians of {repeats} interleaved repeats.",
        "GFLOP are of one image's forward, 2 for a multiply-add, as each framework counts them; the "
        "rate takes a training step for three forwards.",
        "",
        "| network | parameters | GFLOP | forward, ms | images/s | ratio | train step, ms | images/s "
        "| ratio | TFLOP/s in training | first run, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]


if __name__ == "__main__":
    main()
