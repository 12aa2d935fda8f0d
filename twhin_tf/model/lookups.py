"""What a step looks up in node tables, listed before the step begins.

A TPU's embedding cores answer what they were asked before the step. So rows are listed
while the input is read, each list a feature of a table, and the step gets vectors:

    lhs/user              (batch,) the left ends; for an edge whose left end is no user
                          a row whose vector is not used
    negatives/0/rhs/post  (n,) what the first sampler drew of the posts
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import tensorflow as tf

from recap_tf.core.training.shard import WHOLE, Shard
from twhin_tf.model.edge_batch import Side
from twhin_tf.model.negatives import Sampler, derived
from twhin_tf.model.node_tables import NodeTables, merge, rows_of_type

_SIDES: tuple[Side, ...] = ("lhs", "rhs")


class Inquiry(NamedTuple):
    """A batch, and what is to be looked up for it.

    Args:
        rows: feature -> (n,) int32.
        edges: (batch, 3) int32.
        drawn: those of `rows` that samplers drew, once more: what embedding cores are
            asked stays on the host, and the loss needs to know these.
        seed: (2,) int64, of whatever else is drawn.
    """

    rows: dict[str, tf.Tensor]
    edges: tf.Tensor
    drawn: dict[str, tf.Tensor]
    seed: tf.Tensor


@dataclasses.dataclass(frozen=True)
class LookedUp:
    """Vectors of a batch.

    Args:
        ends: (batch, dim) of the edges' left and right ends.
        drawn: (sampler, side) -> rows (n,) and vectors (n, dim) of each type there.
    """

    ends: tuple[tf.Tensor, tf.Tensor]
    drawn: Mapping[tuple[Sampler, Side], tuple[list[tf.Tensor], list[tf.Tensor]]]


@dataclasses.dataclass(frozen=True)
class _Draw:
    feature: str
    sampler: int
    side: Side
    place: int
    size: int


class Lookups:
    """Says what edges and samplers look up, and puts what was found in its place.

    Args:
        tables: of the graph; of them, types and relations.
        samplers: of negatives. Their seeds are those that an `EdgeObjective` of the
            same samplers gives them.

    Attributes:
        features: type -> names of what is looked up in its table.
    """

    def __init__(self, tables: NodeTables, samplers: Sequence[Sampler]):
        self._tables, self._samplers = tables, samplers
        self._types = list(tables.variables_of)
        self.features: dict[str, list[str]] = {name: [] for name in self._types}
        for side in _SIDES:
            for number in tables.type_numbers(side):
                self._serve(number, self._end(side, number))
        self._draws: list[_Draw] = []
        for at, sampler in enumerate(samplers):
            example = sampler.draw_rows(tf.zeros([2], tf.int64))
            for side, by_type in example.items():
                self._add_draws(at, side, [rows.shape[0] for rows in by_type])

    def sizes(self, batch_size: int) -> dict[str, int]:
        """How many rows each feature has for a batch of that size."""
        ends = [self._end(s, n) for s in _SIDES for n in self._tables.type_numbers(s)]
        drawn = {draw.feature: draw.size for draw in self._draws}
        return dict.fromkeys(ends, batch_size) | drawn

    def inquiry(self, edges: tf.Tensor, seed: tf.Tensor) -> Inquiry:
        """Lists what to look up for edges, (batch, 3) int32, and a seed, (2,) int64."""
        lhs, relation, rhs = tf.unstack(edges, axis=1)
        rows = {}
        for side, end in zip(_SIDES, (lhs, rhs), strict=True):
            numbers = self._tables.type_numbers(side)
            group = self._tables.group(relation, side)
            for place, number in enumerate(numbers):
                of_type = group == place if len(numbers) > 1 else None
                size = self._tables.rows(number)
                rows[self._end(side, number)] = rows_of_type([end], [of_type], size)
        by_sampler = [
            sampler.draw_rows(derived(seed, at))
            for at, sampler in enumerate(self._samplers)
        ]
        drawn = {d.feature: by_sampler[d.sampler][d.side][d.place] for d in self._draws}
        return Inquiry(rows | drawn, edges, drawn, seed)

    def looked_up(self, inquiry: Inquiry, vectors: Mapping[str, tf.Tensor]) -> LookedUp:
        """Sorts `vectors`, feature -> (n, dim), by what they are for."""
        relation = inquiry.edges[:, 1]
        ends = []
        for side in _SIDES:
            group = self._tables.group(relation, side)
            numbers = self._tables.type_numbers(side)
            ends.append(merge([(group, vectors[self._end(side, n)]) for n in numbers]))
        drawn: dict[tuple[Sampler, Side], tuple[list, list]] = {}
        for draw in self._draws:
            key = self._samplers[draw.sampler], draw.side
            rows_by_type, vectors_by_type = drawn.setdefault(key, ([], []))
            rows_by_type.append(inquiry.drawn[draw.feature])
            vectors_by_type.append(vectors[draw.feature])
        return LookedUp(tuple(ends), drawn)

    def _add_draws(self, sampler: int, side: Side, sizes: Sequence[int]) -> None:
        numbers = self._tables.type_numbers(side)
        for place, (number, size) in enumerate(zip(numbers, sizes, strict=True)):
            feature = f"negatives/{sampler}/{side}/{self._types[number]}"
            self._serve(number, feature)
            self._draws.append(_Draw(feature, sampler, side, place, size))

    def _serve(self, number: int, feature: str) -> None:
        self.features[self._types[number]].append(feature)

    def _end(self, side: Side, number: int) -> str:
        return f"{side}/{self._types[number]}"


def look_ahead(
    edges: tf.data.Dataset,
    lookups: Lookups,
    seed: int,
    first: int = 0,
    shard: Shard = WHOLE,
) -> tf.data.Dataset:
    """Lists what batches of edges look up: (batch, 3) int32 -> `Inquiry`.

    Args:
        edges: batches of (batch, 3) int32.
        lookups: of the graph and its samplers.
        seed: of what is drawn; every batch gets a number of its own besides.
        first: how many batches of this pipeline have been before.
        shard: which of several pipelines this is.
    """

    def ask(number, batch):
        number = (first + number) * shard.count + shard.index
        return lookups.inquiry(batch, tf.stack([tf.constant(seed, tf.int64), number]))

    return (
        edges.enumerate()
        .map(ask, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        .prefetch(tf.data.AUTOTUNE)
    )
