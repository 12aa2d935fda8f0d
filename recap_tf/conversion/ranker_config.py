"""ranker.gin: the config that trains a ranker on converted records."""

import json

from recap_tf.conversion.columns import Columns
from recap_tf.conversion.row_records import schema_features
from recap_tf.metrics.metric_choice import DEFAULT

VALIDATION_LINE = 'validation/Records.files = "{here}/validation-*.tfrecord.gz"'
WITHOUT_VALIDATION = (
    "recap.ranker.validation_sets = []",
    "recap.train.evaluate_every = None",
    "recap.train.early_stopping = None",
)
_PASSES = 3
# recap.train.batch_size in tabular.gin.
_BATCH_SIZE = 512


def ranker_config(columns: Columns, split: str, *, validation: bool) -> str:
    """The text of `ranker.gin`.

    Args:
        columns: what the records hold.
        split: prefix of the training files.
        validation: whether there are validation files.
    """
    labels = {label.name for label in columns.labels}
    inputs = [
        feature.name
        for feature in schema_features(columns)
        if feature.name not in labels and feature.name != columns.group_feature
    ]
    lines = [
        "# Written by recap_tf.convert. {here} is the folder of this file.",
        'include "recap_tf/tabular.gin"',
        "",
        f"recap.ranker.tasks = {_list(label.name for label in columns.labels)}",
        "",
        'Records.schema = "{here}/schema.json"',
        f"Records.features = {_mapping(inputs)}",
        f'train/Records.files = "{{here}}/{split}-*.tfrecord.gz"',
    ]
    if validation:
        lines.append(VALIDATION_LINE)
    else:
        # Nothing tells when to stop: a fixed number of passes over the rows.
        steps = max(_PASSES * columns.rows // _BATCH_SIZE, 100)
        lines += [*WITHOUT_VALIDATION, f"recap.train.steps = {steps}"]
    lines.append("")
    if columns.discrete:
        lines.append('SmallEmbeddings.columns = "{here}/columns.json"')
    else:
        lines.append("RankingModel.small_embeddings = None")
    if not columns.continuous:
        lines.append("RankingModel.preprocessor = None")
    if columns.group_feature is not None:
        lines += [
            "",
            f"recap.evaluate.group_feature = {json.dumps(columns.group_feature)}",
            f"recap.evaluate.which_metrics = {_list([*DEFAULT, 'gauc'])}",
        ]
    lines += ["", 'recap.train.save_dir = "{here}/run"', ""]
    return "\n".join(lines)


def _list(names) -> str:
    return "[\n" + "".join(f"    {json.dumps(name)},\n" for name in names) + "]"


def _mapping(names: list[str]) -> str:
    return "{\n" + "".join(f'    "{name}": "{name}",\n' for name in names) + "}"
