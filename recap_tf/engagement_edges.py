r"""Parquet or CSV files of impressions -> edges of who engaged with what.

    python -m recap_tf.engagement_edges --input log.parquet --out edges.parquet \
        --labels is_click,is_like --nodes user_id,video_id --where "day<15"
    python -m twhin_tf.vocabulary --edges edges.parquet --out graph \
        --types is_click=user:video is_like=user:video

One edge (head, relation, tail) for every row and label that holds. --input, --labels,
--where and --validation-share are those of recap_tf.convert, so that a graph can end
where the rows of a ranker begin: vectors that know a row's label must not be its
features.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recap_tf.conversion.expressions import parse_expression
from recap_tf.conversion.impressions import Impressions
from recap_tf.conversion.label_expressions import parse_labels
from recap_tf.core import files
from recap_tf.core.command import UserError, run_command
from recap_tf.core.row_files import find_tables, parquet_writer

_NAMES = ("head", "relation", "tail")


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    nodes = [name.strip() for name in args.nodes.split(",")]
    if len(nodes) != 2 or nodes[0] == nodes[1]:
        raise UserError(
            f"--nodes takes two columns, HEAD,TAIL. Received: {args.nodes!r}"
        )
    if not 0 <= args.validation_share < 1:
        raise UserError(
            "--validation-share must be at least 0 and below 1. "
            f"Received: {args.validation_share}"
        )
    rows = Impressions(
        find_tables(args.input),
        where=parse_expression(args.where) if args.where else None,
        labels=parse_labels(args.labels),
    )
    counts = write_edges(rows, nodes, args.validation_share, args.out)
    for label, count in counts.items():
        print(f"{label}: {count:,} edges")
    print(f"All of them are in {args.out}")


def write_edges(
    rows: Impressions, nodes: Sequence[str], validation_share: float, path: str
) -> dict[str, int]:
    """Writes head, relation, tail; a row without one of its nodes gives no edge.

    Args:
        rows: with the labels that become relations.
        nodes: the columns of the heads and of the tails.
        validation_share: of the rows, the last ones, which are left out.
        path: of the parquet file.

    Returns:
        Label -> edges.

    Raises:
        UserError: no label holds anywhere.
    """
    rows.require(nodes)
    total = rows.count()
    end = total - round(total * validation_share)
    counts = dict.fromkeys((label.name for label in rows.labels), 0)
    writer = None
    with files.replacing(path) as aside:
        chunks = rows.chunks(nodes, window=(0, end), doing="writing edges")
        head, tail = (_id_type(rows.kinds[name], name) for name in nodes)
        schema = pa.schema(zip(_NAMES, (head, pa.string(), tail), strict=True))
        with parquet_writer(aside, schema) as writer:
            for chunk in chunks:
                ends = [chunk.column(name) for name in nodes]
                given = ends[0].is_valid().to_numpy(False)
                given &= ends[1].is_valid().to_numpy(False)
                for number, label in enumerate(rows.labels):
                    holds = pa.array(given & (chunk.labels[:, number] == 1))
                    heads, tails = (end.filter(holds) for end in ends)
                    relation = pa.array(np.full(len(heads), label.name), pa.string())
                    columns = [heads.cast(head), relation, tails.cast(tail)]
                    writer.write_table(pa.table(columns, schema=schema))
                    counts[label.name] += len(heads)
        if not any(counts.values()):
            raise UserError(
                f"--labels {', '.join(counts)}: none of them holds in any of the "
                f"{end:,} rows, so there are no edges."
            )
    return counts


def _id_type(kind: str, name: str) -> pa.DataType:
    types = {"integer": pa.int64(), "text": pa.string()}
    if kind not in types:
        raise UserError(
            f"--nodes names {name!r}, which holds {kind} values; ids are integers or "
            "text."
        )
    return types[kind]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.engagement_edges",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE",
        help="parquet or CSV files, globs or folders",
    )
    parser.add_argument(
        "--labels",
        required=True,
        action="append",
        metavar="A,B",
        help="0/1 columns, or conditions: 'like:rating>=4'; each is a relation",
    )
    parser.add_argument(
        "--nodes", required=True, metavar="HEAD,TAIL", help="who, and with what"
    )
    parser.add_argument(
        "--where", metavar="EXPR", help="only these rows: 'day>=8 and day<15'"
    )
    parser.add_argument(
        "--validation-share",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="leaves out the last rows, as recap_tf.convert does",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="a parquet file")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
