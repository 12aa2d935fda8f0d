r"""Files of edges -> node types, vocabularies, relations, splits, and a config.

    python -m twhin_tf.vocabulary --edges edges.parquet --out data/graph \
        --columns user,action,tweet --types like=user:tweet reply=user:tweet \
        --split 0.9,0.05,0.05
    python -m twhin_tf.train --config data/graph/graph.gin

Edges may come split: --validation FILES --test FILES instead of --split. Entities that
only held-out edges have keep a row, after all others; --min-count 1 leaves them out.
"""

import argparse
import sys
from collections.abc import Sequence

import tensorflow as tf

from recap_tf.core.command import UserError, run_command
from recap_tf.core.row_files import find_tables
from twhin_tf.conversion.graph_folder import Conversion, convert
from twhin_tf.conversion.raw_edges import RawEdges
from twhin_tf.conversion.split_rules import ByFile, Shares, SplitRule
from twhin_tf.conversion.type_rules import ListedTypes, OneType, PrefixedTypes, TypeRule
from twhin_tf.graph.graph import SPLITS


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    if tf.io.gfile.exists(args.out) and not args.overwrite:
        raise UserError(f"--out {args.out} exists already. To replace it: --overwrite.")
    columns = [name.strip() for name in args.columns.split(",")]
    if len(columns) not in (2, 3) or len(set(columns)) < len(columns):
        raise UserError(
            "--columns takes the names of three columns, or of two if all edges are of "
            f"one relation. Received: {args.columns!r}"
        )
    types = _types(args)
    relation = None
    if len(columns) == 2:
        relation = args.relation or "edge"
        listed = types.listed_relations()
        if args.relation is None and len(listed) == 1:
            relation = listed[0]
    elif args.relation is not None:
        raise UserError(
            "--relation is for edges without a column for it, --columns A,C. Received: "
            f"--columns {args.columns}"
        )
    splits, files = _splits(args)
    names = columns if args.no_header else None
    found = {
        split: find_tables(patterns, flag=flag, names=names)
        for split, (flag, patterns) in files.items()
    }
    conversion = Conversion(
        types=types,
        splits=splits,
        inverse=args.inverse,
        min_count=args.min_count,
        drop_duplicates=args.duplicates == "drop",
        seed=args.seed,
    )
    edges = RawEdges(found, columns, relation)
    convert(edges, conversion, args.out, replace=args.overwrite)
    print(f"All of it is in {args.out}")


def _types(args: argparse.Namespace) -> TypeRule:
    if args.types and args.type_prefix is not None:
        raise UserError("--types and --type-prefix cannot be given together.")
    if args.types:
        return ListedTypes([text for texts in args.types for text in texts])
    if args.type_prefix is not None:
        return PrefixedTypes(args.type_prefix)
    return OneType()


def _splits(
    args: argparse.Namespace,
) -> tuple[SplitRule, dict[str | None, tuple[str, Sequence[str]]]]:
    """The rule, and split -> (flag, files)."""
    held_out = {name: getattr(args, name) for name in SPLITS[1:] if getattr(args, name)}
    if args.split is None:
        if args.split_by is not None:
            raise UserError("--split-by says how --split splits; give both.")
        files = {SPLITS[0]: ("--edges", args.edges)}
        files |= {name: (f"--{name}", held_out[name]) for name in held_out}
        return ByFile(list(files)), files
    if held_out:
        raise UserError(f"--split and --{next(iter(held_out))} exclude each other.")
    try:
        shares = [float(text) for text in args.split.split(",")]
    except ValueError as error:
        raise UserError(
            f"--split takes shares such as 0.9,0.05,0.05. Received: {args.split!r}"
        ) from error
    return Shares(shares, args.split_by or "edge", args.seed), {
        None: ("--edges", args.edges)
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twhin_tf.vocabulary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    files = {"nargs": "+", "metavar": "FILE"}
    parser.add_argument(
        "--edges",
        required=True,
        **files,
        help="parquet, CSV or TSV files, globs or folders; ids are integers or texts",
    )
    parser.add_argument("--validation", **files, help="held-out edges")
    parser.add_argument("--test", **files, help="held-out edges")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument(
        "--columns",
        default="head,relation,tail",
        metavar="A,B,C",
        help="left node, relation, right node; without B all edges are of one "
        "relation (head,relation,tail)",
    )
    parser.add_argument(
        "--no-header",
        action="store_true",
        help="CSV files without a header line; --columns names all their columns",
    )
    parser.add_argument(
        "--relation",
        metavar="NAME",
        help="the name of the one relation, where no column has it (edge, or what "
        "--types lists)",
    )
    parser.add_argument(
        "--types",
        nargs="+",
        action="append",
        metavar="RELATION=LHS:RHS",
        help="node types of every relation; without, all nodes are of one type",
    )
    parser.add_argument(
        "--type-prefix",
        metavar="MARK",
        help="types are part of the ids: with : user in user:7",
    )
    parser.add_argument(
        "--inverse",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="give every relation an inverse (yes)",
    )
    parser.add_argument(
        "--split", metavar="SHARES", help="of training, validation, test: 0.9,0.05,0.05"
    )
    parser.add_argument(
        "--split-by",
        choices=("edge", "pair"),
        help="pair: all edges between two nodes, in both directions, fall together; "
        "edge: every edge for itself (edge)",
    )
    parser.add_argument(
        "--min-count",
        type=int,
        default=0,
        metavar="N",
        help="leave out entities with fewer training edges (0)",
    )
    parser.add_argument(
        "--duplicates",
        choices=("keep", "drop"),
        default="keep",
        help="what to do with equal edges of a split (keep)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace all that --out holds"
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
