"""Drawing images with a trained model: what `python -m noise_sched.sample` does, as functions.

    drawing.run(config, folder, out, num_images=100)

writes into `out`: samples.npz (images uint8 [n, h, w, c], labels int32 [n]), images/000000.png ...,
grid.png, and last samples.json, which says what they were drawn with.
"""

import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key
from ml_collections import ConfigDict
from tqdm import tqdm

from noise_sched import capacity, experiment, keys, pictures, workdir
from noise_sched.diffusion.sampling import example_keys
from noise_sched.experiment import NO_CLASS, Experiment
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.partitioning import batch_sharding, make_mesh, replicated

# Single .png files are written for up to this many images.
_MAX_PNG = 10_000


def run(config: ConfigDict, folder: pathlib.Path, out: pathlib.Path, num_images: int, step=None):
    """Draws `num_images` images with the model in `folder` into `out`, unless they are there.

    Args:
      config: the workdir's config, with whatever changes in config.sample.
      folder: the workdir.
      out: a new folder, or one that an equal call wrote.
      num_images: how many.
      step: of the checkpoint; None is the newest.

    Returns:
      Whether anything had to be drawn.

    Raises:
      ValueError, OSError: for a config, workdir or output folder that cannot work, before anything
        is drawn or written.
    """
    exp = experiment.from_config(config)
    capacity.check_images("num_images", num_images, exp.image_shape)
    guide = _guide(exp)
    step, params = _restore(exp, folder, step)
    settings = _settings(config, folder, step, num_images)
    if _finished(out, settings):
        return False
    worse = None if guide is None else _restore(guide, _guide_workdir(config), None)[1]
    noise_key, label_key = keys.of_sampling(config.sample.seed)
    labels = np.asarray(draw_labels(label_key, config, num_images))
    _write(out, draw_images(exp, params, noise_key, labels, (guide, worse)), labels, settings)
    return True


def draw_labels(key: Key[Array, ""], config: ConfigDict, count: int) -> Int[Array, "count"]:
    """The label of each image: the chosen classes in turn, or uniform ones; -1 without classes."""
    index = jnp.arange(count)
    if not config.network.num_classes:
        return jnp.full(count, NO_CLASS)
    if config.sample.classes:
        chosen = jnp.asarray(config.sample.classes, jnp.int32)
        return chosen[index % len(config.sample.classes)]
    keys = example_keys(key, index)
    return jax.vmap(lambda k: jax.random.randint(k, (), 0, config.network.num_classes))(keys)


def draw_images(
    exp: Experiment,
    params: Any,
    key: Key[Array, ""],
    labels: np.ndarray,
    guide: tuple[Experiment | None, Any] = (None, None),
) -> np.ndarray:
    """uint8 images [n, h, w, c], in batches split over the devices, with a progress bar.

    Args:
      exp: the experiment, whose config.sample says how.
      params: the network's parameters.
      key: of the run; image i uses key and i alone.
      labels: one per image, -1 for none.
      guide: for autoguidance, the worse model's experiment and parameters.
    """
    mesh = make_mesh()
    run, count = exp.sampler(guide[0]), len(labels)
    size = -(-min(exp.config.sample.batch_size, count) // mesh.size) * mesh.size
    params, worse = jax.device_put((params, guide[1]), replicated(mesh))
    done = []
    with tqdm(total=count, unit="image", file=sys.stderr) as bar:
        for start in range(0, count, size):
            # The last batch is filled up, so that one compiled program serves all.
            index = np.arange(start, start + size)
            batch = jax.device_put(
                (example_keys(key, jnp.asarray(index)), jnp.asarray(labels[index % count])),
                batch_sharding(mesh),
            )
            images = pictures.to_uint8(np.asarray(run(params, *batch, worse)))[: count - start]
            done.append(images)
            bar.update(len(images))
    return np.concatenate(done)


def _restore(exp: Experiment, folder: pathlib.Path, step: int | None):
    if not workdir.checkpoints(folder).is_dir():
        raise FileNotFoundError(
            f"--workdir={folder} has no checkpoints yet: train first, with\n  python -m "
            f"noise_sched.train --config=... --workdir={folder}"
        )
    abstract = exp.averages(jax.eval_shape(exp.init_params, jax.random.key(0)))
    with Checkpoints(workdir.checkpoints(folder), read_only=True) as checkpoints:
        step, averages = checkpoints.restore_ema(abstract, step=step)
    return step, exp.drawn_average(averages)


def _guide(exp: Experiment) -> Experiment | None:
    """The experiment of the worse model of autoguidance, checked against the better one."""
    if not exp.config.sample.guide_workdir:
        return None
    guide = experiment.from_config(workdir.load_config(_guide_workdir(exp.config)))
    exp.check_guide(guide)
    return guide


def _guide_workdir(config: ConfigDict) -> pathlib.Path:
    return pathlib.Path(config.sample.guide_workdir)


def _settings(config: ConfigDict, folder: pathlib.Path, step: int, num_images: int) -> dict:
    sample = json.loads(config.sample.to_json())
    sample.pop("batch_size")  # the images do not depend on it
    return {
        "workdir": folder.resolve().name,
        "step": step,
        "num_images": num_images,
        "sample": sample,
    }


def _finished(out: pathlib.Path, settings: dict) -> bool:
    """Whether `out` already holds exactly this run.

    Raises:
      ValueError: if it holds something else, which is left as it is.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out={out} is a file. Give a folder.")
    record = out / "samples.json"
    if record.is_file():
        try:
            old = json.loads(record.read_text())
        except json.JSONDecodeError:
            old = None
        if old == settings:
            return True
        raise ValueError(
            f"--out={out} holds images drawn otherwise (see {record}). Give another folder: "
            "nothing is overwritten."
        )
    if (out / "samples.npz").exists():
        raise ValueError(f"--out={out} holds a samples.npz of unknown origin. Give another folder.")
    return False


def _write(out: pathlib.Path, images: np.ndarray, labels: np.ndarray, settings: dict) -> None:
    """samples.json comes last: with it the run counts as finished."""
    out.mkdir(parents=True, exist_ok=True)
    if len(images) <= _MAX_PNG:
        (out / "images").mkdir(exist_ok=True)
        for index, image in enumerate(images):
            pictures.to_pil(image).save(out / "images" / f"{index:06d}.png")
    pictures.labelled_grid(images, labels).save(out / "grid.png")
    partial = out / "samples.partial.npz"
    np.savez_compressed(partial, images=images, labels=labels.astype(np.int32))
    partial.replace(out / "samples.npz")
    (out / "samples.json").write_text(json.dumps(settings, indent=2) + "\n")
