"""Random places in a batch, by group."""

import numpy as np
import pytest
import tensorflow as tf

from twhin_tf.model.batch_draws import draw_places


def seeds(count):
    return [tf.constant([7, step], tf.int64) for step in range(count)]


@pytest.mark.parametrize("groups", [3, 20], ids=["few", "many"])
def test_places_are_permutations_of_each_group_repeated(groups):
    group = tf.constant([2, 0, 2, 2, 0, 2])
    members = {0: {1, 4}, 2: {0, 2, 3, 5}}
    orders = set()
    for seed in seeds(20):
        places = draw_places(group, groups, 5, seed).numpy()
        assert places.shape == (groups, 5)
        for number, own in members.items():
            size = len(own)
            assert set(places[number, :size]) == own
            np.testing.assert_array_equal(
                places[number], np.resize(places[number, :size], 5)
            )
        orders.add(tuple(places[2]))
        # A relation that the batch lacks: some place of the batch.
        assert (places[1] >= 0).all() and (places[1] < 6).all()
    assert len(orders) > 4


@pytest.mark.parametrize("groups", [1, 20], ids=["few", "many"])
def test_every_place_is_drawn_equally_often(groups):
    group = tf.zeros([5], tf.int32)
    drawn = [draw_places(group, groups, 1, seed).numpy()[0, 0] for seed in seeds(500)]
    counts = np.bincount(drawn, minlength=5)
    assert counts.min() > 60 and counts.max() < 140


def test_a_batch_that_is_too_large():
    with pytest.raises(ValueError, match="A batch holds at most 16777259 edges"):
        draw_places(tf.zeros([16777260], tf.int32), 1, 1, seeds(1)[0])
