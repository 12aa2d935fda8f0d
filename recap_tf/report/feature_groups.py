"""Which features belong together when the model's input is taken apart."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from recap_tf.conversion.columns import Columns
from recap_tf.data import preprocess_steps
from recap_tf.data.feature_steps import TruncateAndSlice
from recap_tf.data.record_batches import Records, raw_feature_specs
from recap_tf.report.row_sample import is_sparse

_NAMED = ("continuous", "binary", "discrete")
_RUNS = 16


@dataclasses.dataclass(frozen=True)
class FeatureGroup:
    """Parts of the input that are permuted together.

    Args:
        name: what people call the group.
        kind: what it consists of, in a few words.
        columns: feature -> its columns that belong to the group; None for all.
    """

    name: str
    kind: str
    columns: Mapping[str, Sequence[int] | None]


def whole_features(features: Mapping[str, np.ndarray]) -> list[FeatureGroup]:
    """Makes one group of each feature."""
    return [FeatureGroup(name, _kind(x), {name: None}) for name, x in features.items()]


def column_groups(
    features: Mapping[str, np.ndarray],
    records: Records,
    columns: Columns | None,
    most_columns: int,
) -> list[FeatureGroup]:
    """Makes groups within the features `continuous`, `binary` and `discrete`.

    Where columns.json names them, the columns made from one column of the table (its
    number, the mark where it is missing, its id) are one group, for no one could
    change only one of them. Otherwise every column is a group or, in a feature of
    more than `most_columns`, a run of neighbouring columns.

    Args:
        features: (examples, width) each, as the model takes them.
        records: where they come from, for their place in the records.
        columns: what columns.json says; None without one.
        most_columns: groups of a feature of which not every column is one; at least 1.
    """
    named: dict[str, dict[str, list[int]]] = {}
    unnamed: list[FeatureGroup] = []
    for feature, places in _places(features, records).items():
        names = _names(feature, columns, places)
        if names is not None and len(names) <= most_columns:
            for index, name in enumerate(names):
                named.setdefault(name, {}).setdefault(feature, []).append(index)
        elif len(places) > 1:
            unnamed += _runs(feature, places, names, most_columns)
    groups = [
        FeatureGroup(name, ", ".join(parts), parts) for name, parts in named.items()
    ]
    return groups + unnamed


def _kind(values: np.ndarray) -> str:
    if is_sparse(values):
        return "variable length"
    return f"{values.shape[1]:,} columns" if values.ndim > 1 else "1 column"


def _places(
    features: Mapping[str, np.ndarray], records: Records
) -> dict[str, np.ndarray]:
    """The column in the records of each column of the dense features."""
    raw = raw_feature_specs(records)
    places = {
        name: tf.range(raw[name].shape[1])[tf.newaxis]
        for name in _NAMED
        if name in features and name in raw
    }
    for step in preprocess_steps.in_order(records.preprocess):
        # The only step that moves columns.
        if isinstance(step, TruncateAndSlice):
            places = step.serve(places)
    return {name: place.numpy()[0] for name, place in places.items()}


def _names(
    feature: str, columns: Columns | None, places: np.ndarray
) -> list[str] | None:
    if columns is None:
        return None
    entries = getattr(columns, feature)
    if len(places) and places.max() >= len(entries):
        return None
    # A mark of missing values belongs to the column it is of.
    attribute = "column" if feature == "binary" else "name"
    return [getattr(entries[place], attribute) for place in places]


def _runs(
    feature: str, places: np.ndarray, names: list[str] | None, most_columns: int
) -> Iterator[FeatureGroup]:
    count = len(places) if len(places) <= most_columns else min(_RUNS, most_columns)
    for run in np.array_split(np.arange(len(places)), count):
        first, last = run[0], run[-1]
        if names is not None:
            name = f"{names[first]} … {names[last]}"
        elif first == last:
            name = f"{feature}[{places[first]}]"
        else:
            name = f"{feature}[{places[first]} to {places[last]}]"
        kind = f"{len(run)} columns" if len(run) > 1 else feature
        yield FeatureGroup(name, kind, {feature: run.tolist()})
