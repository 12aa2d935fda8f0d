"""How much of the data a report looks at."""

import dataclasses

import gin

from recap_tf.core.checks import check_range


@gin.configurable("report", module="recap")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """What `recap_tf.evaluate --report` computes, and from how much.

    Args:
        curve_examples: examples of each set, drawn at random, that its curves and
            histograms are made of. Metrics are always of the whole set.
        importance_set: the validation set whose features are permuted; the first one
            if none.
        importance_examples: examples of it, drawn at random; 0 leaves the importance
            of features out.
        importance_repeats: permutations of each group of features.
        importance_columns: columns of a dense feature that are permuted one by one. A
            feature of more columns is permuted in runs of neighbours.
        statistics_examples: the first so many records of each data set are surveyed.
        seed: of the random draws and the permutations.
    """

    curve_examples: int = 100_000
    importance_set: str | None = None
    importance_examples: int = 5_000
    importance_repeats: int = 3
    importance_columns: int = 100
    statistics_examples: int = 200_000
    seed: int = 0

    def __post_init__(self):
        for name, least in (
            ("curve_examples", 1),
            ("importance_examples", 0),
            ("importance_repeats", 1),
            ("importance_columns", 1),
            ("statistics_examples", 1),
        ):
            check_range(f"recap.report.{name}", getattr(self, name), at_least=least)
