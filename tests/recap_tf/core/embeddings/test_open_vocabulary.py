"""Rows for unlisted ids: who gets one, who loses it, and what the others see."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.embeddings.open_vocabulary import OpenVocabulary, OpenVocabularyRows
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad


def _rows(rows: int, **settings) -> OpenVocabularyRows:
    finder = OpenVocabularyRows("users", rows, OpenVocabulary(**settings))
    finder.build(None)
    return finder


def _learn(finder, ids) -> list[int]:
    return finder.learn({"id": tf.constant(ids, tf.int64)}).numpy().tolist()


def _find(finder, ids) -> list[int]:
    ids = tf.constant(ids, tf.int64) if not isinstance(ids, tf.Tensor) else ids
    return finder({"id": ids})["id"].numpy().tolist()


def test_an_id_gets_its_row_at_the_kth_sighting():
    finder = _rows(8, admit_after=3)
    for sighting in range(2):
        _learn(finder, [7])
        assert _find(finder, [7]) == [8], sighting
    _learn(finder, [7])
    (row,) = _find(finder, [7])
    assert 0 <= row < 8
    _learn(finder, [7, 7])
    assert _find(finder, [7]) == [row]
    assert finder.counts.numpy()[row] == 5


def test_sightings_within_a_batch_all_count():
    finder = _rows(8, admit_after=3)
    _learn(finder, [7, 7, 7, 5])
    seven, five = _find(finder, [7, 5])
    assert seven < 8 and five == 8


def test_reading_changes_nothing():
    finder = _rows(8, admit_after=1)
    _learn(finder, [1, 2])
    before = [weight.numpy() for weight in finder.weights]
    _find(finder, list(range(100)))
    for one, weight in zip(before, finder.weights, strict=True):
        np.testing.assert_array_equal(one, weight.numpy())


def test_the_least_recent_leaves():
    finder = _rows(2, ways=2, admit_after=1)
    _learn(finder, [10])
    _learn(finder, [20])
    _learn(finder, [10])
    (of_twenty,) = _find(finder, [20])
    assert _learn(finder, [30]) == [of_twenty]
    ten, twenty, thirty = _find(finder, [10, 20, 30])
    assert ten < 2 and twenty == 2 and thirty == of_twenty


def test_the_least_frequent_leaves_if_it_was_seen_less_than_the_new_one():
    finder = _rows(2, ways=2, admit_after=1, evict="least_frequent", halve_every=99)
    for ids in ([10] * 5, [20] * 3, [10], [20]):
        _learn(finder, ids)
    (of_twenty,) = _find(finder, [20])
    for _ in range(4):
        assert _learn(finder, [30]) == []
        assert _find(finder, [30]) == [2]
    assert _learn(finder, [30]) == [of_twenty]
    assert _find(finder, [10, 20, 30])[1:] == [2, of_twenty]


def test_a_row_whose_id_is_in_the_batch_is_not_taken():
    finder = _rows(2, ways=2, admit_after=1)
    _learn(finder, [10])
    _learn(finder, [20])
    assert _learn(finder, [10, 20, 30]) == []
    assert _find(finder, [30]) == [2]


def test_what_was_frequent_long_ago_is_forgotten():
    finder = _rows(8, admit_after=4, halve_every=6)
    _learn(finder, [7, 7, 7])
    _learn(finder, [1, 2, 3])  # Six sightings: 7 counts 1 from here.
    _learn(finder, [7, 7])
    assert _find(finder, [7]) == [8]
    _learn(finder, [7])
    assert _find(finder, [7])[0] < 8


def test_frequent_ids_get_rows_of_their_own_and_rare_ones_do_not():
    finder = _rows(64, admit_after=5)
    random = np.random.default_rng(3)
    learn = tf.function(lambda ids: finder.learn({"id": ids}))
    frequent = np.arange(20)
    for step in range(60):
        rare = 1000 + 50 * step + np.arange(50)
        ids = np.concatenate([random.permutation(frequent), rare])
        learn(tf.constant(ids, tf.int64))
    own = _find(finder, frequent)
    assert len(set(own)) == 20 and max(own) < 64
    assert _find(finder, 1000 + np.arange(50 * 60)).count(64) == 3000


def test_strings_are_ids_too():
    finder = _rows(8, admit_after=1)
    for _ in range(3):
        finder.learn({"id": tf.constant(["ann", "bob"])})
    ann, bob, eve = _find(finder, tf.constant(["ann", "bob", "eve"]))
    assert ann != bob and max(ann, bob) < 8 and eve == 8


def test_features_of_one_table_share_what_they_learn():
    finder = _rows(8, admit_after=2)
    one = tf.constant([5], tf.int64)
    finder.learn({"clicked": one, "shared": one})
    rows = finder({"clicked": one, "shared": one})
    assert rows["clicked"] == rows["shared"] < 8


def test_an_evicted_row_starts_anew_with_its_optimizer_state():
    spec = TableSpec(
        name="users",
        rows=1,
        dim=3,
        features=["id"],
        optimizer=SparseAdagrad,
        learning_rate=1.0,
        open_vocabulary=OpenVocabulary(admit_after=1, ways=1),
    )
    layer = EmbeddingTables([spec])

    @tf.function
    def train(ids):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer({"id": ids}, training=True)["id"])
        return tape.gradient(loss, layer.trainable_weights)

    def step(ids):
        gradients = train(tf.constant(ids, tf.int64))
        optimizer.apply_gradients(zip(gradients, layer.trainable_weights, strict=True))

    layer({"id": tf.constant([[1]], tf.int64)})
    ((optimizer, (table,)),) = layer.optimizers().values()
    optimizer._create_all_weights([table])
    for _ in range(3):
        step([[1]])
    assert table.numpy()[0].max() < -1
    accumulated = optimizer.get_slot(table, "accumulator")
    np.testing.assert_allclose(accumulated.numpy()[0], 3.1, rtol=1e-5)
    shared = table.numpy()[1]
    # The newcomer's row is looked up, and learned, from its fresh start.
    step([[2]])
    np.testing.assert_allclose(accumulated.numpy()[0], 1.1, rtol=1e-5)
    start = table.numpy()[0] + 1.0 / np.sqrt(1.1)
    assert np.abs(start).max() <= 0.05 + 1e-5
    np.testing.assert_array_equal(table.numpy()[1], shared)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: OpenVocabulary(ways=0), "OpenVocabulary.ways must be at least 1"),
        (
            lambda: OpenVocabulary(evict="random"),
            r"OpenVocabulary.evict must be one of .*Received: 'random'",
        ),
        (lambda: _rows(9, ways=8), "must be a multiple of OpenVocabulary.ways = 8"),
    ],
    ids=["ways", "evict", "rows"],
)
def test_rejects(make, message):
    with pytest.raises(ValueError, match=message):
        make()
