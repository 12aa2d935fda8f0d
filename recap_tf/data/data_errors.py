"""Reading on after damaged data, and saying what was left out."""

import numpy as np
import tensorflow as tf

from recap_tf.core.command import say


def skip_errors(dataset: tf.data.Dataset, message: str) -> tf.data.Dataset:
    """`dataset` without the elements that fail to be made; each is told on stderr.

    Before: a, b, error, c.  After: a, b, c.

    Args:
        message: what to say of a failed element.
    """
    # Elements are numbered before the failed ones are taken out and again after: where
    # the numbers come apart, one failed. An empty element marks the end, to show
    # failures that end the data set, as damage to a file does.
    optional = tf.experimental.Optional
    present = dataset.map(lambda *x: optional.from_value(x if len(x) > 1 else x[0]))
    end = tf.data.Dataset.from_tensors(0).map(
        lambda _: optional.empty(dataset.element_spec)
    )
    numbered = present.concatenate(end).enumerate().ignore_errors().enumerate()

    def tell(told, read, element):
        number, value = element
        failed = number - read
        tf.cond(
            failed > told,
            lambda: tf.numpy_function(_warn(message), [read], tf.bool),
            lambda: True,
        )
        return failed, value

    values = numbered.scan(
        tf.constant(0, tf.int64), lambda told, element: tell(told, *element)
    )
    return values.filter(lambda value: value.has_value()).map(
        lambda value: value.get_value()
    )


def _warn(message: str):
    def warn(read: int) -> np.bool_:
        say(f"\nwarning: {message}; {read} were read before")
        return np.bool_(True)

    return warn
