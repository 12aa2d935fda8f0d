"""A split's summary as a table for people."""

import numpy as np

from recap_tf.conversion.columns import Columns
from recap_tf.inspection.feature_summary import COUNTED_VALUES, FeatureSummary
from recap_tf.inspection.survey import SplitSummary, column_names

_NARROWEST = 40
_HEAD = "  {:{width}} {:>6} {:>7} {:>8}"
# As wide as a head, two more blanks in front of the name included.
_COLUMN = "    {:{width}}" + 22 * " "
_NUMBERS = "{:>11} {:>11} {:>11} {:>7} {:>10}  {}"


def print_summary(split: str, summary: SplitSummary, columns: Columns | None) -> None:
    """Prints counts, label rates, and a line per feature and per named column."""
    print(f"\n{split}: {len(summary.files)} files, {summary.records:,} records")
    width = max(_NARROWEST, *map(len, summary.features))
    if summary.labels:
        print(f"  {'label':{width}} {'positives':>12} {'rate':>9}")
    for name, ones in summary.labels.items():
        rate = ones / max(summary.records, 1)
        note = "  never or always" if ones in (0, summary.records) else ""
        print(f"  {name:{width}} {ones:>12,} {rate:>9.4f}{note}")
    head = _HEAD.format("feature", "dtype", "length", "missing", width=width)
    _print(head, "min", "mean", "max", "zeros", "not finite", "")
    for name, feature in summary.features.items():
        if name not in summary.labels:
            _print_feature(feature, column_names(columns, name), width)


def _print_feature(
    summary: FeatureSummary, names: list[str] | None, width: int
) -> None:
    feature = summary.feature
    length = str(feature.length)
    if feature.length < 0:
        length = f"{summary.shortest or 0}-{summary.longest}"
    missing = (summary.records - summary.present) / max(summary.records, 1)
    dtype = feature.dtype.removesuffix("_list")
    head = _HEAD.format(feature.name, dtype, length, f"{missing:.1%}", width=width)
    if feature.dtype == "bytes_list" or not summary.values:
        print(head)
    elif not names:
        _print(head, *_numbers(summary, slice(None)), _notes(summary))
    else:
        print(head)
        different = summary.different() if summary.sizes is not None else None
        for index, name in enumerate(names):
            notes = ["constant"] if summary.constant[index] else []
            if different:
                notes.append(f"{different[index]} of {summary.sizes[index]} ids")
            if summary.outside[index]:
                notes.append(f"{summary.outside[index]:,} outside")
            numbers = _numbers(summary, slice(index, index + 1))
            _print(_COLUMN.format(name, width=width), *numbers, ", ".join(notes))


def _print(head: str, *cells: str) -> None:
    print(f"{head} {_NUMBERS.format(*cells)}".rstrip())


def _numbers(summary: FeatureSummary, columns: slice) -> list[str]:
    zeros = summary.zeros[columns]
    values = summary.values // len(summary.zeros) * len(zeros)
    return [
        f"{summary.min[columns].min():.5g}",
        f"{summary.mean[columns].mean():.5g}",
        f"{summary.max[columns].max():.5g}",
        f"{zeros.sum() / max(values, 1):.1%}",
        f"{summary.not_finite[columns].sum():,}",
    ]


def _notes(summary: FeatureSummary) -> str:
    notes = []
    constant = np.flatnonzero(summary.constant)
    if len(constant) == 1 and len(summary.constant) == 1:
        notes.append("constant")
    elif len(constant):
        shown = ", ".join(map(str, constant[:10]))
        more = ", ..." if len(constant) > 10 else ""
        notes.append(f"{len(constant)} constant columns ({shown}{more})")
    if summary.feature.dtype == "int64_list":
        different = summary.different()
        if len(different) == 1:
            count = different[0]
            many = f"over {COUNTED_VALUES:,}" if count is None else f"{count:,}"
            notes.append(f"{many} different values")
    return ", ".join(notes)
