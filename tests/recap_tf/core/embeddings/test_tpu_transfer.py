"""Tables on their way between embedding cores and variables; only cores are missing."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.embeddings import tpu_tables
from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.embeddings.tpu_transfer import TpuTransfer
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad
from recap_tf.core.optimizers.sparse_ftrl import SparseFTRL
from recap_tf.core.optimizers.sparse_sgd import SparseSGD

_OPTIMIZERS = [SparseSGD, SparseAdagrad, LazyAdam, SparseFTRL]
# TPUs' name -> column of ours where it begins, and by how much theirs is above.
SIDE_BY_SIDE = {
    LazyAdam: [("momenta", 0, 0.0), ("velocities", 3, 0.0)],
    SparseFTRL: [("accumulators", 0, 0.1), ("linears", 3, 0.0)],
}


def _spec(optimizer, **settings) -> TableSpec:
    return TableSpec(
        name="users", rows=4, dim=3, features=["id"], optimizer=optimizer, **settings
    )


@pytest.fixture
def as_if_on_tpu(monkeypatch):
    """as_if_on_tpu(spec) -> a layer with the state that TPUs keep."""

    def make(spec):
        monkeypatch.setattr(tpu_tables, "under_tpu", lambda: True)
        layer = EmbeddingTables([spec], {"id": 5})
        layer.build(None)
        return layer

    return make


def _trained_off_tpu(spec):
    """A table with its optimizer, all of their numbers different."""
    table, optimizer = tf.Variable(tf.zeros([4, 3])), spec.make_optimizer()
    optimizer._create_all_weights([table])
    slots = [optimizer.get_slot(table, name) for name in optimizer.slot_starts()]
    for number, variable in enumerate([table, *slots]):
        size = int(tf.size(variable))
        values = np.arange(size).reshape(variable.shape) + 100 * number
        variable.assign(values.astype(np.float32))
    return {"users": (optimizer, table)}, [table, *slots]


@pytest.mark.parametrize("optimizer", _OPTIMIZERS)
def test_tables_and_state_go_there_and_back(as_if_on_tpu, tmp_path, optimizer):
    layer = as_if_on_tpu(_spec(optimizer))
    transfer = TpuTransfer(layer, str(tmp_path / "on the way"))
    variables, values = _trained_off_tpu(_spec(optimizer))
    sent = [value.numpy() for value in values]
    transfer.send(variables)
    np.testing.assert_array_equal(layer.variable("users"), sent[0])
    for name, first, above in SIDE_BY_SIDE.get(optimizer, []):
        cores = transfer._in_cores()
        there = tf.train.TrackableView(cores).children(cores)["_variables"]["users"]
        own = sent[1][:, first : first + 3]
        np.testing.assert_allclose(there[name], own + above, rtol=1e-6)
    for value in values:
        value.assign(tf.zeros_like(value))
    transfer.fetch(variables)
    for value, expected in zip(values, sent, strict=True):
        # FTRL's sums less what they start from are rounded.
        np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert not (tmp_path / "on the way").exists()


@pytest.mark.parametrize("optimizer", _OPTIMIZERS)
def test_slots_have_the_names_that_tpus_give_them(optimizer):
    names = optimizer().tpu_slots()
    assert set(names) == set(optimizer().slot_starts())
    flat = [part for parts in names.values() for part in parts]
    assert flat == optimizer().as_tpu(0.1)._slot_names()


def test_cores_load_what_is_sent_and_give_what_is_fetched(
    as_if_on_tpu, tmp_path, monkeypatch
):
    """TensorFlow tells the object of the cores, at the right time."""
    layer = as_if_on_tpu(_spec(SparseAdagrad))
    transfer = TpuTransfer(layer, str(tmp_path / "on the way"))
    cores, told = layer.off_tpu(), []
    monkeypatch.setattr(transfer, "_in_cores", lambda: cores)
    kind = type(cores)

    def record(what):
        def call(self):
            if self is cores:
                told.append((what, float(cores.embedding_tables[users][0, 1])))

        return call

    (users,) = cores.embedding_tables
    monkeypatch.setattr(kind, "_load_variables", record("load"))
    monkeypatch.setattr(kind, "_retrieve_variables", record("retrieve"))
    variables, _ = _trained_off_tpu(_spec(SparseAdagrad))
    transfer.send(variables)
    assert told == [("load", 1.0)]
    transfer.fetch(variables)
    assert told[1:] == [("retrieve", 1.0)]
