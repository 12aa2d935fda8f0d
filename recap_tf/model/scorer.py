"""What scores posts in the end: a ranking model, or a view of it with calibrators."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import tensorflow as tf
import tf_keras as keras

from recap_tf.model.calibrators import Calibrators
from recap_tf.model.ranking_model import RankingModel


class Scorer(Protocol):
    """What is evaluated and exported: a `RankingModel`, or something made of one.

    Call: features after preprocessing -> what a `RankingModel` gives.
    """

    tasks: list[str]
    calibration_ratios: Mapping[str, float]
    score_weights: Mapping[str, float]
    calibrators: Calibrators | None
    large_embeddings: keras.layers.Layer | None
    variables: Sequence[tf.Variable]

    def __call__(self, inputs, training=None) -> dict[str, tf.Tensor]: ...


class CalibratedRanker:
    """A view of a model with post-hoc calibrators; all else is the model's.

    Call: as `RankingModel`.

    Args:
        model: with its trained weights, which the view shares.
        calibrators: of its tasks, or of some.
    """

    def __init__(self, model: RankingModel, calibrators: Calibrators):
        self.model, self.calibrators = model, calibrators

    def __call__(self, inputs, training=None) -> dict[str, tf.Tensor]:
        return self.model(inputs, training=training, calibrators=self.calibrators)

    def __getattr__(self, name: str) -> Any:
        if name == "model":  # Not made yet.
            raise AttributeError(name)
        return getattr(self.model, name)


def with_calibrators(model: RankingModel, calibrators: Calibrators | None) -> Scorer:
    """The model itself, or a view of it with the calibrators that there are."""
    return model if calibrators is None else CalibratedRanker(model, calibrators)
