import itertools
import json

import numpy as np
import pytest

from noise_sched.data import make_batches, open_source

BATCH = 8


@pytest.fixture(scope="module", params=["memory", "files"])
def source(request, digits_dir):
    budget = 2**28 if request.param == "memory" else 0
    return open_source(
        "digits", image_size=8, data_dir=digits_dir, split="train[:21]", memory_budget=budget
    )


def take(source, count, *, start=0, batch_size=BATCH, seed=1, flip=True, hosts=1):
    """`count` global batches, put together from the rows of all hosts."""
    iterators = [
        make_batches(
            source,
            batch_size=batch_size,
            seed=seed,
            flip=flip,
            process_index=host,
            process_count=hosts,
            start=start,
        )
        for host in range(hosts)
    ]
    batches = []
    for _ in range(count):
        parts = [next(iterator) for iterator in iterators]
        batches.append({key: np.concatenate([p[key] for p in parts]) for key in parts[0]})
    for iterator in iterators:
        iterator.close()
    return batches


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        assert a.keys() == b.keys() == {"image", "label"}
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def numbers(source, batches):
    """Which image, and whether mirrored, stands at each position."""
    images = source.gather(np.arange(len(source)))["image"]
    found = []
    for image in np.concatenate([batch["image"] for batch in batches]):
        (plain,) = np.nonzero((images == image).all(axis=(1, 2, 3)))
        (mirrored,) = np.nonzero((images[:, :, ::-1] == image).all(axis=(1, 2, 3)))
        assert len(plain) + len(mirrored) == 1
        found.append((int([*plain, *mirrored][0]), len(mirrored) == 1))
    return found


def test_shapes_and_types(source):
    (batch,) = take(source, 1)
    assert batch["image"].shape == (BATCH, 8, 8, 1) and batch["image"].dtype == np.float32
    assert batch["label"].shape == (BATCH,) and batch["label"].dtype == np.int32


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_the_global_batch_does_not_depend_on_the_hosts(source, hosts):
    assert_same(take(source, 7, hosts=hosts), take(source, 7))


def test_files_and_memory_give_the_same_batches(digits_dir):
    kept, read = (
        open_source("digits", image_size=6, data_dir=digits_dir, memory_budget=budget)
        for budget in (2**28, 0)
    )
    assert_same(take(kept, 4), take(read, 4))


def test_each_epoch_has_every_image_once_in_a_new_order(source):
    found = numbers(source, take(source, 3 * 21 // BATCH + 1))
    epochs = [[index for index, _ in found[e * 21 : (e + 1) * 21]] for e in range(3)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(21))
    for first, second in itertools.combinations(epochs, 2):
        assert first != second


def test_flips(source):
    flips = [mirrored for _, mirrored in numbers(source, take(source, 30))]
    assert 0.3 < np.mean(flips) < 0.7
    assert not any(mirrored for _, mirrored in numbers(source, take(source, 6, flip=False)))
    # The order does not depend on whether images are mirrored.
    plain, mirrored = take(source, 6, flip=False), take(source, 6)
    for a, b in zip(plain, mirrored, strict=True):
        np.testing.assert_array_equal(a["label"], b["label"])
    # An image is mirrored anew in each epoch.
    by_epoch = dict(enumerate(np.array(flips[: 21 * 11]).reshape(11, 21)))
    assert any((by_epoch[0] != flips_of).any() for flips_of in by_epoch.values())


def test_the_stream_does_not_depend_on_the_batch_size(source):
    small, large = take(source, 8, batch_size=6), take(source, 4, batch_size=12)
    for key in ("image", "label"):
        np.testing.assert_array_equal(
            np.concatenate([b[key] for b in small]), np.concatenate([b[key] for b in large])
        )


def test_seeds_differ(source):
    assert numbers(source, take(source, 2, seed=1)) != numbers(source, take(source, 2, seed=2))


@pytest.mark.parametrize("done", [0, 1, 2, 5])
def test_resuming_equals_not_stopping(source, done):
    whole = take(source, 8)
    iterator = make_batches(source, batch_size=BATCH, seed=1, flip=True)
    for _ in range(done):
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    assert state == {"next_index": done}

    resumed = make_batches(source, batch_size=BATCH, seed=1, flip=True)
    next(resumed)  # A used iterator can be set as well.
    resumed.set_state(state)
    assert resumed.get_state() == state
    assert_same([next(resumed) for _ in range(8 - done)], whole[done:])
    assert resumed.get_state() == {"next_index": 8}
    assert_same(take(source, 8 - done, start=done), whole[done:])


def test_the_number_of_hosts_may_change_midway(source):
    assert_same(
        take(source, 3, hosts=2) + take(source, 2, start=3, hosts=8) + take(source, 2, start=5),
        take(source, 7),
    )


def test_a_batch_may_be_larger_than_the_data_set(source):
    (batch,) = take(source, 1, batch_size=50)
    counts = np.bincount([index for index, _ in numbers(source, [batch])], minlength=21)
    assert set(counts) == {2, 3}


def test_a_read_error_names_the_image(tmp_path):
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    source = open_source(f"folder:{tmp_path}", image_size=16, memory_budget=0)
    with pytest.raises(ValueError, match="cut.png"):
        next(make_batches(source, batch_size=2, seed=0, flip=False))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size=0; expected at least 1"),
        ({"seed": -1}, "seed=-1; expected at least 0"),
        ({"seed": 2**64}, "less than"),
        ({"start": -1}, "start=-1"),
        ({"process_count": 0}, "process_count=0"),
        ({"process_index": 1}, r"process_index=1; expected 0 \.\. 0"),
        ({"process_count": 3}, "batch_size=8 for 3 hosts.*such as 6 or 9"),
        ({"process_count": 16}, "batch_size=8 for 16 hosts.*such as 16"),
    ],
)
def test_bad_arguments(source, options, message):
    with pytest.raises(ValueError, match=message):
        make_batches(source, **{"batch_size": 8, "seed": 0, "flip": False, **options})


@pytest.mark.parametrize(
    "state", [{}, {"next_index": -1}, {"next_index": 1.5}, {"next_index": True}, {"step": 3}]
)
def test_bad_states(source, state):
    iterator = make_batches(source, batch_size=8, seed=0, flip=False)
    with pytest.raises(ValueError, match="next_index"):
        iterator.set_state(state)


def test_large_batches_are_gathered_ahead(source, monkeypatch):
    from noise_sched.data import pipeline

    whole = take(source, 5)
    monkeypatch.setattr(pipeline, "_GATHER_AHEAD_BYTES", 0)
    assert_same(take(source, 5), whole)
