"""Fits of calibration maps: Platt's by Newton's method, isotonic by pooling."""

from collections.abc import Callable, Mapping

import numpy as np
from sklearn.isotonic import IsotonicRegression

from recap_tf.model.calibrators import CalibrationMap, IsotonicMap, PlattMap

_NEWTON_STEPS = 100
_SMALLEST_DESCENT = 1e-14


def fit_platt(
    scores: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    smooth_targets: bool = True,
) -> PlattMap:
    """The Platt map of least weighted cross-entropy, by Newton's method.

    Where the order of the scores is worse than chance the slope is 0, not negative.

    >>> import numpy as np
    >>> from recap_tf.model.calibration_fits import fit_platt
    >>> scores = np.array([-2.0, -1.0, 1.0, 2.0])
    >>> fit = fit_platt(scores, np.array([0, 1, 0, 1]), np.ones(4))
    >>> round(float(fit.slope), 3)
    0.202

    Args:
        scores, labels, weights: (examples,); labels 0 or 1, both with some weight.
        smooth_targets: as Platt does, aim a little below 1 and above 0,

                (P + u) / (P + 2 u)  for positives,  u / (N + 2 u)  for negatives,

            P and N the weights of all positives and negatives, u that of the average
            positive; with weights of 1 they are his. It keeps the slope finite when
            the scores separate the classes.
    """
    scores, labels, weights = _weighted(scores, labels, weights)
    positive, negative, unit = _class_weights(labels, weights)
    high, low = 1.0, 0.0
    if smooth_targets:
        high = (positive + unit) / (positive + 2 * unit)
        low = unit / (negative + 2 * unit)
    targets = np.where(labels > 0, high, low)
    shares = weights / weights.sum()
    # Newton's method is at its best on scores of mean 0 and spread 1.
    mean = shares @ scores
    spread = np.sqrt(shares @ (scores - mean) ** 2) or 1.0
    slope, offset = _newton((scores - mean) / spread, targets, shares)
    if slope <= 0:
        rate = shares @ targets
        return PlattMap(0.0, float(np.log(rate / (1 - rate))))
    return PlattMap(float(slope / spread), float(offset - slope * mean / spread))


def _newton(x: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The (slope, offset) of least mean cross-entropy.

    Lin, Lin and Weng 2007, with its halved steps.
    """

    def loss(parameters):
        z = parameters[0] * x + parameters[1]
        return shares @ (np.logaddexp(0, z) - targets * z)

    rate = shares @ targets
    best = np.array([0.0, np.log(rate / (1 - rate))])
    value = loss(best)
    for _ in range(_NEWTON_STEPS):
        p = 0.5 * (1 + np.tanh((best[0] * x + best[1]) / 2))
        error, curve = shares * (p - targets), shares * p * (1 - p)
        gradient = np.array([error @ x, error.sum()])
        cross = curve @ x
        hessian = np.array([[curve @ x**2, cross], [cross, curve.sum()]])
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        descent = gradient @ step
        if descent < _SMALLEST_DESCENT:
            break
        size = 1.0
        while (lower := loss(best - size * step)) > value - 1e-4 * size * descent:
            size /= 2
            if size < 1e-10:
                return best
        best, value = best - size * step, lower
    return best


def fit_isotonic(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> IsotonicMap:
    """The rising map of least weighted squared error (pool adjacent violators).

    Equal scores are one point. The lowest block often has no positive and the highest
    no negative; 0 and 1 would cost infinitely much where they are wrong, so these two
    ends follow the rule of succession, as if they had seen one more positive and one
    more negative of the average positive's weight u:

        u / (W + 2 u)  instead of 0,  1 - u / (W + 2 u)  instead of 1,

    W the weight of the block; but no nearer to the next block than half way. Zadrozny
    and Elkan 2002, "Transforming classifier scores into accurate multiclass
    probability estimates".

    >>> import numpy as np
    >>> from recap_tf.model.calibration_fits import fit_isotonic
    >>> scores, labels = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 1, 0, 1])
    >>> fit = fit_isotonic(scores, labels, np.ones(4))
    >>> fit.probabilities
    (0.25, 0.5, 0.5, 0.75)

    Args:
        scores, labels, weights: (examples,); labels 0 or 1, both with some weight.
    """
    scores, labels, weights = _weighted(scores, labels, weights)
    unit = _class_weights(labels, weights)[2]
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(scores, labels, sample_weight=weights)
    # A mean of ones may come out as 1 - 1e-16.
    x, y = fitted.X_thresholds_, fitted.y_thresholds_.round(15)
    ends = y.copy()
    if y[0] <= 0:
        block = weights[scores <= x[y <= 0][-1]].sum()
        ends[y <= 0] = min(unit / (block + 2 * unit), y[y > 0][0] / 2)
    if y[-1] >= 1:
        block = weights[scores >= x[y >= 1][0]].sum()
        ends[y >= 1] = max(1 - unit / (block + 2 * unit), (1 + y[y < 1][-1]) / 2)
    return IsotonicMap(x.tolist(), ends.tolist())


def _weighted(*columns: np.ndarray) -> list[np.ndarray]:
    """The columns in float64, without the rows whose weight, the last, is 0."""
    counted = np.asarray(columns[-1]) > 0
    return [np.asarray(column, np.float64)[counted] for column in columns]


def _class_weights(labels, weights) -> tuple[float, float, float]:
    """The weight of all positives, of all negatives, of the average positive."""
    positive = weights[labels > 0]
    negative = weights[labels <= 0].sum()
    if not (len(positive) and negative > 0):
        raise ValueError(
            "A calibrator needs positives and negatives of some weight. Received: "
            f"{len(positive)} positives of {len(labels)} examples"
        )
    return positive.sum(), negative, positive.mean()


FITS: Mapping[str, Callable[..., CalibrationMap]] = {
    "isotonic": fit_isotonic,
    "platt": fit_platt,
}
