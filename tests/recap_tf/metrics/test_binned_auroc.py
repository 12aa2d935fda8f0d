import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from recap_tf.metrics.auroc import AUROC
from recap_tf.metrics.binned_auroc import BinnedAUROC


def test_by_hand_on_a_grid_of_four():
    # Cells of logits: below -1, -1 to 0, 0 to 1, above 1.
    area = BinnedAUROC(bins=4, limit=2, from_logits=True)
    area.update_state([0, 1, 0, 1], [-9.0, -0.5, -0.1, 7.0])
    # Of four pairs one shares a cell; it counts half, whatever its order.
    assert float(area.result()) == pytest.approx(3.5 / 4)
    assert float(area.error_bound()) == pytest.approx(0.5 / 4)


def test_probabilities_are_put_on_the_grid_by_their_logits():
    by_logit, by_probability = BinnedAUROC(from_logits=True), BinnedAUROC()
    logits = np.random.default_rng(2).normal(-8, 3, size=500)
    labels = np.arange(500) % 3 == 0
    by_logit.update_state(labels, logits)
    by_probability.update_state(labels, 1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(by_logit.result(), by_probability.result(), atol=1e-4)


def test_certain_probabilities_fall_into_the_outer_cells():
    area = BinnedAUROC()
    area.update_state([0, 1, 1, 0], [0.0, 1.0, 0.5, 0.5])
    assert float(area.result()) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("bins", [16, 256, 65536])
@pytest.mark.parametrize("spread", [0.01, 1.0, 30.0])
def test_the_exact_area_is_within_the_bound(bins, spread):
    rng = np.random.default_rng(bins)
    n = 20_000
    labels = rng.uniform(size=[n, 1]) < 0.1
    scores = (rng.normal(size=[n, 1]) + labels) * spread
    weights = rng.exponential(size=[n, 1])
    area, exact = BinnedAUROC(1, bins=bins, from_logits=True), AUROC(1)
    for metric in (area, exact):
        metric.update_state(labels, scores, weights)
    bound = float(area.error_bound()[0])
    assert abs(float(area.result()[0] - exact.result()[0])) <= bound
    if bins == 65536 and spread == 1:
        assert bound < 1e-4


def test_the_bound_is_reached_if_all_share_a_cell():
    area = BinnedAUROC(bins=2)
    area.update_state([0, 1], [0.6, 0.9])
    assert area.result() == 0.5  # exactly it is 1
    assert area.error_bound() == 0.5


def test_agreement_with_sklearn_on_scores_of_the_grid():
    # Nothing is lost if equal cells mean equal scores.
    rng = np.random.default_rng(3)
    n = 100_000
    labels = rng.uniform(size=[n, 2]) < [0.01, 0.4]
    scores = (rng.normal(size=[n, 2]) + labels).round(2)
    weights = rng.exponential(size=[n, 2])
    area = BinnedAUROC(tasks=2, from_logits=True)
    for rows in np.split(np.arange(n), [10, 70_000]):
        area.update_state(labels[rows], scores[rows], weights[rows])
    expected = [
        sklearn.metrics.roc_auc_score(
            labels[:, task], scores[:, task], sample_weight=weights[:, task]
        )
        for task in range(2)
    ]
    np.testing.assert_allclose(area.result(), expected, rtol=0, atol=1e-9)


def test_error_equals_that_of_the_exact_one_on_scores_of_the_grid():
    rng = np.random.default_rng(4)
    labels, scores = rng.integers(0, 2, 300), rng.integers(-3, 4, 300)
    weights = rng.integers(0, 3, 300)
    errors = []
    for metric in (BinnedAUROC(from_logits=True), AUROC()):
        metric.update_state(labels, scores, weights)
        errors.append(float(metric.standard_error()))
    assert errors[0] == pytest.approx(errors[1])


def test_memory_does_not_grow():
    area = BinnedAUROC(tasks=2, bins=8)
    shapes = [variable.shape for variable in area.variables]
    for _ in range(3):
        area.update_state(np.eye(2)[[0, 1, 1]], np.full([3, 2], 0.3))
    assert [variable.shape for variable in area.variables] == shapes
    assert sum(np.prod(shape) for shape in shapes) <= 2 * (8 * 4 + 3)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BinnedAUROC(bins=1), "^bins must be at least 2. Received: 1$"),
        (lambda: BinnedAUROC(limit=0), "^limit must be above 0. Received: 0$"),
        (lambda: BinnedAUROC(limit=float("nan")), "^limit must be .*Received: nan$"),
        (
            lambda: BinnedAUROC(bins=8).merge_state([BinnedAUROC(bins=9)]),
            r"^Only BinnedAUROC with bins=8 can be merged into binned_auroc\. "
            r"Received: BinnedAUROC with bins=9$",
        ),
    ],
    ids=["one bin", "no room", "nan", "merge"],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_checkpoint_goes_on(tmp_path):
    saved, restored = BinnedAUROC(), BinnedAUROC()
    saved.update_state([0, 1, 0], [0.1, 0.2, 0.3])
    path = tf.train.Checkpoint(metric=saved).save(str(tmp_path / "metric"))
    tf.train.Checkpoint(metric=restored).restore(path).assert_consumed()
    for area in (saved, restored):
        area.update_state([1], [0.4])
    assert restored.result() == saved.result() == 3 / 4
