"""Large tables: what a lookup gives, what an update touches, what goes wrong."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.embeddings import tpu_tables
from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.embeddings.open_vocabulary import OpenVocabulary
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.optimizers.grouped import Adam, GroupedOptimizer
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.learning_rate_schedules import LinearRampToConstant
from recap_tf.core.optimizers.sparse_adagrad import RowWiseAdagrad
from recap_tf.core.optimizers.sparse_ftrl import SparseFTRL
from recap_tf.core.optimizers.sparse_sgd import SparseSGD

# Bags of four examples: two ids, none, one twice, none.
BAGS = tf.SparseTensor(
    [[0, 0], [0, 1], [2, 0], [2, 1]], tf.constant([1, 3, 2, 2], tf.int64), [4, 2]
)


def _spec(**settings) -> TableSpec:
    return TableSpec(
        **({"name": "users", "rows": 5, "dim": 2, "features": ["id"]} | settings)
    )


def _layer(*specs) -> EmbeddingTables:
    return EmbeddingTables(specs or [_spec()])


def _numbered(layer, inputs, name="users", training=None):
    """Calls `layer` after row r of the table became (r, 10 r)."""
    layer(inputs)
    table = layer.variable(name)
    rows = np.arange(len(table.numpy()), dtype=np.float32)
    table.assign(np.stack([rows, 10 * rows], axis=1))
    return layer(inputs, training=training)


@pytest.mark.parametrize(
    "combiner, expected",
    [
        ("sum", [[4, 40], [0, 0], [4, 40], [0, 0]]),
        ("mean", [[2, 20], [0, 0], [2, 20], [0, 0]]),
    ],
)
def test_bags_of_any_length(combiner, expected):
    layer = _layer(_spec(combiner=combiner))
    vectors = _numbered(layer, {"id": BAGS})["id"]
    np.testing.assert_array_equal(vectors.numpy(), expected)


def test_dense_columns_are_bags_of_all_their_ids():
    ids = tf.constant([[0, 1, 1], [4, 0, 0]], tf.int32)
    vectors = _numbered(_layer(), {"id": ids})["id"]
    np.testing.assert_array_equal(vectors.numpy(), [[2, 20], [4, 40]])
    vectors = _numbered(_layer(), {"id": tf.constant([3, 0])})["id"]
    np.testing.assert_array_equal(vectors.numpy(), [[3, 30], [0, 0]])


def test_a_batch_of_empty_bags_and_an_empty_batch():
    empty = tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.zeros([0], tf.int64), [3, 0])
    layer = _layer()
    np.testing.assert_array_equal(layer({"id": empty})["id"].numpy(), np.zeros((3, 2)))
    assert layer({"id": tf.zeros([0, 2], tf.int64)})["id"].shape == (0, 2)


def test_features_share_a_table_and_tables_keep_to_themselves():
    layer = _layer(_spec(features=["id", "liked"]), _spec(name="b", features=["x"]))
    one = tf.constant([[3]])
    vectors = _numbered(layer, {"id": one, "liked": one, "x": one, "other": one})
    assert set(vectors) == {"id", "liked", "x"}
    np.testing.assert_array_equal(vectors["id"].numpy(), vectors["liked"].numpy())
    assert [w.shape.as_list() for w in layer.trainable_weights] == [[5, 2], [5, 2]]
    assert np.abs(vectors["x"].numpy()).max() < 0.06


def test_static_shapes_where_the_batch_has_one():
    layer = _layer()
    layer({"id": BAGS})
    traced = tf.function(lambda ids: layer({"id": ids})["id"])
    spec = tf.SparseTensorSpec([4, None], tf.int64)
    assert traced.get_concrete_function(spec).output_shapes == (4, 2)


def test_an_update_touches_the_rows_of_its_batch_only():
    """Also no row in place of an empty bag: LazyAdam would move it."""
    layer = _layer(_spec(optimizer=LazyAdam, learning_rate=0.1))
    layer({"id": BAGS})
    ((optimizer, (table,)),) = layer.optimizers().values()
    optimizer._create_all_weights([table])
    optimizer.get_slot(table, "moments").assign(tf.ones([5, 4]))
    before = table.numpy()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer({"id": BAGS}, training=True)["id"])
    gradients = tape.gradient(loss, layer.trainable_weights)
    assert isinstance(gradients[0], tf.IndexedSlices)
    optimizer.apply_gradients(zip(gradients, [table], strict=True))
    moved = (table.numpy() != before).any(axis=1)
    assert moved.tolist() == [False, True, True, True, False]


def test_each_table_has_its_optimizer_and_rate():
    layer = _layer(
        _spec(optimizer=SparseSGD, learning_rate=LinearRampToConstant(0.5, 10)),
        _spec(name="b", features=["x"], optimizer=SparseFTRL, learning_rate=0.2),
    )
    layer({"id": BAGS, "x": BAGS})
    dense = tf.Variable([1.0])
    optimizer = GroupedOptimizer({"net": (Adam(0.1), [dense])})
    optimizer.add_groups(layer.optimizers())
    optimizer.create_slots()
    rates = optimizer.learning_rates(5)
    assert rates == pytest.approx({"net": 0.1, "table/users": 0.25, "table/b": 0.2})
    weights = [dense, *layer.trainable_weights]
    before = [weight.numpy() for weight in weights]
    for _ in range(2):
        with tf.GradientTape() as tape:
            vectors = layer({"id": BAGS, "x": BAGS}, training=True)
            loss = dense[0] * sum(tf.reduce_sum(v) for v in vectors.values())
        gradients = tape.gradient(loss, weights)
        optimizer.apply_gradients(zip(gradients, weights, strict=True))
    # FTRL's state is part of what a checkpoint holds.
    assert len(optimizer.weights) == 3 + 2 + 1
    for weight, old in zip(weights, before, strict=True):
        assert (weight.numpy() != old).any()


def test_l2_is_of_the_rows_that_examples_look_up():
    layer = _layer(_spec(l2=0.5))
    _numbered(layer, {"id": BAGS})
    assert layer.losses == []
    with tf.GradientTape() as tape:
        layer({"id": BAGS}, training=True)
        (penalty,) = layer.losses
    # Rows 1 and 3 once, row 2 twice, four examples; row r has squares of 101 r^2.
    assert float(penalty) == pytest.approx(0.5 * 101 * (1 + 9 + 2 * 4) / 4)
    gradient = tape.gradient(penalty, layer.variable("users"))
    assert sorted(gradient.indices.numpy().tolist()) == [1, 2, 3]


def test_mean_norms_of_the_tables_that_ask_for_it():
    layer = _layer(_spec(log_norm=True), _spec(name="b", features=["x"]))
    _numbered(layer, {"id": BAGS, "x": BAGS})
    expected = np.mean([r * np.sqrt(101) for r in range(5)])
    assert layer.norms() == {"users": pytest.approx(expected)}


def test_norms_of_tables_larger_than_a_chunk():
    layer = _layer(_spec(rows=70_000, log_norm=True))
    layer({"id": BAGS})
    expected = np.linalg.norm(layer.variable("users").numpy(), axis=1).mean()
    assert layer.norms()["users"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": LazyAdam, "learning_rate": LinearRampToConstant(0.5, 10)},
        {"open_vocabulary": OpenVocabulary(ways=5), "combiner": "mean", "l2": 0.1},
        {"hashed": True, "initializer": {"class_name": "Ones", "config": {}}},
    ],
    ids=["plain", "optimizer", "open", "hashed"],
)
def test_saves_and_loads_alone(tmp_path, settings):
    inputs = {"id": keras.Input([3], dtype=tf.int64)}
    model = keras.Model(inputs, _layer(_spec(**settings))(inputs))
    path = str(tmp_path / "model.keras")
    model.save(path)
    again = keras.models.load_model(path)
    ids = tf.constant([[0, 1, 4], [3, 3, 3]], tf.int64)
    assert (model({"id": ids})["id"].numpy() != 0).any()
    np.testing.assert_array_equal(
        model({"id": ids})["id"].numpy(), again({"id": ids})["id"].numpy()
    )
    first, second = model.layers[-1], again.layers[-1]
    assert first.get_config() == second.get_config()
    made = [
        one.tables["users"].make_optimizer().get_config() for one in (first, second)
    ]
    assert made[0] == made[1]


@pytest.mark.parametrize("bad", [[7, 2], [-1]])
@pytest.mark.parametrize("training", [True, False])
def test_ids_outside_the_table(bad, training):
    layer = _layer()
    layer({"id": BAGS})
    look_up = tf.function(lambda ids: layer({"id": ids}, training=training)["id"])
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        look_up(tf.constant([[0, *bad, 4]], tf.int64))
    text = str(caught.value)
    assert "Embedding table users has rows 0 to 4; ids of feature id outside" in text
    assert str(bad[0]) in text


@pytest.mark.parametrize(
    "inputs, message",
    [
        ({}, r"looks up feature 'id', which is not among the features: \['x'\]"),
        ({"id": tf.ones([2, 3])}, "'id' holds float32 values, but embedding table"),
        ({"id": tf.constant([["a"]])}, "'id' holds strings, but table 'users' has no"),
    ],
    ids=["missing", "vector", "strings"],
)
def test_a_feature_that_cannot_be_looked_up(inputs, message):
    with pytest.raises(ValueError, match=message):
        _layer()({"x": BAGS} | inputs)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"rows": 0}, "TableSpec.rows of table 'users' must be at least 1"),
        ({"dim": -3}, "TableSpec.dim .* must be at least 1. Received: -3"),
        (
            {"combiner": "max"},
            r"combiner .* must be one of \['sum', 'mean'\]. Received: 'max'",
        ),
        ({"l2": -0.1}, "TableSpec.l2 of table 'users' must be at least 0. Rec"),
        ({"features": []}, "TableSpec.features .* at least one name"),
        (
            {"hashed": True, "vocabulary": "v.parquet"},
            "takes one of .* Received: vocabulary and hashed",
        ),
        (
            {"hashed": True, "pretrained": "s.npz"},
            "TableSpec.pretrained .* needs ids with fixed rows, which hashed",
        ),
    ],
)
def test_a_spec_that_is_wrong(settings, message):
    with pytest.raises(ValueError, match=message):
        _spec(**settings)


def test_an_optimizer_that_is_not_for_rows():
    layer = _layer(_spec(optimizer=Adam))
    layer({"id": BAGS})
    with pytest.raises(ValueError, match=r"TableSpec.optimizer .* Received: Adam"):
        layer.optimizers()


def test_tables_and_features_appear_once():
    with pytest.raises(ValueError, match="Two tables are called 'users'"):
        _layer(_spec(), _spec(features=["x"]))
    with pytest.raises(ValueError, match="Two tables serve feature 'id'"):
        _layer(_spec(), _spec(name="b"))


def _as_if_on_tpu(monkeypatch, *specs, **settings) -> EmbeddingTables:
    """A layer that takes this machine for a TPU; only the cores are missing."""
    monkeypatch.setattr(tpu_tables, "under_tpu", lambda: True)
    layer = EmbeddingTables(specs, **settings)
    layer.build(None)
    return layer


def test_tpus_get_rows_from_the_host_and_update_themselves(monkeypatch):
    rate = LinearRampToConstant(0.5, 10)
    spec = _spec(optimizer=LazyAdam, learning_rate=rate, hashed=True)
    layer = _as_if_on_tpu(monkeypatch, spec, replica_batch_size=4)
    rows = layer.rows_of({"id": tf.sparse.map_values(tf.as_string, BAGS)})
    assert rows["id"].dtype == tf.int64 and int(tf.reduce_max(rows["id"].values)) < 5
    on_device = layer(rows)["id"]
    assert on_device.shape[1] == 2
    (config,) = {feature.table for feature in layer._features.values()}
    assert config.optimizer.lazy_adam
    ((counter, _),) = layer.optimizers().values()
    counter.iterations.assign(4)
    assert float(config.optimizer.learning_rate()) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "spec, settings, message",
    [
        ({}, {}, "EmbeddingTables.replica_batch_size must be given on TPUs"),
        ({"l2": 0.1}, {"replica_batch_size": 4}, "TableSpec.l2 of table 'users' is no"),
        (
            {"open_vocabulary": OpenVocabulary(ways=5)},
            {"replica_batch_size": 4},
            "TableSpec.open_vocabulary of table 'users' is not to be had",
        ),
        (
            {"optimizer": RowWiseAdagrad},
            {"replica_batch_size": 4},
            "RowWiseAdagrad does not exist on TPUs",
        ),
    ],
    ids=["batch size", "l2", "open vocabulary", "optimizer"],
)
def test_what_tpus_do_not_have(monkeypatch, spec, settings, message):
    with pytest.raises(ValueError, match=message):
        _as_if_on_tpu(monkeypatch, _spec(**spec), **settings)


REPLICAS = """
import recap_tf, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.embeddings.open_vocabulary import OpenVocabulary
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad, RowWiseAdagrad
from recap_tf.core.optimizers.sparse_ftrl import SparseFTRL
from recap_tf.core.optimizers.sparse_sgd import SparseSGD
from recap_tf.core.training.strategy import make_strategy

ids = tf.constant([[0, 1], [1, 1], [3, 0], [4, 1]], tf.int64)
for make in (SparseSGD, SparseAdagrad, RowWiseAdagrad, LazyAdam, SparseFTRL):
    tables = []
    for name in ("one_device", "mirrored"):
        strategy = make_strategy(name)
        spec = TableSpec(
            name="users", rows=6, dim=2, features=["id"], optimizer=make,
            learning_rate=0.1, initializer={"class_name": "Ones", "config": {}},
        )
        with strategy.scope():
            layer = EmbeddingTables([spec])
            layer.build(None)
            ((optimizer, weights),) = layer.optimizers().values()
            optimizer._create_all_weights(weights)

        def replica(batch):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(layer({"id": batch}, training=True)["id"] ** 2)
            gradients = tape.gradient(loss, layer.trainable_weights)
            optimizer.apply_gradients(zip(gradients, layer.trainable_weights))

        count = strategy.num_replicas_in_sync
        split = strategy.experimental_distribute_values_from_function(
            lambda c: ids[c.replica_id_in_sync_group :: count]
        )
        step = tf.function(lambda batch: strategy.run(replica, (batch,)))
        for _ in range(3):
            step(split if count > 1 else ids)
        tables.append(layer.variable("users").numpy())
    assert count == 2 and (tables[0][:2] != 1).any() and (tables[0][5] == 1).all()
    np.testing.assert_allclose(*tables, rtol=1e-5)

with strategy.scope():
    spec = TableSpec(name="users", rows=8, dim=2, features=["id"],
                     open_vocabulary=OpenVocabulary())
    try:
        EmbeddingTables([spec]).build(None)
    except ValueError as error:
        print(error)
"""


def test_replicas_train_as_one_device_does_and_share_no_open_vocabulary():
    done = subprocess.run(
        [sys.executable, "-c", REPLICAS], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "TableSpec.open_vocabulary of table 'users' needs" in done.stdout
    assert "Received: MirroredStrategy with 2 replicas" in done.stdout


SCORE = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
assert not {"recap_tf", "tensorflow_recommenders"} & set(sys.modules)
ids = tf.constant(np.load(sys.argv[2]))
np.save(sys.argv[3], loaded.signatures["serving_default"](ids=ids)["users"])
"""


@pytest.mark.parametrize("kind", ["open", "vocabulary"])
def test_a_bare_tensorflow_scores_an_export_the_same(tmp_path, kind):
    if kind == "open":
        settings = {"open_vocabulary": OpenVocabulary(admit_after=2)}
    else:
        path = str(tmp_path / "vocabulary.parquet")
        entities = list(range(100, 116))
        pyarrow.parquet.write_table(
            pa.table({"entity": entities, "row": list(range(16))}), path
        )
        settings = {"vocabulary": path}
    layer = _layer(_spec(rows=16, features=["ids"], **settings))
    ids = np.arange(100, 130).reshape(10, 3)
    for _ in range(12):
        layer({"ids": tf.constant(ids[:4])}, training=True)
    expected = layer({"ids": tf.constant(ids)})["ids"].numpy()
    shared = 3 * layer.variable("users").numpy()[-1]
    # The first examples' ids have rows of their own, the last ones' the shared row.
    assert (np.abs(expected[:3] - shared) > 1e-6).any(axis=1).all()
    np.testing.assert_allclose(expected[-1], shared, rtol=1e-5)
    served = tf.Module()
    served.weights, served.vocabularies = layer.weights, layer.lookup_tables
    score = tf.function(
        lambda ids: {"users": layer({"ids": ids})["ids"]},
        input_signature=[tf.TensorSpec([None, None], tf.int64, "ids")],
    )
    tf.saved_model.save(served, str(tmp_path / "model"), score)
    np.save(tmp_path / "ids.npy", ids)
    paths = [str(tmp_path / name) for name in ("model", "ids.npy", "out.npy")]
    done = subprocess.run(
        [sys.executable, "-c", SCORE, *paths], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(paths[2]), expected, rtol=1e-6)
