"""Edges with raw ids -> a graph folder, in two passes over the files.

The first pass counts entities and relations, the second looks their rows up. Memory
grows with the number of entities, not with that of the edges.
"""

import contextlib
import dataclasses
import posixpath
from collections import Counter
from collections.abc import Callable

import numpy as np
import pyarrow as pa

from recap_tf.core import files
from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError
from recap_tf.core.row_files import nearest
from twhin_tf.conversion.entity_counts import EntityCounts
from twhin_tf.conversion.raw_edges import BLOCK_ROWS, RawEdges
from twhin_tf.conversion.split_rules import SplitRule
from twhin_tf.conversion.type_rules import Sides, TypeRule
from twhin_tf.conversion.typed_blocks import read_typed_blocks
from twhin_tf.graph.edge_buckets import EdgeBuckets, bucket_count
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.edge_hashes import hash_edges
from twhin_tf.graph.entities import Entities, write_vocabulary
from twhin_tf.graph.graph import Graph, Relation, with_inverses, write_graph
from twhin_tf.graph.graph_config import write_config

_MOST_ROWS = 2**31 - 1  # edges are read as int32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conversion:
    """The settings of a conversion: what becomes of edges with raw ids.

    Args:
        types: finds the node types.
        splits: deals out the edges.
        inverse: give every relation an inverse.
        min_count: leave out entities with fewer training edges, and their edges.
        drop_duplicates: of edges of a split that are equal, write one.
        seed: of the order of the edges.
    """

    types: TypeRule
    splits: SplitRule
    inverse: bool = True
    min_count: int = 0
    drop_duplicates: bool = False
    seed: int = 0

    def __post_init__(self):
        check_range("--min-count", self.min_count, at_least=0, error=UserError)
        check_range("--seed", self.seed, at_least=0, error=UserError)


@dataclasses.dataclass
class _Counted:
    """What the first pass counted: training edges of relations, edges of splits."""

    entities: dict[str, EntityCounts]
    relations: Counter[str]
    sides: dict[str, Sides]
    edges: Counter[str]


@dataclasses.dataclass
class _Tally:
    """How many of a split's edges were written, and how many were not, or twice."""

    written: int = 0
    rare: int = 0
    repeated: int = 0


def convert(
    edges: RawEdges,
    conversion: Conversion,
    folder: str,
    *,
    replace: bool = False,
    echo: Callable[[str], None] = print,
) -> Graph:
    """Makes the graph folder, all of it or nothing.

    Args:
        edges: from files, which are read twice.
        conversion: what to make of them.
        folder: must not exist unless it is to be replaced.
        replace: put it in the place of an existing one.
        echo: takes lines that say what the edges hold and what was left out.

    Raises:
        UserError: the edges or the settings do not allow it.
    """
    counted = _count(edges, conversion)
    _check_listed(conversion.types, list(counted.relations))
    with files.new_folder(folder, replace=replace) as aside:
        ids, types = _write_vocabularies(aside, counted, conversion, echo)
        relations = _relations(counted, conversion)
        splits = {name: counted.edges[name] for name in conversion.splits.names}
        graph = Graph(folder=aside, types=types, relations=relations, splits=splits)
        number = {relation.name: i for i, relation in enumerate(relations)}
        tallies = _write_splits(graph, edges, conversion, counted, ids, number)
        splits = {name: tally.written for name, tally in tallies.items()}
        splits = {name: written for name, written in splits.items() if written}
        graph = dataclasses.replace(graph, splits=splits)
        _report(graph, counted, tallies, conversion, echo)
        write_config(graph)
        # Last: where a folder is renamed file by file, this one says it is complete.
        write_graph(graph)
    return graph


def _check_listed(types: TypeRule, relations: list[str]) -> None:
    for name in types.listed_relations():
        if name not in relations:
            raise UserError(
                f"--types lists relation {name!r}, which no edge has. "
                f"{nearest(name, relations)}"
            )


def _count(edges: RawEdges, conversion: Conversion) -> _Counted:
    counted = _Counted({}, Counter(), {}, Counter())
    names = conversion.splits.names
    for block in read_typed_blocks(
        edges, conversion.types, conversion.splits, BLOCK_ROWS, "counting"
    ):
        in_training = block.splits == 0
        in_relation = np.bincount(block.codes[in_training], minlength=len(block.names))
        for name, sides, count in zip(
            block.names, block.sides, in_relation.tolist(), strict=True
        ):
            counted.relations[name] += count
            counted.sides[name] = sides
        for split, count in enumerate(np.bincount(block.splits, minlength=len(names))):
            counted.edges[names[split]] += int(count)
        for name, column, rows in block.nodes():
            if name not in counted.entities:
                integer = conversion.types.integer(name, edges.integer)
                counted.entities[name] = EntityCounts(integer=integer)
            if rows is None:
                counted.entities[name].add(column, in_training)
            else:
                nodes = column.take(pa.array(rows))
                counted.entities[name].add(nodes, in_training[rows])
    if not counted.edges[names[0]]:
        raise UserError(
            "There must be at least one training edge. Received: "
            f"{sum(counted.edges.values())} edges, none of them for training"
        )
    return counted


def _write_vocabularies(folder, counted: _Counted, conversion: Conversion, echo):
    ids, types = {}, {}
    # By name: the order of the edges does not matter.
    for name, counts in sorted(counted.entities.items()):
        ids[name], degrees = counts.ordered(conversion.min_count)
        if not len(degrees):
            raise UserError(
                f"--min-count {conversion.min_count} leaves no entity of type {name!r}."
            )
        if len(degrees) > _MOST_ROWS:
            raise UserError(
                f"A table must have at most {_MOST_ROWS:,} rows. Received: "
                f"{len(degrees):,} entities of type {name!r}"
            )
        entities = Entities(ids=ids[name], counts=degrees)
        types[name] = write_vocabulary(folder, name, entities)
        unseen = int((degrees == 0).sum())
        note = f", {unseen:,} of them in held-out edges only" if unseen else ""
        echo(f"type {name}: {len(degrees):,} entities{note}")
    return ids, types


def _relations(counted: _Counted, conversion: Conversion) -> list[Relation]:
    ordered = sorted(counted.relations, key=lambda n: (-counted.relations[n], n))
    relations = [
        Relation(name=name, lhs=counted.sides[name][0], rhs=counted.sides[name][1])
        for name in ordered
    ]
    return with_inverses(relations) if conversion.inverse else relations


def _write_splits(graph, edges, conversion, counted, ids, number) -> dict[str, _Tally]:
    names = conversion.splits.names
    tallies = {name: _Tally() for name in names}
    # To look up a block costs as much as the vocabulary is large: blocks grow with it.
    rows = max(BLOCK_ROWS, *(len(of_type) // 2 for of_type in ids.values()))
    buckets = {
        name: EdgeBuckets(
            posixpath.join(graph.folder, f".buckets-{name}"),
            bucket_count(counted.edges[name]),
            conversion.seed,
        )
        for name in names
    }
    with contextlib.ExitStack() as stack:
        for of_split in buckets.values():
            stack.enter_context(of_split)
        for block in read_typed_blocks(
            edges, conversion.types, conversion.splits, rows, "looking up"
        ):
            looked_up = block.edges(ids, number)
            known = (looked_up >= 0).all(axis=1)
            for split, name in enumerate(names):
                in_split = block.splits == split
                frequent = looked_up[in_split & known]
                tallies[name].rare += int(in_split.sum()) - len(frequent)
                buckets[name].add(frequent, hash_edges(frequent))
        equal = "drop" if conversion.drop_duplicates else "count"
        for name in names:
            for i, (shuffled, repeated) in enumerate(buckets[name].read(equal)):
                if len(shuffled):
                    write_edges(graph, name, i, shuffled)
                tallies[name].written += len(shuffled)
                tallies[name].repeated += repeated
    if not tallies[names[0]].written:
        raise UserError(f"--min-count {conversion.min_count} leaves no training edge.")
    return tallies


def _report(graph, counted, tallies, conversion, echo) -> None:
    stored = [r for r in graph.relations if r.inverse_of is None]
    for relation in stored[:20]:
        echo(
            f"relation {relation.name} ({relation.lhs} -> {relation.rhs}): "
            f"{counted.relations[relation.name]:,} training edges"
        )
    if len(stored) > 20:
        echo(f"... {len(stored) - 20} further relations")
    unseen = sum(not count for count in counted.relations.values())
    if unseen:
        echo(f"{unseen} relations occur in held-out edges only")
    for name, tally in tallies.items():
        notes = ""
        if tally.rare:
            notes += f", {tally.rare:,} left out for rare entities"
        if tally.repeated:
            what = "left out" if conversion.drop_duplicates else "kept"
            notes += f", {tally.repeated:,} repeated ones {what}"
        echo(f"{name}: {tally.written:,} edges{notes}")
