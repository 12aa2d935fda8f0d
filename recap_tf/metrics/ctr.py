"""Click-through rate, and the predicted one."""

import gin
import tf_keras as keras

from recap_tf.metrics.machinery.weighted_mean import MeanMetric


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class CTR(MeanMetric):
    """Click-through rate: the mean label.

        CTR = sum(w * label) / sum(w)

    Call: (labels, predictions, weight), all (batch, tasks) -> (tasks,); the predictions
    are not used. Standard error: that of a weighted mean.

    >>> from recap_tf.metrics.ctr import CTR
    >>> ctr = CTR()
    >>> ctr.update_state([1, 0, 0, 0])
    >>> float(ctr.result())
    0.25
    """

    default_name = "ctr"
    uses = ("labels",)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class PCTR(MeanMetric):
    """Predicted click-through rate: the mean probability.

        PCTR = sum(w * probability) / sum(w)

    Call: (labels, probabilities, weight), all (batch, tasks) -> (tasks,); the labels
    are not used. Standard error: that of a weighted mean.

    >>> from recap_tf.metrics.ctr import PCTR
    >>> pctr = PCTR()
    >>> pctr.update_state(None, [0.5, 0.25, 0.75, 0.0])
    >>> float(pctr.result())
    0.375
    """

    default_name = "pctr"
    uses = ("predictions",)
