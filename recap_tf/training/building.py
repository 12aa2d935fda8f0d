"""From settings to a model that is not trained yet."""

from collections.abc import Mapping

import tf_keras as keras

from recap_tf.data import record_batches
from recap_tf.data.feature_steps import ExtractFeatures
from recap_tf.data.record_batches import FeatureSpec
from recap_tf.model.ranking_model import RankingModel, create_ranking_model
from recap_tf.settings import Ranker


def build_model(
    ranker: Ranker,
    policy: str | None = None,
    specs: Mapping[str, FeatureSpec] | None = None,
) -> RankingModel:
    """The ranker's model with its first weights.

    Args:
        ranker: the settings.
        policy: Keras's name of a precision, in place of the ranker's own.
        specs: `feature_specs(ranker.train_data)`, where they are known already: they
            take a graph's tracing.
    """
    if specs is None:
        specs = record_batches.feature_specs(ranker.train_data)
    if policy is None:
        policy = "mixed_bfloat16" if ranker.precision == "bfloat16" else "float32"
    keras.mixed_precision.set_global_policy(policy)
    model = create_ranking_model(
        ranker.model,
        ranker.tasks,
        specs,
        record_batches.sampling_ratios(ranker.train_data, ranker.tasks),
        ranker.score_weights,
    )
    if model.position_debias is not None:
        feature = model.position_debias.feature
        for step in ranker.train_data.preprocess:
            if isinstance(step, ExtractFeatures) and feature in step.columns:
                model.check_positions_are_hidden(*step.columns[feature])
    return model
