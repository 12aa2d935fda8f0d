"""Label columns of records paired with the tasks: parsed records -> (batch, tasks)."""

from collections.abc import Mapping, Sequence

import tensorflow as tf


def task_labels(
    parsed: Mapping[str, tf.Tensor],
    tasks: Sequence[str],
    batch_size: int | None = None,
) -> tf.Tensor:
    """Puts the label of every task into the task's column.

    >>> parsed = {"reply": tf.constant([[0], [1]]), "like": tf.constant([[1], [1]])}
    >>> task_labels(parsed, ["like", "reply"]).numpy().tolist()
    [[1, 0], [1, 1]]

    Args:
        parsed: label and other features -> (batch, 1) tensors.
        tasks: the labels that are read, in the order of the columns.
        batch_size: where it is known before the records are read.

    Returns:
        (batch, tasks) integers. Reading it raises InvalidArgumentError where one is
        neither 0 nor 1.
    """
    labels = tf.concat([parsed[task] for task in tasks], axis=1)
    labels.set_shape([batch_size, len(tasks)])
    check = tf.debugging.Assert(
        tf.reduce_all((labels == 0) | (labels == 1)),
        [f"A label is neither 0 nor 1, in one of {list(tasks)}."],
    )
    with tf.control_dependencies([check]):
        return tf.identity(labels)
