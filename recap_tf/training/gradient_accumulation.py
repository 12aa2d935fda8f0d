"""Gradient accumulation: several batches make one update, by their mean gradient."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from recap_tf.losses import gradient_arithmetic
from recap_tf.model.ranking_model import RankingModel


def accumulate(
    batches: Sequence, of_batch: Callable[[Any], tuple[Any, tf.Tensor]]
) -> tuple[Any, tf.Tensor]:
    """The sum of the batches' gradients, and the mean of their reports.

    The loss of each batch has to be divided by their number: then the sum is the
    gradient of the mean loss.

    Args:
        batches: at least one.
        of_batch: batch -> (gradients in any structure, report).
    """
    total, reports = None, []
    for batch in batches:
        gradients, report = of_batch(batch)
        if total is None:
            total = gradients
        else:
            total = tf.nest.map_structure(gradient_arithmetic.add, total, gradients)
        reports.append(report)
    return total, tf.add_n(reports) / len(reports)


def check_accumulation(model: RankingModel, gradient_accumulation: int) -> None:
    """Raises ValueError if a table of the model does not bear accumulated gradients.

    Args:
        model: whose large tables are looked at.
        gradient_accumulation: batches to an update.
    """
    large = model.large_embeddings
    # A row may change hands between two batches of one update, and the new owner would
    # get the old one's gradient.
    tables = () if large is None else large.tables.values()
    for table in tables:
        if table.open_vocabulary is not None and gradient_accumulation > 1:
            raise ValueError(
                "recap.train.gradient_accumulation must be 1 with "
                f"TableSpec.open_vocabulary, which table {table.name!r} has. "
                f"Received: {gradient_accumulation}"
            )
