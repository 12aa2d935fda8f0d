"""Which columns become which features: as the user says, else as they look."""

import dataclasses
from collections.abc import Mapping, Sequence

from recap_tf.conversion.impressions import Impressions
from recap_tf.core.command import UserError
from recap_tf.core.row_files import nearest
from recap_tf.core.values.arrow_kinds import LISTS
from recap_tf.model.small_embeddings import STORED_EMBEDDINGS

ID_VALUES_AT_MOST = 64
"""A column of whole numbers with more different values is taken as a number."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureChoice:
    """The features that the user asked for.

    Args:
        ids: --ids; None infers them.
        numeric: --numeric; None infers them. A column may be in both.
        embeddings: --embeddings, feature name -> column of vectors.
        group: --group, the column that tells users or requests apart.
        exclude: --exclude, columns that become no feature.
        time: --time; like what follows, no feature unless listed.
    """

    ids: Sequence[str] | None = None
    numeric: Sequence[str] | None = None
    embeddings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    group: str | None = None
    exclude: Sequence[str] = ()
    time: str | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CandidateColumns:
    """The columns that may become features, by use.

    Args:
        ids: columns of ids.
        numeric: columns of numbers.
        undecided: whole numbers that are ids if they have few different values, and
            what they are else: "numeric" or None.
        left_out: column -> why.
    """

    ids: tuple[str, ...]
    numeric: tuple[str, ...]
    undecided: Mapping[str, str | None]
    left_out: Mapping[str, str]

    @property
    def columns(self) -> list[str]:
        """The names of all of them."""
        return [*self.ids, *self.numeric, *self.undecided]


def choose(choice: FeatureChoice, rows: Impressions) -> CandidateColumns:
    """Sorts the columns of `rows` by use.

    Texts, booleans, and whole numbers whose name ends in id are ids; numbers are
    numeric; other whole numbers wait for the count of their values. What --ids or
    --numeric lists is taken as it is listed, and only that.

    Raises:
        UserError: a listed column does not exist, cannot be what it is listed as, or
            is a label or excluded.
    """
    _check(choice, rows)
    reasons = _no_features(choice, rows)
    ids, numeric, undecided, left_out = [], [], {}, {}
    listed = [*(choice.ids or ()), *(choice.numeric or ())]
    for name, kind in rows.kinds.items():
        if name in listed:
            continue
        if name in reasons:
            left_out[name] = reasons[name]
            continue
        as_id = choice.ids is None and kind in ("text", "boolean", "integer")
        as_number = choice.numeric is None and kind in ("number", "integer", "boolean")
        if as_id and (kind != "integer" or _named_id(name)):
            ids.append(name)
        elif as_id:
            undecided[name] = "numeric" if as_number else None
        elif as_number:
            numeric.append(name)
        else:
            left_out[name] = rows.unreadable.get(name, f"{kind}, not listed")
    return CandidateColumns(
        ids=tuple(choice.ids if choice.ids is not None else ids),
        numeric=tuple(choice.numeric if choice.numeric is not None else numeric),
        undecided=undecided,
        left_out=left_out,
    )


def _check(choice: FeatureChoice, rows: Impressions) -> None:
    flags = {
        "--ids": list(choice.ids or ()),
        "--numeric": list(choice.numeric or ()),
        "--embeddings": list(choice.embeddings.values()),
        "--group": [choice.group] if choice.group else [],
        "--exclude": list(choice.exclude),
        "--time": [choice.time] if choice.time else [],
    }
    for flag, names in flags.items():
        rows.require(names)
        for name in names:
            if names.count(name) > 1:
                raise UserError(f"{flag} names {name!r} twice.")
    labels = [name for label in rows.labels for name in label.columns]
    for flag in ("--ids", "--numeric", "--embeddings", "--group"):
        for name in flags[flag]:
            if name in labels:
                raise UserError(
                    f"{flag} names {name!r}, of which --labels makes a label: a label "
                    "cannot be a feature."
                )
            if name in choice.exclude:
                raise UserError(f"{flag} names {name!r}, which --exclude leaves out.")
    for name in choice.embeddings:
        if name not in STORED_EMBEDDINGS:
            raise UserError(
                f"--embeddings {name}=...: the ranker knows the embeddings "
                f"{', '.join(STORED_EMBEDDINGS)}. {nearest(name, STORED_EMBEDDINGS)}"
            )
    for flag, wrong in (
        ("--ids", LISTS),
        ("--numeric", LISTS),
        ("--group", LISTS),
        ("--time", LISTS),
        ("--embeddings", set(rows.kinds.values()) - {"vector", "integer list"}),
    ):
        for name in flags[flag]:
            if name in rows.unreadable:
                raise UserError(f"{flag}: {rows.unreadable[name]}")
            if rows.kinds[name] in wrong:
                raise UserError(
                    f"{flag} names {name!r}, which holds {rows.kinds[name]} values."
                )


def _no_features(choice: FeatureChoice, rows: Impressions) -> dict[str, str]:
    """Columns that become features only where they are listed, and why."""
    reasons = {name: "makes a label" for x in rows.labels for name in x.columns}
    reasons |= {name: "--where" for name in rows.where_columns}
    if choice.time:
        reasons[choice.time] = "--time"
    if choice.group:
        reasons[choice.group] = "--group"
    reasons |= {name: "an embedding" for name in choice.embeddings.values()}
    return reasons | dict.fromkeys(choice.exclude, "--exclude")


def _named_id(name: str) -> bool:
    return name.lower() in ("id", "key") or name.endswith(("_id", "Id", "ID"))
