"""First pass over the training rows: vocabularies and statistics."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from recap_tf.conversion.columns import (
    BinaryColumn,
    Columns,
    EmbeddingColumn,
    IdColumn,
    LabelColumn,
)
from recap_tf.conversion.feature_choice import (
    ID_VALUES_AT_MOST,
    CandidateColumns,
    FeatureChoice,
)
from recap_tf.conversion.history import History, HistorySettings
from recap_tf.conversion.impressions import Chunk, Impressions
from recap_tf.conversion.numeric_statistics import NumericStatistics
from recap_tf.conversion.vocabulary import ValueCounts, Vocabulary
from recap_tf.core.command import UserError


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The features of a conversion, with all that training rows say of them.

    Args:
        columns: what each column of the features is.
        vocabularies: id column -> its ids.
        left_out: column -> why it became no feature.
    """

    columns: Columns
    vocabularies: dict[str, Vocabulary]
    left_out: dict[str, str]


def fit(
    rows: Impressions,
    candidates: CandidateColumns,
    choice: FeatureChoice,
    *,
    history: HistorySettings | None,
    min_count: int,
    window: tuple[int, int | None] = (0, None),
) -> Fitted:
    """Reads the rows once; see `Fitted`.

    Args:
        candidates: which columns may become what.
        choice: the embeddings and the group.
        history: what to count; None for nothing.
        min_count: a value that occurs less often is rare.
        window: the rows to read, as in `Impressions.chunks`.

    Raises:
        UserError: there are no rows or no features, or a value cannot be used.
    """
    counts = {name: ValueCounts() for name in candidates.ids}
    counts |= {name: ValueCounts(ID_VALUES_AT_MOST) for name in candidates.undecided}
    numeric = [*candidates.numeric, *candidates.undecided]
    statistics = NumericStatistics([*numeric, *(history.features if history else ())])
    vectors = {name: _Vectors(name, col) for name, col in choice.embeddings.items()}
    positives, total = np.zeros(len(rows.labels), np.int64), 0
    group = [choice.group] if choice.group else []
    names = [*candidates.columns, *choice.embeddings.values(), *group]
    counter = History(history) if history else None
    for chunk in rows.chunks(names, history=counter, window=window, doing="statistics"):
        for name, values in counts.items():
            values.add(chunk.column(name))
        statistics.add(numeric_values(chunk, numeric))
        for vector in vectors.values():
            vector.add(chunk)
        positives += chunk.labels.sum(axis=0)
        total += len(chunk.rows)
    if not total:
        files = ", ".join(file.path for file in rows.files)
        condition = f" that meet --where {rows.where.text!r}" if rows.where else ""
        raise UserError(f"{files}: there are no rows{condition}.")
    ids, numeric, left_out = _decided(rows, candidates, choice, counts)
    if not (ids or numeric or vectors or history):
        raise UserError("No column is left to be a feature; see --ids and --numeric.")

    vocabularies = {}
    for name in ids:
        missing = {None: counts[name].missing} if counts[name].missing else {}
        vocabularies[name] = Vocabulary(counts[name].counts | missing, min_count)
    known = {column.name: column for column in statistics.columns()}
    counted = history.features if history else []
    continuous = tuple(known[name] for name in [*numeric, *counted])
    columns = Columns(
        rows=total,
        continuous=continuous,
        binary=tuple(
            BinaryColumn(name=f"{c.name}.missing", column=c.name, ones=c.missing)
            for c in continuous
            if c.missing
        ),
        discrete=tuple(
            IdColumn(
                name=name,
                size=vocabulary.size,
                rare=vocabulary.rare,
                missing=counts[name].missing,
            )
            for name, vocabulary in vocabularies.items()
        ),
        embeddings=tuple(vector.column() for vector in vectors.values()),
        labels=tuple(
            LabelColumn(name=label.name, expression=label.text, positives=int(count))
            for label, count in zip(rows.labels, positives, strict=True)
        ),
        group=choice.group,
        history=history,
        joins=tuple(side.join for side in rows.side_tables),
    )
    return Fitted(columns, vocabularies, left_out)


def numeric_values(chunk: Chunk, columns: Sequence[str]) -> np.ndarray:
    """float32 (rows, columns + history), NaN where a value is missing."""
    values = [chunk.numbers(name)[:, None] for name in columns]
    return np.concatenate([*values, chunk.history.astype(np.float32)], axis=1)


def _decided(
    rows: Impressions,
    candidates: CandidateColumns,
    choice: FeatureChoice,
    counts: dict[str, ValueCounts],
) -> tuple[list[str], list[str], dict[str, str]]:
    """(id columns, numeric columns, column left out -> why)."""
    ids, numeric = list(candidates.ids), list(candidates.numeric)
    left_out = dict(candidates.left_out)
    for name, otherwise in candidates.undecided.items():
        if not counts[name].over_limit:
            ids.append(name)
        elif otherwise == "numeric":
            numeric.append(name)
        else:
            left_out[name] = f"more than {ID_VALUES_AT_MOST} values, not listed"
    order = list(rows.kinds)
    if choice.ids is None:
        ids.sort(key=order.index)
    if choice.numeric is None:
        numeric.sort(key=order.index)
    return ids, numeric, left_out


class _Vectors:
    """Width and missing values of one column of vectors."""

    def __init__(self, name: str, source: str):
        self._name, self._source = name, source
        self._width, self._missing = None, 0

    def add(self, chunk: Chunk) -> None:
        column = chunk.column(self._source)
        self._missing += column.null_count
        if self._width is None and column.null_count < len(column):
            self._width = pc.list_value_length(column.drop_null())[0].as_py()
        if self._width is not None:
            # Every vector is checked before anything is written.
            chunk.vectors(self._source, self._width)

    def column(self) -> EmbeddingColumn:
        if not self._width:
            raise UserError(f"--embeddings: column {self._source!r} holds no vector.")
        return EmbeddingColumn(
            name=self._name,
            column=self._source,
            width=self._width,
            missing=self._missing,
        )
