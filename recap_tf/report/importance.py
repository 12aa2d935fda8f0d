"""How much worse a model ranks when a part of its input says nothing any more."""

import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tqdm

from recap_tf.report.feature_groups import FeatureGroup
from recap_tf.report.row_sample import Columns, as_tensors

Predict = Callable[[Mapping[str, tf.Tensor]], tf.Tensor]
"""Computes scores (batch, tasks) from features."""


@dataclasses.dataclass(frozen=True)
class Importance:
    """Drop in AUROC when a group of features is permuted.

    Args:
        group: what was permuted.
        drops: (tasks,); NaN where a task lacks a class.
        errors: standard errors of the drops, (tasks,).
    """

    group: FeatureGroup
    drops: np.ndarray
    errors: np.ndarray

    @property
    def none_at_all(self) -> bool:
        """Whether not a single score changed its rank: the model never sees it."""
        return not np.any(np.nan_to_num(self.drops)) and not np.any(
            np.nan_to_num(self.errors)
        )


class PermutationImportance:
    """Permutes features among examples and compares how the model ranks (Breiman 2001).

        V_i  = share of the other class that example i is ranked right of, ties half
        D_i  = V_i - mean over repeats of V_i with the group permuted
        drop = weighted mean of D over the positives
             = AUROC - mean over repeats of AUROC with the group permuted
        standard error = sqrt(var_positives(mean D) + var_negatives(mean D))

    the paired form of DeLong's error (1988) of an AUROC: it counts the choice of the
    examples as well as the permutations. All columns of a group are permuted together,
    so what they say about each other stays.

    Args:
        predict: the model, whose scores are only compared with each other.
        features: the examples, as `RowSample` gives them.
        labels, weights: (examples, tasks); labels above 0 are positives.
        repeats: permutations of each group, at least 1.
        batch_size: examples per call of `predict`.
        seed: of the permutations; the same seed gives the same drops.
    """

    def __init__(
        self,
        predict: Predict,
        features: Columns,
        labels: np.ndarray,
        weights: np.ndarray,
        *,
        repeats: int,
        batch_size: int,
        seed: int = 0,
    ):
        self._predict = tf.function(predict, reduce_retracing=True)
        self._features = features
        self._positive, self._weights = labels > 0, weights
        self._repeats = repeats
        self._batch_size = batch_size
        self._random = np.random.default_rng(seed)
        self._ranked = self._placements(features)

    def measure(self, groups: Sequence[FeatureGroup]) -> Iterator[Importance]:
        """Measures the importance of each group, with a progress bar on stderr."""
        seconds = 0.5 if sys.stderr.isatty() else 10.0
        for group in tqdm.tqdm(
            groups, "permute", unit="group", mininterval=seconds, leave=False
        ):
            yield self._measure(group)

    def _measure(self, group: FeatureGroup) -> Importance:
        lost = np.zeros_like(self._ranked)
        for _ in range(self._repeats):
            lost += self._ranked - self._placements(self._permuted(group))
        lost /= self._repeats
        by_task = [
            _drop(lost[:, task], self._positive[:, task], self._weights[:, task])
            for task in range(lost.shape[1])
        ]
        drops, errors = np.array(by_task).T
        return Importance(group, drops, errors)

    def _permuted(self, group: FeatureGroup) -> Columns:
        order = self._random.permutation(len(self._positive))
        changed = dict(self._features)
        for name, columns in group.columns.items():
            values = changed[name]
            if columns is None:
                changed[name] = values[order]
            else:
                changed[name] = values.copy()
                changed[name][:, columns] = values[order[:, np.newaxis], columns]
        return changed

    def _placements(self, features: Columns) -> np.ndarray:
        """The V of every example and task, (examples, tasks)."""
        scores = []
        for start in range(0, len(self._positive), self._batch_size):
            end = start + self._batch_size
            batch = {name: values[start:end] for name, values in features.items()}
            scores.append(self._predict(as_tensors(batch)).numpy())
        scores = np.concatenate(scores).astype(np.float64)
        return np.stack(
            [
                placements(scores[:, t], self._positive[:, t], self._weights[:, t])
                for t in range(scores.shape[1])
            ],
            axis=1,
        )


def placements(
    scores: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """The weighted share of the other class that each example is ranked right of.

    Ties count half. The weighted mean over either class is the AUROC. NaN for all if
    a class is missing or a score is no number.

    Args:
        scores, positive, weights: (examples,).
    """
    there = weights > 0
    if not np.isfinite(scores[there]).all():
        return np.full(len(scores), np.nan)
    right = np.empty(len(scores))
    for of_positives in (True, False):
        members = positive == of_positives
        others = there & ~members
        order = np.argsort(scores[others])
        ordered = scores[others][order]
        below = np.append(0.0, np.cumsum(weights[others][order], dtype=np.float64))
        if below[-1] == 0:
            return np.full(len(scores), np.nan)
        strictly, with_ties = (
            below[np.searchsorted(ordered, scores[members], side)]
            for side in ("left", "right")
        )
        share = (strictly + with_ties) / 2 / below[-1]
        right[members] = share if of_positives else 1 - share
    return right


def _drop(
    lost: np.ndarray, positive: np.ndarray, weights: np.ndarray
) -> tuple[float, float]:
    """The weighted mean of `lost` over the positives, and its standard error."""
    variance = 0.0
    for of_positives in (True, False):
        members = (positive == of_positives) & (weights > 0)
        values, w = lost[members], weights[members].astype(np.float64)
        if len(values) < 2 or np.isnan(values).any():
            return np.nan, np.nan
        mean = np.average(values, weights=w)
        variance += np.sum((w * (values - mean)) ** 2) / w.sum() ** 2
        if of_positives:
            drop = mean
    return float(drop), float(np.sqrt(variance))
