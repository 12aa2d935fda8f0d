"""Labels of engagements that came too late are taken back."""

import dataclasses
from collections.abc import Mapping

import gin
import tensorflow as tf

from recap_tf.core.checks import check_range
from recap_tf.data.preprocess_steps import Step, check_features
from recap_tf.data.tasks import check_known

_MS_PER_HOUR = 3_600_000


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class RectifyLabels(Step):
    """Takes back labels of engagements that came long after the post was served.

        label stays 1 if impressed - served < window and engaged - served < window

    The features it names are read for it, under their names in the records, and not
    handed on; where `Records.features` or `extra_features` hold one, it stays.

    >>> from recap_tf.data.late_labels import RectifyLabels
    >>> step = RectifyLabels(served="served", impressed="seen", engaged={"like": "at"})
    >>> times = {"served": [0, 0], "seen": [9, 9], "at": [60_000, 90_000_000]}
    >>> times = {name: tf.constant(values) for name, values in times.items()}
    >>> _, labels, _ = step((times, tf.ones([2, 1]), tf.ones([2, 1])), ["like"])
    >>> labels.numpy().tolist()  # The second like came a day later.
    [[1.0], [0.0]]

    Args:
        served, impressed: features with those times, one integer, in ms.
        engaged: task -> the feature with the time of its engagement, in ms; missing
            where there was none.
        window_hours: the longest time that still counts, exclusive.
    """

    served: str
    impressed: str
    engaged: Mapping[str, str]
    window_hours: float = 3.0
    order = 4

    def __post_init__(self):
        check_range("RectifyLabels.window_hours", self.window_hours, above=0)

    def label_features(self):
        engaged = dict.fromkeys(self.engaged.values(), False)
        return engaged | {self.served: True, self.impressed: True}

    def check_tasks(self, tasks):
        check_known("RectifyLabels.engaged", self.engaged, tasks)

    def __call__(self, batch, tasks):
        features, labels, weights = batch
        self.check_tasks(tasks)
        for name in self.label_features():
            check_features("RectifyLabels", [name], features)
            _check_time(name, features[name])
        window = int(self.window_hours * _MS_PER_HOUR)

        def since_served(name: str) -> tf.Tensor:
            return tf.reshape(features[name] - features[self.served], [-1])

        in_time = since_served(self.impressed) < window
        columns = tf.unstack(labels, num=len(tasks), axis=1)
        for task, name in self.engaged.items():
            i = tasks.index(task)
            stays = in_time & (since_served(name) < window)
            columns[i] = columns[i] * tf.cast(stays, labels.dtype)
        return features, tf.stack(columns, axis=1), weights


def _check_time(name: str, x: tf.Tensor | tf.SparseTensor) -> None:
    # float32 would round a time in ms to minutes.
    single = x.shape.rank == 1 or (x.shape.rank == 2 and x.shape[1] == 1)
    if not single or not x.dtype.is_integer:
        raise ValueError(
            f"RectifyLabels takes the feature {name!r} for a time in ms, one int64. "
            f"Received: {x.dtype.name} of shape {x.shape}"
        )
