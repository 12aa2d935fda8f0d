"""The training step: sums of gradients, regularization, clipping, replicas."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorflow.python.eager import context as tensorflow_context

from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.losses.grad_norm import GradNorm
from recap_tf.losses.multi_task_loss import MultiTaskLoss
from recap_tf.losses.pairwise_loss import PairwiseLogistic
from recap_tf.losses.pcgrad import PCGrad
from recap_tf.losses.uncertainty_weighting import UncertaintyWeighting
from recap_tf.model.ranking_model import RankingModel
from recap_tf.model.small_embeddings import SmallEmbeddings
from recap_tf.training.training_step import RankerTrainingStep

ROOT = pathlib.Path(__file__).parents[3]
TASKS = ["a", "b"]
L2 = 0.1


class _Recorder:
    """An optimizer that keeps what it is given."""

    def apply_gradients(self, pairs, experimental_aggregate_gradients):
        self.gradients = {weight.ref(): gradient for gradient, weight in pairs}


def _model(l2=0.0) -> RankingModel:
    """One table of 50 rows, a shared layer with L2, two linear towers."""
    model = RankingModel(
        tasks=TASKS,
        preprocessor=None,
        small_embeddings=SmallEmbeddings(
            tables={"ids": {"column": 0, "num_embeddings": 50, "embedding_dim": 2}}
        ),
        backbone=keras.layers.Dense(
            3, use_bias=False, kernel_regularizer=keras.regularizers.L2(l2)
        ),
        tower=lambda: keras.layers.Dense(1),
    )
    model({"discrete": tf.zeros([1, 1], tf.int64)})
    return model


def _batch(ids=(3, 7, 3, 20), seed=0):
    labels = np.random.default_rng(seed).integers(0, 2, (len(ids), 2))
    features = {"discrete": tf.constant(ids, tf.int64, (len(ids), 1))}
    return features, tf.constant(labels), tf.ones([len(ids), 2])


def _step(model, optimizer=None, loss=None, **settings) -> RankerTrainingStep:
    loss = loss or MultiTaskLoss()
    balancing = loss.balancing(model)
    if optimizer is None:
        sgd = keras.optimizers.legacy.SGD
        optimizer = GroupedOptimizer({"all": (sgd(0.1), model.trainable_weights)})
        if own := balancing.trainable_variables:
            optimizer.add_groups({"own": (sgd(0.1), own)})
    step = tf.Variable(0, dtype=tf.int64)
    strategy = tf.distribute.get_strategy()
    return RankerTrainingStep(
        model, loss, balancing, optimizer, step, strategy, **settings
    )


def _weights(model):
    return [weight.numpy() for weight in model.trainable_weights]


@pytest.mark.parametrize("balancing", [None, PCGrad])
def test_gradients_of_tables_stay_rows_when_batches_are_accumulated(balancing):
    model, recorder = _model(), _Recorder()
    loss = MultiTaskLoss(task_balancing=balancing)
    step = _step(model, recorder, loss, gradient_accumulation=2)
    step.on_replica([_batch(), _batch((1, 7), seed=1)])
    table = model.small_embeddings.rows["ids"]
    rows = recorder.gradients[table.ref()]
    assert isinstance(rows, tf.IndexedSlices)
    assert set(rows.indices.numpy()) == {1, 3, 7, 20}
    # The mean of both batches' gradients, as of dense ones.
    expected = np.zeros((50, 2), np.float32)
    for batch in (_batch(), _batch((1, 7), seed=1)):
        alone = _Recorder()
        _step(model, alone).on_replica([batch])
        expected += tf.convert_to_tensor(alone.gradients[table.ref()]).numpy() / 2
    if balancing is None:
        got = tf.convert_to_tensor(rows)
        np.testing.assert_allclose(got, expected, atol=1e-6)


def test_called_it_takes_its_batches_and_counts_the_step():
    model = _model()
    step = _step(model, gradient_accumulation=3)
    left = iter([_batch(seed=seed) for seed in range(4)])

    class Iterator:
        get_next = staticmethod(lambda: next(left))

    report = step(Iterator())
    assert len(list(left)) == 1
    assert step.names == ["loss", "loss/a", "loss/b"] and report.shape == (3,)
    assert step._step.numpy() == 1


@pytest.mark.parametrize("balancing", [None, PCGrad])
@pytest.mark.parametrize("parts", [1, 2])
def test_regularization_is_part_of_the_loss(balancing, parts):
    loss = MultiTaskLoss(task_balancing=balancing)
    after, reports = [], []
    for l2 in (0.0, L2):
        keras.utils.set_random_seed(1)
        model = _model(l2)
        kernel = model.backbone.kernel.numpy()
        step = _step(model, loss=loss, gradient_accumulation=parts)
        reports.append(step.on_replica([_batch()] * parts).numpy())
        after.append(model.backbone.kernel.numpy())
    np.testing.assert_allclose(after[1] - after[0], -0.1 * 2 * L2 * kernel, atol=1e-6)
    penalty = L2 * np.square(kernel).sum()
    np.testing.assert_allclose(reports[1][0] - reports[0][0], penalty, rtol=1e-4)
    np.testing.assert_array_equal(reports[1][1:], reports[0][1:])


def test_clipping_bounds_the_norm_of_the_whole_update():
    moves = {}
    for clip_norm in (None, 1e-3, 1e3):
        keras.utils.set_random_seed(1)
        model = _model()
        before = _weights(model)
        _step(model, clip_norm=clip_norm).on_replica([_batch()])
        after = _weights(model)
        moves[clip_norm] = [b - a for a, b in zip(before, after, strict=True)]
    flat = {k: np.concatenate([m.ravel() for m in v]) for k, v in moves.items()}
    np.testing.assert_array_equal(flat[None], flat[1e3])
    np.testing.assert_allclose(np.linalg.norm(flat[1e-3]), 0.1 * 1e-3, rtol=1e-3)
    cosine = flat[None] @ flat[1e-3] / np.linalg.norm(flat[None]) / (0.1 * 1e-3)
    np.testing.assert_allclose(cosine, 1, rtol=1e-3)


def test_clipping_leaves_learned_task_weights_alone():
    moved = []
    for clip_norm in (None, 1e-6):
        keras.utils.set_random_seed(1)
        model = _model()
        loss = MultiTaskLoss(task_balancing=UncertaintyWeighting)
        step = _step(model, recorder := _Recorder(), loss, clip_norm=clip_norm)
        step.on_replica([_batch()])
        moved.append(list(recorder.gradients.values())[-1].numpy())
    np.testing.assert_allclose(*moved, rtol=1e-6)
    assert np.abs(moved[0]).min() > 1e-3


def test_pairs_are_reported():
    model = _model()
    loss = MultiTaskLoss(pairwise=PairwiseLogistic(group_feature="user"))
    step = _step(model, loss=loss)
    assert step.names[3:] == ["pairs/a", "pairs/b"]
    features, _, weights = _batch()
    features["user"] = tf.constant([[1], [1], [2], [1]])
    labels = tf.constant([[1, 0], [0, 0], [1, 0], [0, 1]])
    report = step.on_replica([(features, labels, weights)])
    np.testing.assert_array_equal(report[3:], [2, 2])


@pytest.mark.parametrize("clip_norm", [None, 1.0])
@pytest.mark.parametrize("make", [UncertaintyWeighting, GradNorm, PCGrad])
def test_a_compiled_step_reads_before_it_updates(make, clip_norm):
    # Without a table: TensorFlow sums gradients of rows in another way.
    model = RankingModel(
        tasks=TASKS,
        preprocessor=keras.layers.Lambda(lambda features: features["continuous"]),
        backbone=keras.layers.Dense(3),
        tower=lambda: keras.layers.Dense(1),
    )
    labels = tf.constant([[1, 0], [0, 1], [1, 1]])
    batches = [
        ({"continuous": x * tf.ones([3, 2])}, labels, tf.ones([3, 2]))
        for x in (1.0, 2.0)
    ]
    model(batches[0][0])
    loss = MultiTaskLoss(task_balancing=make)
    step = _step(model, loss=loss, clip_norm=clip_norm)
    run = tf.function(step.on_replica)
    context = tensorflow_context.context()
    context.enable_run_metadata()
    try:
        run(batches)
        graphs = context.export_run_metadata().function_graphs
    finally:
        context.disable_run_metadata()
    # The others are of single operations.
    graph = max(
        (one.post_optimization_graph for one in graphs), key=lambda g: len(g.node)
    )
    written, unordered = _order_of_updates(graph)
    assert len(written) >= len(model.trainable_weights)
    assert not unordered


def _order_of_updates(graph: tf.compat.v1.GraphDef) -> tuple[set, list]:
    """The variables it writes, and the pairs of a read and a write without an order."""
    before: dict[str, set[str]] = {}
    nodes = {node.name: node for node in graph.node}

    def inputs(name):
        return [one.lstrip("^").split(":")[0] for one in nodes[name].input]

    def all_before(name):
        if name not in before:
            before[name] = set()
            for one in inputs(name):
                before[name] |= {one} | all_before(one)
        return before[name]

    uses: dict[str, list[str]] = {}
    for name in nodes:
        for one in inputs(name):
            if tf.resource.as_datatype_enum in (
                nodes[one].attr["T"].type,
                nodes[one].attr["dtype"].type,
            ):
                uses.setdefault(one, []).append(name)
    written, unordered = set(), []
    for variable, users in uses.items():
        reads = [name for name in users if nodes[name].op == "ReadVariableOp"]
        for write in set(users) - set(reads):
            written.add(variable)
            unordered += [
                (read, write)
                for read in reads
                if read not in all_before(write) and write not in all_before(read)
            ]
    return written, unordered


TWO_REPLICAS = """
import sys
import recap_tf, tensorflow as tf, numpy as np
two = [tf.config.LogicalDeviceConfiguration()] * 2
[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, two)
import tf_keras as keras
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.training.strategy import make_strategy
from recap_tf.losses.grad_norm import GradNorm
from recap_tf.losses.multi_task_loss import MultiTaskLoss
from recap_tf.losses.pcgrad import PCGrad
from recap_tf.losses.uncertainty_weighting import UncertaintyWeighting
from recap_tf.model.ranking_model import RankingModel
from recap_tf.model.small_embeddings import SmallEmbeddings
from recap_tf.training.training_step import RankerTrainingStep

ids = np.array([3, 7, 3, 20, 7, 1, 3, 3])
labels = np.random.default_rng(0).integers(0, 2, (2, 8, 3))

def train(strategy, balancing, clip_norm, reduction):
    keras.utils.set_random_seed(1)
    def batches(size, part):
        def one(k):
            rows = slice(part * size, (part + 1) * size)
            return ({"discrete": tf.constant(ids[rows, None])},
                    tf.constant(labels[k][rows]), tf.ones([size, 3]))
        return [one(0), one(1)]
    with strategy.scope():
        model = RankingModel(
            tasks=["a", "b", "c"], preprocessor=None,
            small_embeddings=SmallEmbeddings(tables={
                "ids": {"column": 0, "num_embeddings": 50, "embedding_dim": 2}}),
            backbone=keras.layers.Dense(
                3, kernel_regularizer=keras.regularizers.L2(0.1)),
            tower=lambda: keras.layers.Dense(1))
        model({"discrete": tf.zeros([1, 1], tf.int64)})
        loss = MultiTaskLoss(task_reduction=reduction, task_balancing=balancing)
        made = loss.balancing(model)
        sgd = keras.optimizers.legacy.SGD
        optimizer = GroupedOptimizer({"all": (sgd(0.1), model.trainable_weights)})
        if made.trainable_variables:
            optimizer.add_groups({"own": (sgd(0.1), made.trainable_variables)})
        optimizer.create_slots()
        count = tf.Variable(0, dtype=tf.int64)
    step = RankerTrainingStep(model, loss, made, optimizer, count, strategy,
                        gradient_accumulation=2, clip_norm=clip_norm)
    replicas = strategy.num_replicas_in_sync
    class Iterator:
        position = 0
        def get_next(self):
            k, self.position = self.position, self.position + 1
            parts = [batches(8 // replicas, part)[k % 2] for part in range(replicas)]
            if replicas == 1:
                return parts[0]
            leaves = [tf.nest.flatten(p) for p in parts]
            joined = [strategy.experimental_distribute_values_from_function(
                lambda c, i=i: leaves[c.replica_id_in_sync_group][i])
                for i in range(len(leaves[0]))]
            return tf.nest.pack_sequence_as(parts[0], joined)
    for _ in range(2):
        iterator = Iterator()
        report = step(iterator)
    return [v.numpy() for v in [*model.trainable_weights, *made.variables]], report

mirrored = make_strategy("mirrored")
assert mirrored.num_replicas_in_sync == 2
for balancing, clip_norm, reduction in [
    (None, None, "mean"), (None, 0.05, "mean"), (None, 0.05, "sum"),
    (UncertaintyWeighting, None, "mean"), (UncertaintyWeighting, None, "sum"),
    (GradNorm, None, "mean"), (PCGrad, 0.05, "mean"), (PCGrad, None, "sum"),
]:
    one, report = train(make_strategy("one_device"), balancing, clip_norm, reduction)
    two, report_of_two = train(mirrored, balancing, clip_norm, reduction)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(
            a, b, rtol=1e-4, atol=1e-6, err_msg=f"{balancing} {clip_norm} {reduction}")
    if reduction == "mean":
        np.testing.assert_allclose(report, report_of_two, rtol=1e-5)
    print("same", balancing, clip_norm, reduction)
"""


@pytest.mark.slow
def test_two_replicas_compute_what_one_device_does():
    result = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert result.stdout.count("same") == 8
