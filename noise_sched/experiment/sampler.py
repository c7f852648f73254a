"""Drawing images with a trained model: what `python -m noise_sched.sample` does, as functions.

    sampler.run(config, folder, out, num_images=100)

`samples` says what is written into `out`.

On several hosts all of them draw and the first writes; both folders have to be seen by all.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int, Key
from ml_collections import ConfigDict

from noise_sched import experiment
from noise_sched.diffusion.sampling import example_keys
from noise_sched.experiment import NO_CLASS, Experiment, capacity, keys, locks, samples, workdir
from noise_sched.figures.images import to_uint8
from noise_sched.training import files, hosts, partitioning
from noise_sched.training.checkpoints import Checkpoints
from noise_sched.training.files import Folder
from noise_sched.training.progress import Progress

Step: TypeAlias = int | str | None


def run(
    config: ConfigDict, folder: Folder, out: Folder, num_images: int, step: Step = None
) -> bool:
    """Draws `num_images` images with the model in `folder` into `out`, unless they are there.

    Args:
      config: the workdir's config, with whatever changes in config.sample.
      folder: the workdir.
      out: a new or empty folder, or one that an equal call wrote, to the end or not.
      num_images: how many.
      step: of the checkpoint; None is the newest, "best" that of config.eval.best.

    Returns:
      Whether anything had to be drawn.

    Raises:
      ValueError, OSError: for a config, workdir or output folder that cannot work, before anything
        is drawn or written.
    """
    exp = experiment.from_config(config)
    capacity.check_images("num_images", num_images, exp.image_shape, out)
    _guide(exp)  # one that cannot guide is refused before the folder is looked at
    settings = _settings(config, folder, num_images)
    drawn_at = hosts.first(lambda: samples.look(out, settings))
    if drawn_at is None:
        with locks.hold(out, "--out"):
            # Another process may have drawn it while this one waited for the lock.
            drawn_at = hosts.first(lambda: samples.look(out, settings))
            if drawn_at is None:
                _draw(exp, folder, out, num_images, step, settings)
                return True
    # Where the newest or best checkpoint is asked for, reading tells which it is.
    found = step if isinstance(step, int) else _restore(exp, folder, step)[0]
    samples.check_same_step(out, drawn_at, found)
    return False


def _draw(
    exp: Experiment,
    folder: Folder,
    out: Folder,
    num_images: int,
    step: Step,
    settings: dict,
) -> None:
    """Draws into a folder that is held; what keeps the weights from being read leaves nothing there."""
    config = exp.config
    step, params, guide = restore(exp, folder, step)
    hosts.first(lambda: samples.claim(out, settings))
    noise_key, label_key = keys.of_sampling(config.sample.seed)
    labels = np.asarray(draw_labels(label_key, config, num_images))
    draw, batch = by_number(exp, params, noise_key, labels, guide)
    settings = settings | {"step": step}
    with Progress(num_images, unit="image") as bar:

        def images(start: int, stop: int) -> np.ndarray:
            done = []
            for first in range(start, stop, batch):
                done.append(draw(first, min(first + batch, stop)))
                bar.update(len(done[-1]))
            return np.concatenate(done)

        if num_images <= samples.MOST_IN_ONE:
            drawn = images(0, num_images)
            hosts.first(lambda: samples.write(out, drawn, labels, settings))
        else:
            _draw_shards(out, images, labels, settings, samples.shard_size(exp.image_shape), bar)


def _draw_shards(
    out: Folder,
    images: Callable[[int, int], np.ndarray],
    labels: np.ndarray,
    settings: dict,
    size: int,
    bar: Progress,
) -> None:
    """Draws the shards that are not there, each held alone and written before the next is drawn.

    Batches begin with each shard, wherever a run was killed: on the same devices it comes out bit for bit
    as an undisturbed one.
    """
    missing = hosts.first(lambda: samples.missing_shards(out, len(labels), size))
    for shard, start in enumerate(range(0, len(labels), size)):
        stop = min(start + size, len(labels))
        if shard not in missing:
            bar.update(stop - start)
            continue
        drawn = images(start, stop)
        # The closure is called at once.
        hosts.first(
            lambda s=shard, d=drawn, b=start, e=stop: samples.write_shard(out, s, d, labels[b:e])
        )
    hosts.first(lambda: samples.finish_shards(out, settings | {"shard_size": size}))


def draw_labels(key: Key[Array, ""], config: ConfigDict, count: int) -> Int[Array, "count"]:
    """The label of each image: the chosen classes in turn, or uniform ones; -1 without classes."""
    index = jnp.arange(count)
    if not config.network.num_classes:
        return jnp.full(count, NO_CLASS)
    if config.sample.classes:
        chosen = jnp.asarray(config.sample.classes, jnp.int32)
        return chosen[index % len(config.sample.classes)]
    own_keys = example_keys(key, index)
    return jax.vmap(lambda k: jax.random.randint(k, (), 0, config.network.num_classes))(own_keys)


def by_number(
    exp: Experiment,
    params: Any,
    key: Key[Array, ""],
    labels: np.ndarray,
    guide: tuple[Experiment | None, Any] = (None, None),
    run: Callable[..., Array] | None = None,
) -> tuple[Callable[[int, int], np.ndarray], int]:
    """What draws images start ... stop - 1 of a run, split over the devices, and the best number at a time.

    Args:
      exp: the experiment, whose config.sample says how.
      params: the network's parameters.
      key: of the run; image i uses key and i alone.
      labels: one per image of the run, -1 for none.
      guide: for autoguidance, the worse model's experiment and parameters.
      run: the compiled function; None is `exp.sampler(guide)`.

    Returns:
      A function (start, stop) -> uint8 [stop - start, h, w, c], which all hosts have to call, and the size
      of its batches, which begin at `start`.
    """
    mesh = partitioning.make_mesh()
    draw, count = drawer(exp, mesh, key, guide[0], run), len(labels)
    size = -(-min(exp.config.sample.batch_size, count) // mesh.size) * mesh.size
    params, worse = jax.device_put((params, guide[1]), partitioning.replicated(mesh))

    def images(start: int, stop: int) -> np.ndarray:
        done = []
        for first in range(start, stop, size):
            # The last batch is filled up, so that one compiled program serves all.
            index = np.arange(first, first + size)
            done.append(to_uint8(draw(params, index, labels[index % count], worse)))
        return np.concatenate(done)[: stop - start]

    return images, size


def drawer(
    exp: Experiment,
    mesh: Mesh,
    key: Key[Array, ""],
    guide: Experiment | None = None,
    run: Callable[..., Array] | None = None,
) -> Callable[..., np.ndarray]:
    """A function that draws images by their numbers, on all devices of all hosts.

    Args:
      exp: the experiment, whose config.sample says how.
      mesh: the devices.
      key: of the run; image i depends on key and i alone.
      guide: the experiment of the worse model, for autoguidance.
      run: the compiled function; None is `exp.sampler(guide)`.

    Returns:
      (params, numbers [n], labels [n], the guide's params or None) -> images in [-1, 1], [n, h, w, c].
      All hosts have to call it, with the same arguments; each gets all images.
    """
    run = exp.sampler(guide) if run is None else run
    keys_of = jax.jit(lambda index: example_keys(key, index))

    def draw(params: Any, index: np.ndarray, labels: np.ndarray, worse: Any = None) -> np.ndarray:
        rows = (index.astype(np.int32), labels.astype(np.int32))
        index, labels = partitioning.split_rows(rows, mesh)
        return partitioning.gather(run(params, keys_of(index), labels, worse))

    return draw


def restore(
    exp: Experiment, folder: Folder, step: Step
) -> tuple[int, Any, tuple[Experiment | None, Any]]:
    """The step of a workdir's checkpoint, its averaged parameters, and the guide that its config names.

    Args:
      exp: the workdir's experiment.
      folder: the workdir.
      step: of the checkpoint; None is the newest, "best" that of config.eval.best.

    Raises:
      ValueError, OSError: what is not there, or does not fit.
    """
    guide = _guide(exp)
    step, params = _restore(exp, folder, step)
    worse = None if guide is None else _restore(guide, _guide_workdir(exp.config), None)[1]
    return step, params, (guide, worse)


def _restore(exp: Experiment, folder: Folder, step: Step):
    if step == workdir.BEST:
        return _restore_from(exp, _best(folder), None)
    if not workdir.checkpoints(folder).is_dir():
        raise FileNotFoundError(
            f"--workdir={folder} has no checkpoints yet: train first, with\n  python -m "
            f"noise_sched.train --config=... --workdir={folder}"
        )
    return _restore_from(exp, workdir.checkpoints(folder), None if step is None else int(step))


def _best(folder: Folder) -> Folder:
    place = workdir.best(folder)
    if not place.is_dir():
        raise FileNotFoundError(
            f"--step=best: --workdir={folder} has none. Train with --config.train.eval_every=1000 and "
            "--config.eval.best='swd/distance' (or another figure), or leave --step out for the newest."
        )
    return place


def _restore_from(exp: Experiment, directory: Folder, step: int | None):
    abstract = exp.averages(jax.eval_shape(exp.init_params, jax.random.key(0)))
    everywhere = partitioning.replicated(partitioning.make_mesh())
    abstract = partitioning.with_shardings(abstract, jax.tree.map(lambda _: everywhere, abstract))
    with Checkpoints(directory, read_only=True) as checkpoints:
        step, averages = checkpoints.restore_ema(abstract, step=step)
    return step, exp.drawn_average(averages)


def _guide(exp: Experiment) -> Experiment | None:
    """The experiment of the worse model of autoguidance, checked against the better one."""
    if not exp.config.sample.guide_workdir:
        return None
    guide = experiment.from_config(workdir.load_config(_guide_workdir(exp.config)))
    exp.check_guide(guide)
    return guide


def _guide_workdir(config: ConfigDict) -> Folder:
    return files.folder(config.sample.guide_workdir, "--config.sample.guide_workdir")


def _settings(config: ConfigDict, folder: Folder, num_images: int) -> dict:
    """What the images depend on, but for the checkpoint's step."""
    sample = json.loads(config.sample.to_json())
    sample.pop("batch_size")  # the images do not depend on it
    name = folder.name if files.is_remote(folder) else pathlib.Path(folder).resolve().name
    return {"workdir": name, "num_images": num_images, "sample": sample}
