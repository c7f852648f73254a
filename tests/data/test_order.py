import numpy as np
import pytest

from noise_sched.data import order


@pytest.mark.parametrize("length", [1, 2, 7, 1797])
def test_every_epoch_is_a_permutation(length):
    for epoch in (0, 1, 1000):
        permutation = order.epoch_permutation(3, epoch, length)
        np.testing.assert_array_equal(np.sort(permutation), np.arange(length))


def test_epochs_and_seeds_differ():
    drawn = [order.epoch_permutation(seed, epoch, 100) for seed in (0, 1) for epoch in (0, 1)]
    for i, first in enumerate(drawn):
        for second in drawn[:i]:
            assert (first == second).mean() < 0.2


def test_the_order_is_pinned():
    """A checkpoint of today has to go on with the same images tomorrow."""
    assert order.epoch_permutation(0, 0, 8).tolist() == [0, 2, 1, 5, 4, 3, 6, 7]
    assert order.flips_at(0, 0, 12).astype(int).tolist() == [0, 1, 0, 1, 1, 0, 1, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("pieces", [[10, 10], [1] * 20, [7, 3, 9, 1], [20]])
def test_lookups_do_not_depend_on_how_they_are_cut(pieces):
    length, first = 6, 4
    shuffle = order.Shuffle(5, length)
    whole = shuffle.indices(first, 20), order.flips_at(5, first, 20)
    position, indices, flips = first, [], []
    for count in pieces:
        indices.append(order.Shuffle(5, length).indices(position, count))
        flips.append(order.flips_at(5, position, count))
        position += count
    np.testing.assert_array_equal(np.concatenate(indices), whole[0])
    np.testing.assert_array_equal(np.concatenate(flips), whole[1])


def test_positions_follow_the_epochs():
    shuffle = order.Shuffle(5, 6)
    np.testing.assert_array_equal(shuffle.indices(6, 6), order.epoch_permutation(5, 1, 6))
    # Back to an epoch that was forgotten.
    shuffle.indices(60, 30)
    np.testing.assert_array_equal(shuffle.indices(0, 6), order.epoch_permutation(5, 0, 6))


def test_half_are_flipped_and_neighbours_are_independent():
    flips = order.flips_at(1, 0, 20_000)
    assert abs(flips.mean() - 0.5) < 0.015
    assert abs((flips[1:] == flips[:-1]).mean() - 0.5) < 0.015


def test_large_seeds_and_positions():
    assert order.Shuffle(2**64 - 1, 10).indices(10**15, 3).shape == (3,)
    assert order.flips_at(2**64 - 1, 10**15, 3).shape == (3,)
