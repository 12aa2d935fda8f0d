"""Area under the ROC curve in bounded memory, with a bound on its error."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.metrics.auroc import area_and_error
from recap_tf.metrics.machinery.example_metric import ExampleMetric
from recap_tf.metrics.machinery.task_metric import plain_python, value_where
from recap_tf.metrics.machinery.tie_blocks import TieBlocks


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class BinnedAUROC(ExampleMetric):
    """AUROC of scores rounded to a grid, in memory that does not grow.

        bin   = floor((logit(p) + limit) / (2 * limit) * bins), cut to [0, bins - 1]
        AUROC = U / (P * N), ties within a bin counted half, as in `AUROC`

    The grid is even in the logit, so that probabilities near 0 and near 1 keep their
    resolution. Call: (labels, predictions, weight), all (batch, tasks) -> (tasks,). NaN
    without both classes or with a NaN score.

    Pairs in different bins are in the right order; those that share a bin count half.
    So |value - exact AUROC| <= `error_bound`, whatever the scores:

        error_bound = 1/2 * sum over bins of P_bin * N_bin / (P * N)

    Some 1e-4 with the default grid on scores spread over a few logits, 0.5 if all fall
    into one bin. Pairs of equal scores are in the bound though they count right.
    Standard error: DeLong as in `AUROC`, of the rounded scores.

    Keeps 32 bytes per bin and task: 2 MiB per task by default.

    Args:
        bins: cells of the grid; at least 2.
        limit: largest logit on the grid; what lies beyond falls into the outer bins.
            20 holds probabilities from 2e-9 on.
        from_logits: the predictions are logits, or scores of that size.
        label_threshold: labels above it are positives.

    >>> from recap_tf.metrics.binned_auroc import BinnedAUROC
    >>> auroc = BinnedAUROC()
    >>> auroc.update_state([0, 1, 0, 1], [0.1, 0.4, 0.5, 0.8])
    >>> float(auroc.result())
    0.75
    """

    default_name = "binned_auroc"

    def __init__(
        self,
        tasks: int | None = None,
        bins: int = 65536,
        limit: float = 20.0,
        from_logits: bool = False,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("bins", bins, at_least=2)
        check_range("limit", limit, above=0)
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.bins = bins
        self.limit = limit
        self.from_logits = from_logits
        self.label_threshold = label_threshold
        # Rows of one task after those of another. Columns: weight of the positives,
        # of the negatives, and the two sums of squared weights.
        self.sums = self.add_state("sums", (self.columns * bins, 4), tf.float64)
        self.examples = self.add_state("examples", (self.columns, 2), tf.float64)
        self.nans = self.add_state("nans", (self.columns,), tf.float64)

    def add_examples(
        self, labels: tf.Tensor, scores: tf.Tensor, weights: tf.Tensor
    ) -> None:
        weights = tf.cast(weights, tf.float64)
        positive = tf.where(labels > self.label_threshold, weights, 0.0)
        classes = tf.stack([positive, weights - positive], axis=-1)
        rows = tf.range(self.columns) * self.bins + self._bin_of(scores)
        sums = tf.concat([classes, classes**2], axis=-1)
        # A scatter writes in place; a histogram of the batch would be as large as all.
        self.sums.scatter_add(
            tf.IndexedSlices(tf.reshape(sums, [-1, 4]), tf.reshape(rows, [-1]))
        )
        counted = tf.math.count_nonzero(classes, axis=0, dtype=tf.float64)
        self.examples.assign_add(counted)
        nans = tf.math.is_nan(scores) & (weights != 0)
        self.nans.assign_add(tf.math.count_nonzero(nans, axis=0, dtype=tf.float64))

    def _bin_of(self, scores: tf.Tensor) -> tf.Tensor:
        scores = tf.cast(scores, tf.float64)
        if not self.from_logits:
            scores = tf.math.log(scores) - tf.math.log1p(-scores)
        place = (scores + self.limit) / (2 * self.limit) * self.bins
        place = tf.where(tf.math.is_nan(place), tf.zeros_like(place), place)
        # Cut before the cast: a large float has no integer.
        place = tf.clip_by_value(place, 0.0, self.bins - 1.0)
        return tf.cast(place, tf.int32)

    def merge_one(self, metric: "BinnedAUROC") -> None:
        self.sums.assign_add(metric.sums)
        self.examples.assign_add(metric.examples)
        self.nans.assign_add(metric.nans)

    def _sums(self) -> tf.Tensor:
        """The four sums of every bin, (columns, bins, 4)."""
        return tf.reshape(self.sums, [self.columns, self.bins, 4])

    def value_and_error(self) -> tuple[tf.Tensor, tf.Tensor]:
        def of_task(inputs: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, tf.Tensor]:
            sums, examples, nans = inputs
            # A NaN went into some bin: the value has to be NaN.
            scores = value_where(nans == 0, tf.zeros_like(nans))
            return area_and_error(
                TieBlocks(scores, *tf.unstack(sums, axis=1), *tf.unstack(examples))
            )

        value, error = tf.map_fn(
            of_task,
            (self._sums(), tf.convert_to_tensor(self.examples), self.nans.read_value()),
            parallel_iterations=1,
            fn_output_signature=(tf.float64, tf.float64),
        )
        return self.per_task(tf.cast(value, self.dtype)), self.per_task(error)

    @plain_python
    def result(self) -> tf.Tensor:
        return self.value_and_error()[0]

    def standard_error(self) -> tf.Tensor:
        return self.value_and_error()[1]

    def error_bound(self) -> tf.Tensor:
        """How far the value may be from the exact AUROC, float64 (tasks,)."""
        positive, negative, _, _ = tf.unstack(self._sums(), axis=-1)
        shared = tf.reduce_sum(positive * negative, axis=1)
        pairs = tf.reduce_sum(positive, axis=1) * tf.reduce_sum(negative, axis=1)
        bound = tf.math.divide_no_nan(shared, pairs) / 2
        return self.per_task(value_where((pairs > 0) & (self.nans == 0), bound))


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class BinnedAUROCBound(BinnedAUROC):
    """How far `BinnedAUROC` may be from the exact AUROC: its `error_bound`.

    A bound that holds for the examples seen has no standard error: NaN. Call and
    memory: as `BinnedAUROC`.

    >>> from recap_tf.metrics.binned_auroc import BinnedAUROCBound
    >>> bound = BinnedAUROCBound(bins=2)  # below 0.5, and above
    >>> bound.update_state([0, 1, 0, 1], [0.1, 0.4, 0.6, 0.8])
    >>> float(bound.result())
    0.25
    """

    default_name = "binned_auroc_bound"

    def __init__(self, tasks: int | None = None, name: str | None = None, **settings):
        super().__init__(tasks=tasks, name=name, **settings)

    def value_and_error(self) -> tuple[tf.Tensor, tf.Tensor]:
        bound = self.error_bound()
        return tf.cast(bound, self.dtype), value_where(False, bound)
