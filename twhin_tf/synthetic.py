r"""Makes a graph up: node types, relations, communities, power-law degrees, splits.

    python -m twhin_tf.synthetic --out data/made --nodes user=2000 item=500 \
        --relations buy=user:item:30000:0.9 view=user:item:60000:0.7
    python -m twhin_tf.train --config data/made/graph.gin

The last number of a relation is the probability that both nodes of an edge are of one
community. Without --relations it is a graph of the kind and size of TwHIN's example.
"""

import argparse
import sys
from collections.abc import Sequence

from recap_tf.core.command import UserError, run_command

_NODES = {"user": 424_241, "tweet": 72_543}
_RELATIONS = {
    "fav": ("user", "tweet", 2_000_000, 0.9),
    "reply": ("user", "tweet", 400_000, 0.7),
    "retweet": ("user", "tweet", 600_000, 0.8),
    "magic_recs": ("user", "tweet", 1_000_000, 0.6),
}


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    if (arguments.nodes is None) != (arguments.relations is None):
        raise UserError("--nodes and --relations must be given together.")
    settings = {
        name: value
        for name in ("communities", "exponent", "seed", "inverse")
        if (value := getattr(arguments, name)) is not None
    }
    settings |= {"nodes": _NODES, "relations": _RELATIONS}
    if arguments.nodes is not None:
        settings["nodes"] = _nodes(arguments.nodes)
        settings["relations"] = _relations(arguments.relations)
    if arguments.held_out is not None:
        settings["held_out"] = _held_out(arguments.held_out)

    from twhin_tf.synthesis.synthetic_graph import SyntheticGraph, make_graph

    graph = SyntheticGraph(folder=arguments.out, **settings)
    make_graph(graph)
    print(f"All of it is in {graph.folder}")


def _nodes(texts: Sequence[str]) -> dict[str, int]:
    nodes = {}
    for text in texts:
        name, _, count = text.partition("=")
        if not name or not count.isdecimal() or name in nodes:
            raise UserError(
                f"--nodes takes TYPE=COUNT, each type once. Received: {text!r}"
            )
        nodes[name] = int(count)
    return nodes


def _relations(texts: Sequence[str]) -> dict[str, tuple[str, str, int, float]]:
    relations = {}
    for text in texts:
        name, _, rest = text.partition("=")
        try:
            lhs, rhs, edges, inside = rest.split(":")
            relation = (lhs, rhs, int(edges), float(inside))
        except ValueError:
            relation = None
        if not name or name in relations or relation is None:
            raise UserError(
                "--relations takes NAME=LHS:RHS:EDGES:PROBABILITY, each name once. "
                f"Received: {text!r}"
            )
        relations[name] = relation
    return relations


def _held_out(text: str) -> tuple[float, float]:
    try:
        validation, test = map(float, text.split(","))
    except ValueError as error:
        raise UserError(
            f"--held-out takes two shares such as 0.05,0.05. Received: {text!r}"
        ) from error
    return validation, test


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twhin_tf.synthetic",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument("--nodes", nargs="+", metavar="TYPE=COUNT")
    parser.add_argument(
        "--relations", nargs="+", metavar="NAME=LHS:RHS:EDGES:PROBABILITY"
    )
    parser.add_argument(
        "--communities",
        type=int,
        metavar="N",
        help="how many (50)",
    )
    parser.add_argument(
        "--exponent",
        type=float,
        metavar="X",
        help="of the degrees' power law (2.5)",
    )
    parser.add_argument(
        "--held-out",
        metavar="SHARES",
        help="of edges for validation and test (0.01,0.01)",
    )
    parser.add_argument(
        "--inverse",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="give every relation an inverse (yes)",
    )
    parser.add_argument("--seed", type=int, metavar="S")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
