"""Writes the workdirs of this folder, with whichever version of the package is on PYTHONPATH.

    JAX_DISABLE_MOST_OPTIMIZATIONS=1 python tests/workdirs/make.py tests/workdirs/workdirs.tar.xz

README.md says which version wrote those that are committed. Only what has been there since that version
is used: `train.run`, the command `sample`, the configs, and their keys.
"""

import importlib
import json
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile

import jax
import numpy as np
from ml_collections import ConfigDict

from noise_sched import train

STEPS, MORE, IMAGES = 4, 3, 8
EDM2 = dict(
    name="EDM2",
    num_classes=10,
    model_channels=4,
    channel_mult=(1,),
    num_blocks=1,
    attention_resolutions=(),
    channels_per_head=4,
    dtype="float32",
)


def configs() -> dict[str, ConfigDict]:
    """A RIN with a plain average, and EDM2's recipe with snapshots of two averages."""
    rin, edm2 = (
        importlib.import_module(f"configs.{name}").get_config("tiny")
        for name in ("digits", "edm_digits")
    )
    rin.network.update(num_layers=(1,), latent_slots=4, latent_mlp_ratio=1, tape_mlp_ratio=1)
    rin.network.update(latent_dim=8, latent_heads=1, tape_dim=8, rw_heads=1)
    edm2.network = ConfigDict(EDM2)
    edm2.loss.update(self_conditioning=0.0, uncertainty=True)
    edm2.optimizer.update(name="adam", normalize_weights=True)
    edm2.ema.update(stds=(0.05, 0.1), snapshot_every=2)
    made = {"rin": rin, "edm2": edm2}
    for config in made.values():
        config.data.image_size = 4
        config.train.update(steps=STEPS + MORE, log_every=1, checkpoint_every=STEPS, keep=1)
        config.sample.update(steps=2, batch_size=IMAGES)
    return made


def entries(tree) -> dict[str, list[float]]:
    """Of every array, by its path, a few entries from all over it."""
    leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(tree))
    return {
        jax.tree_util.keystr(path): [
            float(f"{x:.9g}") for x in np.ravel(leaf)[:: max(1, leaf.size // 4)]
        ]
        for path, leaf in leaves
    }


def metrics(folder: pathlib.Path) -> list[dict[str, float]]:
    """What training wrote of each step after the checkpoint, without when and how fast."""
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [
        {key: row[key] for key in row if key not in ("time", "wall") and "per_sec" not in key}
        for row in rows
        if row["step"] > STEPS
    ]


def stopped(config: ConfigDict, folder: pathlib.Path) -> None:
    """Trains until the first checkpoint, as a run that is killed then."""
    whole = train.fit
    train.fit = lambda *args, **more: whole(*args, **more | {"steps": STEPS})
    try:
        train.run(config, folder)
    finally:
        train.fit = whole


def write(config: ConfigDict, out: pathlib.Path) -> None:
    """The workdir, and what this version made of it."""
    folder, drawn = out / "workdir", out / "drawn"
    stopped(config, folder)
    shutil.rmtree(folder / "tensorboard")
    command = [sys.executable, "-m", "noise_sched.sample", f"--num_images={IMAGES}"]
    subprocess.run([*command, f"--workdir={folder}", f"--out={drawn}"], check=True)
    shutil.copytree(folder, out / "further")
    state = train.run(config, out / "further").state
    expected = {
        "images": np.load(drawn / "samples.npz")["images"].tolist(),
        "metrics": metrics(out / "further"),
        "params": entries(state.params),
        "ema": entries(state.ema_params),
    }
    (out / "expected.json").write_text(json.dumps(expected))
    shutil.rmtree(out / "further")
    shutil.rmtree(drawn)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch, tarfile.open(sys.argv[1], "w:xz") as archive:
        for name, config in configs().items():
            write(config, pathlib.Path(scratch) / name)
            archive.add(pathlib.Path(scratch) / name, name)
