import numpy as np
import pytest
import sklearn.metrics

from recap_tf.metrics.precision_recall import Precision, Recall


@pytest.mark.parametrize(
    "scores, precision, recall",
    [
        ([0.9, 0.8, 0.1, 0.2], 1 / 2, 1 / 2),
        ([0.9, 0.1, 0.8, 0.2], 1, 1),
        ([0.5, 0.5, 0.5, 0.5], np.nan, 0),
        ([0.1, 0.9, 0.1, 0.1], 0, 0),
    ],
    ids=["half right", "right", "on the threshold is below", "wrong"],
)
def test_by_hand(scores, precision, recall):
    for kind, expected in ((Precision, precision), (Recall, recall)):
        metric = kind()
        metric.update_state([1, 0, 1, 0], scores)
        np.testing.assert_equal(float(metric.result()), expected)


def test_without_positives_there_is_no_recall_but_a_precision():
    precision, recall = Precision(), Recall()
    for metric in (precision, recall):
        metric.update_state([0, 0], [0.9, 0.1])
    assert precision.result() == 0
    assert np.isnan(recall.result())


def test_thresholds_of_scores_and_labels():
    for kind, expected in ((Precision, 1 / 2), (Recall, 1)):
        metric = kind(threshold=-1.0, label_threshold=3.0)
        metric.update_state([3, 4, 5], [0.0, -2.0, 7.0], [1.0, 0.0, 1.0])
        assert float(metric.result()) == expected


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.72])
def test_agreement_with_sklearn(threshold):
    rng = np.random.default_rng(4)
    n = 100_000
    scores = rng.uniform(size=[n, 1]).round(2)
    labels = rng.uniform(size=[n, 1]) < scores
    weights = rng.exponential(size=[n, 1])
    for kind, of_sklearn in (
        (Precision, sklearn.metrics.precision_score),
        (Recall, sklearn.metrics.recall_score),
    ):
        metric = kind(tasks=1, threshold=threshold)
        for rows in np.split(np.arange(n), 7 * [0] + [5, 40_000]):
            metric.update_state(labels[rows], scores[rows], weights[rows])
        expected = of_sklearn(
            labels[:, 0], scores[:, 0] > threshold, sample_weight=weights[:, 0]
        )
        np.testing.assert_allclose(metric.result(), [expected], rtol=0, atol=1e-9)
