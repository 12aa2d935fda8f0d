"""Label columns paired with tasks."""

import pytest
import tensorflow as tf

from recap_tf.data.task_labels import task_labels

PARSED = {"reply": [[0], [1]], "like": [[1], [1]], "shares": [[0], [2]]}


def _parsed():
    return {name: tf.constant(values, tf.int64) for name, values in PARSED.items()}


@pytest.mark.parametrize("tasks", [["reply", "like"], ["like", "reply"], ["like"]])
def test_columns_follow_the_order_of_the_tasks(tasks):
    labels = task_labels(_parsed(), tasks, batch_size=2)
    assert labels.shape == (2, len(tasks))
    for column, task in enumerate(tasks):
        assert labels[:, column : column + 1].numpy().tolist() == PARSED[task]


def test_a_label_beyond_0_and_1():
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither 0 nor 1, in one"):
        task_labels(_parsed(), ["like", "shares"])
