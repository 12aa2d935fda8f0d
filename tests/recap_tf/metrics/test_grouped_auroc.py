import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from recap_tf.metrics.grouped_auroc import GroupedAUROC


def test_by_hand():
    gauc = GroupedAUROC()
    # User 7: 1 of 2 pairs. User -1: its only pair. User 3 has seen only negatives.
    gauc.update_state(
        [1, 0, 0, 1, 0, 0, 0],
        [0.5, 0.2, 0.7, 0.9, 0.8, 0.1, 0.2],
        groups=[7, 7, 7, -1, -1, 3, 3],
    )
    assert float(gauc.result()) == pytest.approx((3 * 1 / 2 + 2 * 1) / 5)
    assert float(gauc.coverage()) == pytest.approx(5 / 7)


def test_a_user_may_come_in_many_batches():
    gauc = GroupedAUROC(tasks=1)
    for label, score in ((1, 0.5), (0, 0.2), (0, 0.7)):
        gauc.update_state([[label]], [[score]], groups=[7])
    np.testing.assert_allclose(gauc.result(), [0.5])


def test_agreement_with_sklearn_user_by_user():
    rng = np.random.default_rng(5)
    n, users = 100_000, 400
    groups = (users * rng.uniform(size=n) ** 3).astype(np.int64) + 2**40
    scores = rng.normal(size=[n, 1]).round(1)
    labels = rng.uniform(size=[n, 1]) < 0.02 * (1 + (scores > 0))
    weights = rng.exponential(size=[n, 1]) * (rng.uniform(size=[n, 1]) < 0.9)
    gauc = GroupedAUROC(tasks=1)
    for rows in np.split(np.arange(n), [10, 70_000]):
        gauc.update_state(
            labels[rows], scores[rows], weights[rows], groups=groups[rows]
        )
    areas, impressions = [], []
    for user in np.unique(groups):
        of_user = (groups == user) & (weights[:, 0] > 0)
        if len(np.unique(labels[of_user])) == 2:
            w = weights[of_user, 0]
            areas.append(
                sklearn.metrics.roc_auc_score(
                    labels[of_user, 0], scores[of_user, 0], sample_weight=w
                )
            )
            impressions.append(w.sum())
    assert 10 < len(areas) < users
    expected = np.average(areas, weights=impressions)
    np.testing.assert_allclose(gauc.result(), [expected], rtol=0, atol=1e-6)
    share = sum(impressions) / weights.sum()
    np.testing.assert_allclose(gauc.coverage(), [share], rtol=1e-6)


def test_without_a_group_of_both_classes_there_is_no_value():
    gauc = GroupedAUROC()
    gauc.update_state([1, 0], [0.5, 0.2], groups=[1, 2])
    assert np.isnan(gauc.result())
    assert gauc.coverage() == 0


@pytest.mark.parametrize(
    "groups, message",
    [
        (None, r"^gauc needs the group of each example.*Received: groups=None$"),
        ([1.0, 2.0], r"^groups of gauc must be integers of.*Received: float32 of"),
        ([1, 2, 3], r"shape \(batch,\) = \(2,\). Received: int32 of shape \(3,\)$"),
        ([[1], [2]], r"shape \(batch,\) = \(2,\). Received: int32 of shape \(2, 1\)$"),
    ],
    ids=["none", "float", "too many", "a column"],
)
@pytest.mark.parametrize("tasks", [None, 1])
def test_mistakes_are_named(groups, message, tasks):
    labels = np.array([1, 0]) if tasks is None else np.array([[1], [0]])
    with pytest.raises(ValueError, match=message):
        GroupedAUROC(tasks).update_state(labels, labels, groups=groups)


def test_a_checkpoint_goes_on(tmp_path):
    saved, restored = GroupedAUROC(), GroupedAUROC()
    saved.update_state([0, 1, 0], [0.1, 0.2, 0.3], groups=[4, 4, 5])
    path = tf.train.Checkpoint(metric=saved).save(str(tmp_path / "metric"))
    tf.train.Checkpoint(metric=restored).restore(path).assert_consumed()
    for gauc in (saved, restored):
        gauc.update_state([1], [0.1], groups=[5])
    assert restored.result() == saved.result() == 1 / 2
