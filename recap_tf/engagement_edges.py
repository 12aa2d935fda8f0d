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

from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError, run_command


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    nodes = [name.strip() for name in arguments.nodes.split(",")]
    if len(nodes) != 2 or nodes[0] == nodes[1]:
        raise UserError(
            f"--nodes takes two columns, HEAD,TAIL. Received: {arguments.nodes!r}"
        )
    share = arguments.validation_share
    check_range("--validation-share", share, at_least=0, below=1, error=UserError)

    from recap_tf.conversion.engagement_edges import write_edges
    from recap_tf.conversion.expressions import parse_expression
    from recap_tf.conversion.impressions import Impressions
    from recap_tf.conversion.label_expressions import parse_labels
    from recap_tf.core.row_files import find_tables
    from recap_tf.core.values.time_form import TimeForm

    rows = Impressions(
        find_tables(arguments.input),
        where=parse_expression(arguments.where) if arguments.where else None,
        labels=parse_labels(arguments.labels),
        time_form=TimeForm(arguments.time_format) if arguments.time_format else None,
    )
    counts = write_edges(rows, nodes, share, arguments.out)
    for label, count in counts.items():
        print(f"{label}: {count:,} edges")
    print(f"All of them are in {arguments.out}")


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
        "--time-format",
        metavar="FORM",
        help="form of times in texts that are not ISO 8601: '%%d/%%m/%%Y %%H:%%M'",
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
