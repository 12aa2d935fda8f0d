"""What the records of each data set hold."""

from collections.abc import Sequence

from recap_tf.conversion.columns import Columns
from recap_tf.data.record_batches import Records
from recap_tf.data.schema import Schema, read_schema
from recap_tf.inspection.survey import SplitSummary, summarize


def survey(
    name: str,
    records: Records,
    tasks: Sequence[str],
    columns: Columns | None,
    most_records: int,
) -> SplitSummary:
    """Summarizes what a data set reads of its first records.

    Args:
        name: the set's name, for the progress bar.
        records: how the set is read; preprocessing is left out.
        tasks: the labels, which must be 0 or 1.
        columns: names of the dense features' columns.
        most_records: how many records are read at most.
    """
    schema = read_schema(records.schema)
    read = dict.fromkeys([*records.names(), *tasks])
    return summarize(
        f"survey {name}",
        records.paths(),
        Schema([schema[feature] for feature in read], schema.path),
        labels=tasks,
        columns=columns,
        most_records=most_records,
    )
