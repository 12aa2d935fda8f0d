"""From settings to a model that is not trained yet."""

import tf_keras as keras

from recap_tf.data import record_batches
from recap_tf.data.feature_steps import ExtractFeatures
from recap_tf.model.ranking_model import RankingModel, create_ranking_model
from recap_tf.settings import Ranker, TrainSettings


def build_model(ranker: Ranker, policy: str | None = None) -> RankingModel:
    """The ranker's model with its first weights.

    Args:
        ranker: the settings.
        policy: Keras's name of a precision, in place of the ranker's own.
    """
    if policy is None:
        policy = "mixed_bfloat16" if ranker.precision == "bfloat16" else "float32"
    keras.mixed_precision.set_global_policy(policy)
    model = create_ranking_model(
        ranker.model,
        ranker.tasks,
        record_batches.feature_specs(ranker.train_data),
        record_batches.sampling_ratios(ranker.train_data, ranker.tasks),
        ranker.score_weights,
    )
    if model.position_debias is not None:
        feature = model.position_debias.feature
        for step in ranker.train_data.preprocess:
            if isinstance(step, ExtractFeatures) and feature in step.columns:
                model.check_positions_are_hidden(*step.columns[feature])
    return model


def check_accumulation(model: RankingModel, settings: TrainSettings) -> None:
    """Raises ValueError if a table of the model does not bear accumulated gradients."""
    large = model.large_embeddings
    # A row may change hands between two batches of one update, and the new owner would
    # get the old one's gradient.
    tables = () if large is None else large.tables.values()
    for table in tables:
        if table.open_vocabulary is not None and settings.gradient_accumulation > 1:
            raise ValueError(
                "recap.train.gradient_accumulation must be 1 with "
                f"TableSpec.open_vocabulary, which table {table.name!r} has. "
                f"Received: {settings.gradient_accumulation}"
            )
