"""Task balancing against its formulas in numpy, on models small enough for that."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.optimizers.grouped import Adam, GroupedOptimizer
from recap_tf.losses.grad_norm import GradNorm
from recap_tf.losses.multi_task_loss import MultiTaskLoss
from recap_tf.losses.pcgrad import PCGrad, projected
from recap_tf.losses.pointwise_loss import PointwiseLoss
from recap_tf.losses.task_balancing import TaskBalancing
from recap_tf.losses.uncertainty_weighting import UncertaintyWeighting
from recap_tf.model.dlrm import DLRM
from recap_tf.model.mlp import MLP
from recap_tf.model.ranking_model import RankingModel
from recap_tf.model.small_embeddings import SmallEmbeddings
from recap_tf.training.training_step import RankerTrainingStep

TASKS = ["a", "b", "c"]
BATCH, WIDTH, HIDDEN = 6, 4, 3


def _linear_model(sharing="share_all", tasks=TASKS) -> RankingModel:
    """logits = x W V, W the backbone, a column of V each task's tower."""

    def dense(units):
        return keras.layers.Dense(units, use_bias=False)

    model = RankingModel(
        tasks=tasks,
        preprocessor=keras.layers.Lambda(lambda features: features["continuous"]),
        tower=lambda: dense(1),
        sharing=sharing,
        backbone=None if sharing == "share_none" else dense(HIDDEN),
    )
    model({"continuous": tf.zeros([1, WIDTH])})
    return model


def _batch(seed=0, size=BATCH, tasks=TASKS):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(size, WIDTH)).astype(np.float32)
    labels = generator.integers(0, 2, (size, len(tasks)))
    weights = generator.uniform(0.5, 2, (size, len(tasks))).astype(np.float32)
    return {"continuous": tf.constant(x)}, tf.constant(labels), tf.constant(weights)


def _step(model, loss, learning_rate=0.1, at=0, **settings):
    """The training step number `at` by plain SGD, and its balancing."""
    balancing = loss.balancing(model)
    sgd = keras.optimizers.legacy.SGD
    optimizer = GroupedOptimizer({"all": (sgd(learning_rate), model.trainable_weights)})
    own = balancing.trainable_variables
    if own:
        optimizer.add_groups({"own": (sgd(balancing.learning_rate), own)})
    step = tf.Variable(at, dtype=tf.int64)
    strategy = tf.distribute.get_strategy()
    training = RankerTrainingStep(
        model, loss, balancing, optimizer, step, strategy, **settings
    )
    return training, balancing


class _Numpy:
    """Losses and gradients of the linear model, derived by hand in float64."""

    def __init__(self, model, batch):
        features, labels, weights = (
            tf.nest.map_structure(np.asarray, p) for p in batch
        )
        self.x = features["continuous"].astype(np.float64)
        self.w = model.backbone.kernel.numpy().astype(np.float64)
        self.v = np.concatenate(
            [model.towers[task].kernel.numpy() for task in model.tasks], axis=1
        ).astype(np.float64)
        logits = self.x @ self.w @ self.v
        p = 1 / (1 + np.exp(-logits))
        entropy = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))
        self.losses = (weights * entropy).mean(axis=0)
        slopes = weights * (p - labels) / len(self.x)
        # Of each task's loss: over the backbone's kernel, and over its tower's.
        self.shared = [
            self.x.T @ np.outer(slopes[:, t], self.v[:, t])
            for t in range(len(model.tasks))
        ]
        self.own = [self.w.T @ self.x.T @ slopes[:, t] for t in range(len(model.tasks))]


def _assert_updated(model, before, shared, own, rate=0.1):
    kernel = model.backbone.kernel
    np.testing.assert_allclose(kernel, before.w - rate * shared, rtol=1e-4, atol=1e-6)
    for t, task in enumerate(model.tasks):
        np.testing.assert_allclose(
            model.towers[task].kernel[:, 0],
            before.v[:, t] - rate * own[t],
            rtol=1e-4,
            atol=1e-6,
        )


def test_fixed_task_weights():
    model, batch = _linear_model(), _batch()
    loss = MultiTaskLoss(reduction="sum", task_weights={"a": 2.0, "c": 0.0})
    step, _ = _step(model, loss)
    before = _Numpy(model, batch)
    report = step.on_replica([batch])
    weights = np.array([2.0, 1.0, 0.0])
    np.testing.assert_allclose(report[0], weights @ before.losses, rtol=1e-5)
    np.testing.assert_allclose(report[1:], before.losses, rtol=1e-5)
    shared = np.tensordot(weights, before.shared, 1)
    _assert_updated(model, before, shared, weights[:, None] * before.own)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_uncertainty_weighting(reduction):
    model, batch = _linear_model(), _batch()
    loss = MultiTaskLoss(
        reduction=reduction,
        task_balancing=lambda tasks: UncertaintyWeighting(tasks, learning_rate=0.2),
    )
    step, balancing = _step(model, loss)
    start = np.array([0.5, -1.0, 0.0])
    balancing.log_variances.assign(start)
    before = _Numpy(model, batch)
    report = step.on_replica([batch])
    scale = 1.0 if reduction == "sum" else 1 / 3
    weights = np.exp(-start)
    total = scale * (weights * before.losses + start / 2).sum()
    np.testing.assert_allclose(report[0], total, rtol=1e-5)
    shared = scale * np.tensordot(weights, before.shared, 1)
    _assert_updated(model, before, shared, scale * weights[:, None] * before.own)
    gradient = scale * (0.5 - weights * before.losses)
    np.testing.assert_allclose(
        balancing.log_variances, start - 0.2 * gradient, rtol=1e-5
    )


def test_uncertainty_weights_converge_to_the_analytic_optimum():
    # Nothing else is trained, so the losses stay.
    model, batch = _linear_model(), _batch()
    loss = MultiTaskLoss(
        task_weights={"a": 10.0},
        task_balancing=lambda tasks: UncertaintyWeighting(tasks, learning_rate=1.0),
    )
    step, balancing = _step(model, loss, learning_rate=0.0)
    losses = _Numpy(model, batch).losses * [10, 1, 1]
    run = tf.function(step.on_replica)
    for _ in range(100):
        run([batch])
    np.testing.assert_allclose(
        list(balancing.learned().values()), 1 / (2 * losses), rtol=1e-3
    )


def _grad_norm_by_hand(weights, norms, ratios, alpha, rate):
    """New task weights, by the derivative of the sum of absolute values."""
    pulls = weights * norms
    wanted = pulls.mean() * (ratios / ratios.mean()) ** alpha
    new = weights - rate * np.where(pulls > wanted, 1, -1) * norms
    return new * len(new) / new.sum()


@pytest.mark.parametrize("alpha", [0.0, 1.5, 12.0])
def test_grad_norm_updates(alpha):
    model, rate = _linear_model(), 0.2
    loss = MultiTaskLoss(
        reduction="sum",
        task_balancing=lambda tasks: GradNorm(tasks, alpha, learning_rate=rate),
    )
    step, balancing = _step(model, loss, learning_rate=0.5)
    weights, initial = np.ones(3), None
    for seed in range(4):
        batch = _batch(seed)
        before = _Numpy(model, batch)
        report = step.on_replica([batch])
        np.testing.assert_allclose(report[0], weights @ before.losses, rtol=1e-5)
        shared = np.tensordot(weights, before.shared, 1)
        _assert_updated(model, before, shared, weights[:, None] * before.own, rate=0.5)
        initial = before.losses if initial is None else initial
        norms = np.array([np.linalg.norm(one) for one in before.shared])
        ratios = before.losses / initial
        weights = _grad_norm_by_hand(weights, norms, ratios, alpha, rate)
        np.testing.assert_allclose(balancing.task_weights, weights, rtol=1e-4)
        assert abs(weights - 1).max() > 0.01
    np.testing.assert_allclose(balancing.initial_losses, initial, rtol=1e-5)
    assert balancing.learned().keys() == set(TASKS)


def test_grad_norm_evens_out_the_norms_of_a_task_of_another_scale():
    model, batch = _linear_model(), _batch()
    loss = MultiTaskLoss(
        reduction="sum",
        task_weights={"a": 4.0},
        task_balancing=lambda tasks: GradNorm(tasks, alpha=0.0, learning_rate=0.01),
    )
    step, balancing = _step(model, loss, learning_rate=0.0)
    run = tf.function(step.on_replica)
    for _ in range(600):
        run([batch])
    norms = [np.linalg.norm(one) for one in _Numpy(model, batch).shared]
    pulls = balancing.task_weights.numpy() * norms * [4, 1, 1]
    np.testing.assert_allclose(pulls, pulls.mean(), rtol=0.15)
    np.testing.assert_allclose(balancing.task_weights.numpy().sum(), 3, rtol=1e-5)


def test_grad_norm_weights_stay_positive():
    model, batch = _linear_model(), _batch()
    loss = MultiTaskLoss(
        task_balancing=lambda tasks: GradNorm(tasks, learning_rate=1000.0)
    )
    step, balancing = _step(model, loss)
    for _ in range(3):
        step.on_replica([batch])
        assert balancing.task_weights.numpy().min() > 0


def _pcgrad_by_hand(gradients, orders):
    """Algorithm 1 of the paper on flat vectors."""
    result = 0
    for i, order in enumerate(orders):
        projected_one = gradients[i].copy()
        for j in order:
            dot = projected_one @ gradients[j]
            if j != i and dot < 0:
                projected_one -= dot / (gradients[j] @ gradients[j]) * gradients[j]
        result = result + projected_one
    return result


def test_projection_is_that_of_the_paper():
    generator = np.random.default_rng(5)
    for seed in range(5):
        gradients = generator.normal(size=(4, 6)).astype(np.float32)
        pair = tf.constant([seed, 3])
        orders = np.argsort(tf.random.stateless_uniform([4, 4], pair).numpy(), axis=1)
        factors = projected(tf.constant(gradients @ gradients.T), pair)
        np.testing.assert_allclose(
            factors.numpy() @ gradients,
            _pcgrad_by_hand(gradients.astype(np.float64), orders),
            rtol=1e-4,
            atol=1e-5,
        )


def test_the_order_is_another_at_every_step():
    gradients = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    gradients -= 1.1 * gradients.mean(axis=0)  # So they conflict.
    products = tf.constant(gradients @ gradients.T)
    found = {tuple(np.round(projected(products, [0, step]), 4)) for step in range(20)}
    assert len(found) > 3


def test_every_step_draws_its_order():
    # One label for all tasks, towers 120 degrees apart and of other lengths: each
    # gradient conflicts with both others.
    features, labels, weights = _batch()
    batch = (features, tf.repeat(labels[:, :1], 3, axis=1), weights)
    model = _linear_model()
    start = model.backbone.kernel.numpy()
    found = set()
    for at in range(8):
        model.backbone.kernel.assign(start)
        towers = (
            [[1.0], [0.0], [0.0]],
            [[-1.0], [1.7], [0.0]],
            [[-2.0], [-3.4], [0.0]],
        )
        for task, kernel in zip(TASKS, towers, strict=True):
            model.towers[task].kernel.assign(kernel)
        step, _ = _step(model, MultiTaskLoss(task_balancing=PCGrad), at=at)
        step.on_replica([batch])
        found.add(tuple(np.round(model.backbone.kernel.numpy().ravel(), 5)))
    assert len(found) > 2


def test_two_conflicting_gradients_by_hand():
    # (1, 0) and (-1, 1): the first becomes (1/2, 1/2), the second (0, 1).
    gradients = np.array([[1.0, 0.0], [-1.0, 1.0]], np.float32)
    factors = projected(tf.constant(gradients @ gradients.T), tf.constant([0, 0]))
    np.testing.assert_allclose(factors.numpy() @ gradients, [0.5, 1.5], rtol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_pcgrad_updates(reduction):
    model, batch = _linear_model(tasks=["a", "b"]), _batch(4, tasks=["a", "b"])
    # Opposite towers: the tasks conflict unless their labels do, too.
    model.towers["b"].kernel.assign(model.towers["a"].kernel * [[-1.0], [-0.5], [-0.8]])
    batch = (batch[0], tf.repeat(batch[1][:, :1], 2, axis=1), batch[2])
    loss = MultiTaskLoss(reduction=reduction, task_balancing=PCGrad)
    step, _ = _step(model, loss)
    before = _Numpy(model, batch)
    flat = [one.ravel() for one in before.shared]
    assert flat[0] @ flat[1] < 0
    step.on_replica([batch])
    scale = 1.0 if reduction == "sum" else 0.5
    # Of two tasks the order does not matter.
    shared = _pcgrad_by_hand(flat, [[0, 1], [0, 1]]).reshape(before.w.shape)
    _assert_updated(model, before, scale * shared, scale * np.array(before.own))


def test_pcgrad_without_conflict_is_the_plain_gradient():
    batch = _batch(2, tasks=["a", "b"])
    batch = (batch[0], tf.repeat(batch[1][:, :1], 2, axis=1), batch[2])
    kernels = []
    for balancing in (None, PCGrad):
        keras.utils.set_random_seed(1)
        model = _linear_model(tasks=["a", "b"])
        model.towers["b"].kernel.assign(model.towers["a"].kernel)
        step, _ = _step(model, MultiTaskLoss(task_balancing=balancing))
        step.on_replica([batch])
        kernels.append(model.backbone.kernel.numpy())
    np.testing.assert_allclose(*kernels, rtol=1e-6)


class _Quadratic(PointwiseLoss):
    """(logit - 3)^2 for one task, 100 * (logit + label)^2 for the other."""

    def losses(self, tasks, labels, logits, pos_weights):
        return tf.constant([1.0, 100.0]) * tf.square(logits - labels)


def test_pcgrad_resolves_a_conflict_that_hides_the_smaller_task():
    # The shared weight is (u1, u2). Task a wants u1 = 1, task b wants
    # 0.3 u1 + u2 = 0 a hundred times as much; from (0, 1) b's gradient points to
    # smaller u1, and the plain sum follows it.
    model = RankingModel(
        tasks=["a", "b"],
        preprocessor=keras.layers.Lambda(lambda features: features["continuous"]),
        tower=lambda: keras.layers.Dense(1, use_bias=False, trainable=False),
        backbone=keras.layers.Dense(2, use_bias=False),
    )
    batch = (
        {"continuous": tf.ones([1, 1])},
        tf.constant([[1, 0]]),
        tf.ones([1, 2]),
    )
    model(batch[0])
    model.towers["a"].kernel.assign([[1.0], [0.0]])
    model.towers["b"].kernel.assign([[0.3], [1.0]])
    moved = {}
    for name, balancing in {"plain": None, "pcgrad": PCGrad}.items():
        model.backbone.kernel.assign([[0.0, 1.0]])
        loss = MultiTaskLoss(pointwise=_Quadratic(), task_balancing=balancing)
        step, _ = _step(model, loss, learning_rate=1e-4)
        before = step.on_replica([batch])[1:]
        after = step.on_replica([batch])[1:]
        moved[name] = (after - before).numpy()
    assert moved["plain"][0] > 0 > moved["plain"][1]
    assert moved["pcgrad"][0] < 0 and moved["pcgrad"][1] < 0


@pytest.mark.parametrize("make", [GradNorm, PCGrad])
def test_nothing_shared_to_balance(make):
    loss = MultiTaskLoss(task_balancing=make)
    message = (
        f"{make.__name__} balances the weights that tasks share, so it needs "
        "RankingModel.sharing = 'share_all' or 'share_partial'. Received: 'share_none'"
    )
    with pytest.raises(ValueError, match=message):
        loss.balancing(_linear_model("share_none"))
    assert loss.balancing(_linear_model("share_partial")).tasks == tuple(TASKS)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: UncertaintyWeighting(TASKS, learning_rate=0.0),
            "UncertaintyWeighting.learning_rate must be above 0. Received: 0.0",
        ),
        (
            lambda: GradNorm(TASKS, learning_rate=-1.0),
            "GradNorm.learning_rate must be above 0. Received: -1.0",
        ),
        (
            lambda: GradNorm(TASKS, alpha=-0.5),
            "GradNorm.alpha must be at least 0. Received: -0.5",
        ),
        (
            lambda: GradNorm(TASKS, shared="all"),
            r"GradNorm.shared must be one of \['last', 'backbone'\]. Received: 'all'",
        ),
        (
            lambda: MultiTaskLoss(reduction="max", task_balancing=TaskBalancing),
            "MultiTaskLoss.reduction must be 'mean' or 'sum' with task_balancing. "
            "Received: 'max'",
        ),
        (
            lambda: MultiTaskLoss(task_weights={"a": -1.0}),
            r"MultiTaskLoss.task_weights\['a'\] must be at least 0. Received: -1.0",
        ),
        (
            lambda: MultiTaskLoss(task_weights={"x": 1.0}).check_tasks(TASKS),
            "MultiTaskLoss.task_weights names the task 'x', which is not in",
        ),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("make", [UncertaintyWeighting, GradNorm, PCGrad])
def test_the_step_compiles_with_xla(make):
    results = []
    for compiled in (False, True):
        # As in a process of its own: layers' names, from which TensorFlow takes the
        # order of sums, count on within one.
        keras.backend.clear_session()
        keras.utils.set_random_seed(3)
        model = _linear_model()
        step, balancing = _step(model, MultiTaskLoss(task_balancing=make))
        run = tf.function(step.on_replica, jit_compile=compiled)
        run([_batch(0), _batch(1)]), run([_batch(2), _batch(3)])
        values = [*model.trainable_weights, *balancing.variables]
        results.append([value.numpy() for value in values])
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(plain, compiled, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [UncertaintyWeighting, GradNorm, PCGrad])
def test_accumulated_batches_are_one_large_batch(make):
    first, second = _batch(0), _batch(1)
    whole = tf.nest.map_structure(lambda a, b: tf.concat([a, b], 0), first, second)
    results = []
    for batches, parts in (([whole], 1), ([first, second], 2)):
        keras.utils.set_random_seed(3)
        model = _linear_model()
        loss = MultiTaskLoss(task_balancing=make)
        step, balancing = _step(model, loss, gradient_accumulation=parts)
        step.on_replica(batches)
        values = [*model.trainable_weights, *balancing.variables]
        results.append([value.numpy() for value in values])
    for one, two in zip(*results, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_its_own_variables_are_a_group_with_their_own_rate():
    model = _linear_model()
    optimizer = GroupedOptimizer({"backbone": (Adam(0.1), model.trainable_weights)})
    optimizer.add_groups(PCGrad(TASKS).optimizers())
    assert optimizer.learning_rates(0) == pytest.approx({"backbone": 0.1})
    balancing = UncertaintyWeighting(TASKS, learning_rate=0.5)
    optimizer.add_groups(balancing.optimizers())
    assert optimizer.learning_rates(0) == pytest.approx(
        {"backbone": 0.1, "task_balancing": 0.5}
    )
    gradients = [tf.ones_like(w) for w in model.trainable_weights]
    pairs = list(zip(gradients, model.trainable_weights, strict=True))
    optimizer.apply_gradients([*pairs, (tf.ones([3]), balancing.log_variances)])
    # Adam's first step is the learning rate.
    np.testing.assert_allclose(balancing.log_variances, [-0.5] * 3, rtol=1e-4)


class _OwnGates(keras.layers.Layer):
    """For every task: tanh(x kernel) last, times a gate of its own."""

    def build(self, shape):
        self.kernel = self.add_weight("kernel", (shape[-1], HIDDEN))
        self.last = self.add_weight("last", (HIDDEN, HIDDEN))
        self.gates = [
            self.add_weight(f"gate_{task}", (HIDDEN, HIDDEN)) for task in TASKS
        ]
        super().build(shape)

    def call(self, inputs):
        shared = tf.nn.tanh(inputs @ self.kernel) @ self.last
        return [shared @ gate for gate in self.gates]


def _gated_model():
    model = RankingModel(
        tasks=TASKS,
        preprocessor=keras.layers.Lambda(lambda features: features["continuous"]),
        tower=lambda: keras.layers.Dense(1),
        backbone=_OwnGates(),
    )
    model(_batch()[0])
    return model


def _task_gradients(model, batch, weights):
    """Of each task's mean loss over `weights`, one after the other."""
    found = []
    for task in range(len(model.tasks)):
        with tf.GradientTape() as tape:
            logits = model(batch[0], training=True)["logits"]
            loss = MultiTaskLoss().task_losses(model.tasks, batch[1], logits, batch[2])
            loss = loss[task]
        found.append(tape.gradient(loss, weights))
    return found


@pytest.mark.parametrize(
    "shared, names", [("last", ["last"]), ("backbone", ["kernel", "last"])]
)
def test_grad_norm_looks_at_the_matrices_that_all_tasks_reach(shared, names):
    model, batch = _gated_model(), _batch()
    loss = MultiTaskLoss(
        reduction="sum",
        task_balancing=lambda tasks: GradNorm(
            tasks, alpha=0.0, learning_rate=0.2, shared=shared
        ),
    )
    step, balancing = _step(model, loss)
    taken = [getattr(model.backbone, name) for name in names]
    norms = np.array(
        [
            np.sqrt(sum(np.square(one).sum() for one in task))
            for task in _task_gradients(model, batch, taken)
        ]
    )
    step.on_replica([batch])
    expected = _grad_norm_by_hand(np.ones(3), norms, np.ones(3), 0.0, 0.2)
    np.testing.assert_allclose(balancing.task_weights, expected, rtol=1e-4)


def test_pcgrad_leaves_what_belongs_to_one_task_of_the_backbone_alone():
    model, batch = _gated_model(), _batch()
    step, _ = _step(
        model, MultiTaskLoss(reduction="sum", task_balancing=PCGrad), at=5, seed=7
    )
    backbone = model.backbone
    gates = _task_gradients(model, batch, backbone.gates)
    shared = [backbone.kernel, backbone.last]
    flat = [
        np.concatenate([np.ravel(one) for one in task])
        for task in _task_gradients(model, batch, shared)
    ]
    orders = np.argsort(tf.random.stateless_uniform([3, 3], [7, 5]).numpy(), axis=1)
    before = [weight.numpy() for weight in [*backbone.gates, *shared]]
    step.on_replica([batch])
    for task in range(3):
        expected = before[task] - 0.1 * gates[task][task]
        np.testing.assert_allclose(backbone.gates[task], expected, rtol=1e-5)
    moved = [(b - w.numpy()) / 0.1 for b, w in zip(before[3:], shared, strict=True)]
    np.testing.assert_allclose(
        np.concatenate([one.ravel() for one in moved]),
        _pcgrad_by_hand(flat, orders),
        atol=1e-5,
    )
    assert min(a @ b for a in flat for b in flat) < 0


class _Noted(GradNorm):
    """Notes what it takes for shared by all tasks."""

    def gradients(self, loss, weights, backbone):
        found = super().gradients(loss, weights, backbone)
        self.seen = [[one.shape.as_list() for one in task] for task in found["shared"]]
        return found


def test_grad_norm_takes_the_top_of_a_dlrm_for_its_last_layer():
    model = RankingModel(
        tasks=TASKS,
        preprocessor=keras.layers.Lambda(lambda features: features["continuous"]),
        small_embeddings=SmallEmbeddings(
            tables={"city": {"column": 0, "num_embeddings": 2, "embedding_dim": 7}}
        ),
        tower=lambda: keras.layers.Dense(1),
        backbone=DLRM(2, bottom_mlp=MLP([2]), top_mlp=MLP([5])),
    )
    features, *others = _batch()
    features["discrete"] = tf.zeros([BATCH, 1], tf.int64)
    model(features)
    step, balancing = _step(model, MultiTaskLoss(task_balancing=_Noted))
    step.on_replica([(features, *others)])
    # The bottom's vector and one pair go into the top; the projection is (7, 2).
    assert balancing.seen == [[[3, 5]]] * len(TASKS)
