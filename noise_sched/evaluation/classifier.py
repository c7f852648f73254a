"""A small classifier, trained on the spot on the reference: judging with labels, without downloaded weights.

It is a convolutional network, small enough to be trained on a CPU. Its features give a Frechet distance
and its classes `class_agreement`. How far it can be trusted is its accuracy on a quarter of the real images,
on which it was not trained; the very network that was measured is the one that judges.

What it does not see: whatever does not move the classes of the reference, such as sharpness.
"""

import dataclasses
import functools
import hashlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int64, UInt8
from sklearn import model_selection

from noise_sched.evaluation.errors import EvaluationInputError
from noise_sched.evaluation.features import Extractor
from noise_sched.evaluation.images import Images

LARGEST = 32  # pixels on a side: larger images are averaged down, which bounds memory and time
MOST = 20_000  # images of the reference that are learned from: 61 MB in colour
FEWEST = 4  # images of a class: three to train, one held out
HELD_OUT_SHARE = 0.25

_STEPS = 1000
_BATCH = 32
_READ = 256  # images read at a time
_LEARNING_RATE = 3e-3
_WEIGHT_DECAY = 1e-2
_LABEL_SMOOTHING = 0.1
_DROPPED = 0.25  # share of the features that each training step leaves out
_NOISE = 0.4 * 255  # the largest standard deviation of the noise on a training image


class Classifier(nn.Module):
    """Three convolutions and a hidden layer: images -> (features, logits).

    There are no normalizations, so that an image's contrast reaches the features.

    Attributes:
      classes: the number of logits.
      features: the width of the hidden layer.
    """

    classes: int
    features: int = 64

    @nn.compact
    def __call__(
        self, images: Float[Array, "n h w c"], dropout: Array | None = None
    ) -> tuple[Float[Array, "n features"], Float[Array, "n classes"]]:
        """Pixels are 0..255 on at most `LARGEST` a side; a key for `dropout` is given in training alone."""
        x = images / 127.5 - 1
        for width, most in ((32, 8), (64, 4), (64, 4)):
            x = nn.silu(nn.Dense(width)(_neighbourhoods(x)))
            if min(x.shape[1:3]) > most:
                x = nn.max_pool(x, (2, 2), (2, 2))
        features = nn.silu(nn.Dense(self.features)(x.reshape(len(x), -1)))
        kept = nn.Dropout(_DROPPED, deterministic=dropout is None)(features, rng=dropout)
        return features, nn.Dense(self.classes)(kept)


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A classifier that has learned a reference.

    Attributes:
      module: the network.
      params: its parameters, NumPy arrays.
      held_out_accuracy: the share of real images, not trained on, whose class it sees.
      held_out_images: how many real images that is.
      trained_images: how many it was trained on.
      seed: what picked the images, split them and began and ordered the training.
    """

    module: Classifier
    params: Any
    held_out_accuracy: float
    held_out_images: int
    trained_images: int
    seed: int


def train(real: Images, seed: int = 0, steps: int = _STEPS) -> Trained:
    """Learns the classes of the reference.

    At most `MOST` of its images are read, drawn by the seed. A quarter of each class is held out. The
    others are learned with label smoothing and noise, and neither shifted nor flipped: where an object is
    belongs to the data. On one machine's CPU equal seeds give equal bits.

    Args:
      real: labelled images; the classes are the labels 0 ... the largest one.
      seed: of all randomness.
      steps: of the optimizer.

    Raises:
      EvaluationInputError: no or negative labels, fewer than two classes, or fewer than four images of one.
    """
    images, labels = _sample(real, seed)
    classes = _checked_classes(real.name, labels)
    rows = model_selection.train_test_split(
        np.arange(len(labels)), test_size=HELD_OUT_SHARE, random_state=seed, stratify=labels
    )
    learned, held_out = (np.sort(part) for part in rows)
    module = Classifier(classes)
    params = jax.device_get(
        _fit(module, steps, images[learned], labels[learned].astype(np.int32), jax.random.key(seed))
    )
    right = sum(
        int(np.sum(_predict(module, params, images[part]) == labels[part]))
        for part in np.array_split(held_out, -(-len(held_out) // 1024))
    )
    return Trained(module, params, right / len(held_out), len(held_out), len(learned), seed)


def extractor(trained: Trained) -> Extractor:
    """The features of the hidden layer and the logits, as `classifier/features` and `classifier/logits`.

    Its settings say how it was trained and how accurate it is on real images that it had not seen.
    """
    module = trained.module

    def apply(params, images, numbers):
        del numbers  # nothing is random
        features, logits = module.apply(params, shrink(images))
        return {"classifier/features": features, "classifier/logits": logits}

    return Extractor(
        name="classifier",
        outputs={"classifier/features": module.features, "classifier/logits": module.classes},
        apply=apply,
        params=trained.params,
        settings={
            "seed": trained.seed,
            "held_out_accuracy": trained.held_out_accuracy,
            "held_out_images": trained.held_out_images,
            "trained_images": trained.trained_images,
            "largest": LARGEST,
            "sha256": _digest(trained.params),
        },
        batch=256,
    )


def shrink(images: UInt8[Array | np.ndarray, "n H W c"]) -> Float[Array, "n h w c"]:
    """Whole numbers 0..255: means of the smallest squares that leave at most `LARGEST` pixels a side."""
    side = -(-max(images.shape[1:3]) // LARGEST)
    pooled = nn.avg_pool(
        jnp.asarray(images, jnp.float32),
        (side, side),
        (side, side),
        "SAME",
        count_include_pad=False,
    )
    return jnp.round(pooled)


def _sample(
    real: Images, seed: int
) -> tuple[UInt8[np.ndarray, "n h w c"], Int64[np.ndarray, " n"]]:
    """At most `MOST` images, shrunk, in their order; neighbours are read together."""
    if not real.labelled:
        raise EvaluationInputError(
            f"{real.name} has no labels, and the classifier learns them. Give a labelled reference, or "
            "leave out class_agreement and the metrics of the classifier's features."
        )
    chosen = np.arange(len(real))
    if len(real) > MOST:
        chosen = np.sort(np.random.default_rng(seed).choice(len(real), MOST, replace=False))
    ends = np.flatnonzero((np.diff(chosen) != 1) | (chosen[1:] % _READ == 0)) + 1
    runs = [real.read(int(run[0]), int(run[-1]) + 1) for run in np.split(chosen, ends)]
    return (
        np.concatenate([np.asarray(shrink(run.images), np.uint8) for run in runs]),
        np.concatenate([run.labels for run in runs]),
    )


def _checked_classes(name: str, labels: np.ndarray) -> int:
    """The number of classes, where they can be learned."""
    if labels.min() < 0:
        raise EvaluationInputError(
            f"{name}: {np.sum(labels < 0)} of {len(labels)} labels are negative (such as {labels.min()}); "
            "the classifier learns classes 0, 1, 2, ..."
        )
    counts = np.bincount(labels)
    if np.sum(counts > 0) < 2:
        raise EvaluationInputError(
            f"{name} has one class only ({labels[0]}): there is nothing to tell apart. Leave out "
            "class_agreement and the metrics of the classifier's features."
        )
    rare = np.flatnonzero((counts > 0) & (counts < FEWEST))
    if len(rare):
        raise EvaluationInputError(
            f"{name}: class {rare[0]} has {counts[rare[0]]} images among the {len(labels)} that the "
            f"classifier learns from, and needs {FEWEST}, a quarter of which are held out. Give more images "
            "of it, or leave out class_agreement and the metrics of the classifier's features."
        )
    return len(counts)


def _neighbourhoods(x: Float[Array, "n h w c"]) -> Float[Array, "n h w 9*c"]:
    """The 3 x 3 around each pixel, zeros beyond the border: a convolution is their product with a matrix.

    XLA's own convolution was about 12 times slower in a training loop on a CPU.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, -1)


@functools.partial(jax.jit, static_argnums=0)
def _predict(module: Classifier, params: Any, images: Array) -> Array:
    return jnp.argmax(_logits(module, params, jnp.asarray(images, jnp.float32)), -1)


def _logits(module: Classifier, params: Any, images: Array, dropout: Array | None = None) -> Array:
    both: Any = module.apply(params, images, dropout)
    return both[1]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _fit(module: Classifier, steps: int, images: Array, labels: Array, key: Array) -> Any:
    """The parameters after all steps of AdamW, as one compiled loop."""
    init_key, key = jax.random.split(key)
    params = module.init(init_key, jnp.asarray(images[:1], jnp.float32))
    rate = optax.cosine_onecycle_schedule(steps, _LEARNING_RATE)
    optimizer = optax.adamw(rate, weight_decay=_WEIGHT_DECAY)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, module.classes), _LABEL_SMOOTHING)

    def loss(params, batch, wanted, dropout):
        return optax.softmax_cross_entropy(_logits(module, params, batch, dropout), wanted).mean()

    def step(carry, key):
        params, state = carry
        row_key, noise_key, dropout_key = jax.random.split(key, 3)
        rows = jax.random.randint(row_key, (_BATCH,), 0, len(labels))
        batch = _noisy(noise_key, jnp.asarray(images[rows], jnp.float32))
        gradient = jax.grad(loss)(params, batch, targets[rows], dropout_key)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to the integer step
            updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    carry = (params, optimizer.init(params))
    return jax.lax.scan(step, carry, jax.random.split(key, steps))[0][0]


def _noisy(key: Array, images: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Each image with noise of a strength of its own.

    Generated images are never quite as the real ones; a classifier that knows nothing else takes small
    faults for another class (docs/results/digits.md).
    """
    strength_key, noise_key = jax.random.split(key)
    strength = _NOISE * jax.random.uniform(strength_key, (len(images), 1, 1, 1))
    return images + strength * jax.random.normal(noise_key, images.shape)


def _digest(params: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()
