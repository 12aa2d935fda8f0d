"""Tables cut by rows: the same vectors, gradients, updates and checkpoints as whole."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.command import UserError
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.sparse_adagrad import RowWiseAdagrad, SparseAdagrad
from recap_tf.core.optimizers.sparse_ftrl import SparseFTRL
from recap_tf.core.optimizers.sparse_sgd import SparseSGD
from recap_tf.core.storage import sharded_tables
from recap_tf.core.storage.half_precision import read_rows
from recap_tf.core.storage.sharded_tables import (
    ShardedVariable,
    make_table,
    partitioner,
    shards_of,
)
from recap_tf.core.training.checkpoints import Checkpoints
from recap_tf.core.training.same_model import weight_shapes

ROWS, DIM = 10, 3
OPTIMIZERS = [SparseSGD, SparseAdagrad, RowWiseAdagrad, LazyAdam, SparseFTRL]


def table_of(values, shards, dtype=tf.float32):
    """A variable, or one cut as the strategy does: 10 rows in 3 are 4, 3 and 3."""
    values = tf.cast(values, dtype)
    if shards == 1:
        return tf.Variable(values)
    parts = np.array_split(np.arange(len(values)), shards)
    # Named as the strategy does, since optimizers know a sharded variable by it.
    return ShardedVariable(
        [
            tf.Variable(tf.gather(values, part), name=f"table/part_{number}")
            for number, part in enumerate(parts)
        ]
    )


def values(rows=ROWS, dim=DIM):
    return np.random.default_rng(0).normal(size=(rows, dim)).astype(np.float32)


class Run:
    """A table and its optimizer, as a training has them."""

    def __init__(self, start, shards, optimizer=LazyAdam, dtype=tf.float32):
        self.model = tf.Module()
        self.model.table = table_of(start, shards, dtype)
        self.weights = shards_of(self.model.table)
        self.optimizer = GroupedOptimizer(
            {"table": (optimizer(learning_rate=0.1), self.weights)}
        )
        self.optimizer.create_slots()

    @tf.function
    def update(self, rows):
        with tf.GradientTape() as tape:
            vectors = read_rows(self.model.table, rows)
            loss = tf.reduce_sum(vectors**2 * tf.constant([1.0, 2.0, 3.0]))
        gradients = tape.gradient(loss, self.weights)
        self.optimizer.apply_gradients(zip(gradients, self.weights, strict=True))

    def numpy(self):
        return tf.cast(tf.convert_to_tensor(self.model.table), tf.float32).numpy()

    def checkpoints(self, folder, background=False):
        state = {"optimizer": self.optimizer}
        return Checkpoints(str(folder), self.model, state, background=background)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize("rows", [[9, 0, 4, 3, 4, 9], [[7, 2], [2, 0]], [5], []])
def test_rows_come_in_the_order_asked_for(rows, dtype):
    rows = tf.constant(rows, tf.int32)
    whole, sharded = (table_of(values(), n, dtype) for n in (1, 3))
    expected = tf.cast(tf.gather(whole, rows), tf.float32)
    found = tf.function(lambda: read_rows(sharded, rows))()
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == tf.float32 and found.shape == expected.shape


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_each_shard_gets_the_gradients_of_its_rows(dtype):
    sharded = table_of(values(), 3, dtype)
    with tf.GradientTape() as tape:
        vectors = read_rows(sharded, tf.constant([9, 0, 4, 0]))
        loss = tf.reduce_sum(vectors * tf.constant([[1.0], [2.0], [3.0], [4.0]]))
    found = tape.gradient(loss, shards_of(sharded))
    assert [slices.indices.numpy().tolist() for slices in found] == [[0, 0], [0], [2]]
    weights = [slices.values.numpy()[:, 0].tolist() for slices in found]
    assert weights == [[2.0, 4.0], [3.0], [1.0]]
    assert all(slices.values.dtype == tf.float32 for slices in found)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_shards_are_updated_as_a_whole_table_is(optimizer):
    whole, sharded = (Run(values(), n, optimizer) for n in (1, 3))
    for rows in ([0, 4, 9, 4], [1, 2], [9, 9, 5, 0]):
        for run in (whole, sharded):
            run.update(tf.constant(rows))
    np.testing.assert_allclose(sharded.numpy(), whole.numpy(), rtol=1e-6)
    assert not np.allclose(whole.numpy(), values())


def test_16_bit_shards_are_updated_in_their_rows_only():
    start = Run(values(), 3, SparseAdagrad, tf.bfloat16).numpy()
    sharded = Run(values(), 3, SparseAdagrad, tf.bfloat16)
    whole = Run(values(), 1, SparseAdagrad)
    for run in (whole, sharded):
        run.update(tf.constant([0, 4, 9, 4]))
    changed = np.any(sharded.numpy() != start, axis=1)
    assert np.flatnonzero(changed).tolist() == [0, 4, 9]
    np.testing.assert_allclose(sharded.numpy(), whole.numpy(), atol=0.03)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_no_update_touches_a_whole_shard(optimizer):
    run = Run(np.ones((1000, DIM), np.float32), 2, optimizer)
    graph = run.update.get_concrete_function(tf.TensorSpec([4], tf.int32)).graph
    sizes = {
        dimension
        for operation in graph.get_operations()
        for output in operation.outputs
        if output.dtype != tf.resource and output.shape.rank
        for dimension in output.shape.as_list()
    }
    assert 4 in sizes and not sizes & {500, 1000}


@pytest.mark.parametrize("before, after", [(3, 1), (1, 3), (3, 2), (3, 3)])
def test_checkpoints_move_between_numbers_of_shards(tmp_path, before, after):
    first = Run(values(), before)
    for _ in range(3):
        first.update(tf.constant([0, 3, 9]))
    first.checkpoints(tmp_path).save(3, config="")
    second = Run(np.zeros((ROWS, DIM), np.float32), after)
    second.checkpoints(tmp_path).restore(str(tmp_path / "checkpoints/step-00000003"))
    np.testing.assert_array_equal(second.numpy(), first.numpy())
    # The optimizer's state has come along: both go on alike.
    for run in (first, second):
        run.update(tf.constant([3, 5]))
    np.testing.assert_allclose(second.numpy(), first.numpy(), rtol=1e-6)


def test_a_checkpoint_of_another_size_is_refused(tmp_path):
    Run(values(), 3).checkpoints(tmp_path).save(1, config="")
    other = Run(values(rows=12), 3).checkpoints(tmp_path)
    with pytest.raises(UserError, match=r"table is \[10, 3\] there and \[12, 3\] here"):
        other.restore(str(tmp_path / "checkpoints/step-00000001"))
    assert weight_shapes(Run(values(), 3).model) == {"table": [ROWS, DIM]}


@pytest.mark.parametrize("rows, shards", [(100_000, 3), (2000, 2), (1000, 1)])
def test_only_tables_are_cut_and_no_shard_is_tiny(rows, shards):
    cut, found = partitioner(3), []

    def creator(following, **kwargs):
        shape, dtype = tf.TensorShape(kwargs["shape"]), tf.as_dtype(kwargs["dtype"])
        found.append(list(cut(shape, dtype)))
        return following(**kwargs)

    initializer = keras.initializers.get("uniform")
    with tf.variable_creator_scope(creator):
        make_table(initializer, (rows, DIM), "float32", "one")
        shape = tf.TensorShape([rows, DIM])
        tf.Variable(lambda: tf.zeros(shape), shape=shape, dtype=tf.float32)
    assert found == [[shards, 1], [1, 1]]


def test_a_table_starts_as_its_initializer_says():
    keras.utils.set_random_seed(3)
    table = make_table(keras.initializers.get("uniform"), (5, 2), "float16", "one")
    keras.utils.set_random_seed(3)
    expected = keras.initializers.get("uniform")((5, 2), tf.float32)
    assert table.dtype == tf.float16
    np.testing.assert_array_equal(table, tf.cast(expected, tf.float16))


def test_initializers_that_need_the_whole_table_are_refused(monkeypatch):
    servers = object.__new__(tf.distribute.ParameterServerStrategy)
    monkeypatch.setattr(sharded_tables.tf.distribute, "get_strategy", lambda: servers)
    message = r"The initializer of table 'user' must be one of Zeros, .* Glorot"
    with pytest.raises(UserError, match=message):
        make_table(keras.initializers.GlorotUniform(), (5, 2), "float32", "user")
