"""The lines that a conversion prints for its user."""

from collections.abc import Iterable, Mapping

import numpy as np

from recap_tf.conversion.feature_choice import FeatureChoice
from recap_tf.conversion.fitting import Fitted
from recap_tf.conversion.impressions import Impressions


def print_split(
    split: str,
    count: int,
    positives: np.ndarray,
    without: Mapping[str, int],
    rows: Impressions,
) -> None:
    """Prints rows and label rates of a split, and warns of what looks wrong."""
    print(f"{split}: {count:,} rows")
    for label, ones in zip(rows.labels, positives.tolist(), strict=True):
        made_of = "" if label.text == label.name else f" ({label.text})"
        print(f"  {label.name}{made_of}: {ones:,} positives, {ones / count:.4f}")
        if ones in (0, count):
            print(f"  warning: it {'never' if not ones else 'always'} holds")
        unknown = rows.without_label.get(label.name, 0)
        if unknown:
            print(f"  warning: {unknown:,} rows lack a value it needs; they count as 0")
    for name, missing in without.items():
        print(f"  {name}: {1 - missing / count:.2%} of the rows have one; zeros else")
    for side, joined in zip(rows.side_tables, rows.joined, strict=True):
        if joined.asked and side.join.vector_name is None:
            share = joined.lacking / joined.asked
            print(f"  joined {side.join.path}: {share:.2%} of the rows' keys missing")


def print_features(fitted: Fitted, choice: FeatureChoice) -> None:
    """Prints what became which feature."""
    columns = fitted.columns
    inferred = {"ids": choice.ids is None, "numeric": choice.numeric is None}
    _print_list(
        "ids" + ", inferred" * inferred["ids"],
        (f"{column.name} ({column.size})" for column in columns.discrete),
    )
    _print_list(
        "numeric" + ", inferred" * inferred["numeric"],
        (column.name for column in columns.continuous),
    )
    _print_list("marks of missing values", (mark.column for mark in columns.binary))
    _print_list(
        "embeddings", (f"{e.name} = {e.column} ({e.width})" for e in columns.embeddings)
    )
    _print_list(
        "no features", (f"{name} ({why})" for name, why in fitted.left_out.items())
    )
    for column in columns.continuous:
        if column.std == 0 and not column.missing:
            print(f"  warning: {column.name} is always {column.mean:g}")
        if column.infinite:
            print(f"  warning: {column.name} is infinite in {column.infinite:,} rows")
    for column in columns.discrete:
        if column.size == 1:
            print(f"  warning: no value of {column.name} is frequent (--min-count)")
        elif column.size == 2 and not column.rare:
            print(f"  warning: {column.name} has only one value")


def _print_list(title: str, names: Iterable[str]) -> None:
    names = list(names)
    if names:
        print(f"{title} [{len(names)}]: {', '.join(names)}")
