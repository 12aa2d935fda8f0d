import numpy as np
import pytest
import sklearn.metrics

from recap_tf.metrics.average_precision import AveragePrecision


@pytest.mark.parametrize(
    "labels, scores, expected",
    [
        ([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1], 1),
        ([0, 1], [0.9, 0.1], 1 / 2),
        ([1, 0, 1], [0.9, 0.5, 0.1], (1 + 2 / 3) / 2),
        ([1, 0, 0, 0], [0.5] * 4, 1 / 4),
        ([1, 1], [0.2, 0.1], 1),
        ([0, 0], [0.2, 0.1], np.nan),
    ],
    ids=["perfect", "second", "first and third", "tied", "only positives", "none"],
)
def test_by_hand(labels, scores, expected):
    precision = AveragePrecision()
    precision.update_state(labels, scores)
    np.testing.assert_allclose(precision.result(), expected)


def test_agreement_with_sklearn_on_weights_and_ties():
    rng = np.random.default_rng(8)
    n = 100_000
    labels = rng.uniform(size=[n, 2]) < [0.01, 0.4]
    scores = rng.normal(size=[n, 2]) + labels
    scores[:, 1] = scores[:, 1].round(1)
    weights = rng.exponential(size=[n, 2])
    precision = AveragePrecision(tasks=2)
    for rows in np.split(np.arange(n), [10, 70_000]):
        precision.update_state(labels[rows], scores[rows], weights[rows])
    expected = [
        sklearn.metrics.average_precision_score(
            labels[:, task], scores[:, task], sample_weight=weights[:, task]
        )
        for task in range(2)
    ]
    np.testing.assert_allclose(precision.result(), expected, rtol=0, atol=1e-6)


def test_the_error_is_the_derivative_by_the_weights():
    # d AP / d w by differences, for a list with ties and unequal weights.
    rng = np.random.default_rng(9)
    n, step = 30, 1e-2
    labels = rng.integers(0, 2, n)
    scores, weights = rng.integers(0, 8, n), rng.uniform(1, 2, n)

    def value(weights):
        precision = AveragePrecision(tasks=2 * n)
        columns = [np.tile(a[:, np.newaxis], [1, 2 * n]) for a in (labels, scores)]
        precision.update_state(*columns, weights)
        return precision.result().numpy()

    moved = np.concatenate([np.eye(n), -np.eye(n)], axis=1) * step
    values = value(weights[:, np.newaxis] + moved)
    slopes = (values[:n] - values[n:]) / (2 * step)
    expected = np.sqrt(np.sum((weights * slopes) ** 2) * n / (n - 1))
    precision = AveragePrecision()
    precision.update_state(labels, scores, weights)
    assert float(precision.standard_error()) == pytest.approx(expected, rel=1e-4)
