"""One embedding table per node type, looked up by rows, updated row by row."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, get_args

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_choice
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.optimizers.grouped import Optimizer
from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad
from recap_tf.core.storage.half_precision import read_rows
from recap_tf.core.storage.sharded_tables import make_table, shards_of
from twhin_tf.graph.graph import Graph

Storage = Literal["float32", "float16", "bfloat16"]


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class NodeTable:
    """How the table of a node type starts and learns.

    >>> from twhin_tf.model.node_tables import NodeTable
    >>> NodeTable(storage="bfloat16").spec("user", rows=100, dim=8).rows
    100

    Args:
        initializer: how rows start: a Keras initializer's name or config.
        optimizer: makes a `RowOptimizer`; see `TableSpec`.
        learning_rate: a number or a schedule.
        storage: how numbers are kept: "float32", or half as large, "bfloat16" (8 bits
            of precision) or "float16" (11 bits, from 6e-8 to 65504). Computations and
            the optimizer's state are float32 all the same.
    """

    initializer: str | Mapping[str, Any] = "uniform"
    optimizer: Callable[..., Optimizer] = SparseAdagrad
    learning_rate: float | Schedule = 0.1
    storage: Storage = "float32"

    def __post_init__(self):
        check_choice("NodeTable.storage", self.storage, get_args(Storage))

    def spec(self, name: str, rows: int, dim: int) -> TableSpec:
        """These settings as the spec of a table that has a name and a size."""
        return TableSpec(
            name=name,
            rows=rows,
            dim=dim,
            features=[name],
            initializer=self.initializer,
            optimizer=self.optimizer,
            learning_rate=self.learning_rate,
        )


class NodeTables(tf.Module):
    """The tables of all node types of a graph.

    >>> from twhin_tf.graph.graph import Graph, NodeType, Relation
    >>> graph = Graph(
    ...     folder="g",
    ...     types={"user": NodeType(name="user", rows=5)},
    ...     relations=[Relation(name="follow", lhs="user", rhs="user")],
    ...     splits={"train": 9},
    ... )
    >>> tables = NodeTables(graph, 4, NodeTable(), {})
    >>> tables.variables_of["user"].shape
    TensorShape([5, 4])

    Args:
        graph: says which types and relations there are.
        dim: numbers per vector, in all tables.
        default: the table of types that `others` does not name.
        others: type -> its table.

    Attributes:
        relations: their names.
        variables_of: type -> (rows, dim) in the type of its storage; sharded under
            parameter servers.
    """

    def __init__(
        self,
        graph: Graph,
        dim: int,
        default: NodeTable,
        others: Mapping[str, NodeTable],
    ):
        super().__init__(name="node_tables")
        unknown = [name for name in others if name not in graph.types]
        if unknown:
            raise ValueError(
                f"twhin.embedder.tables names {unknown[0]!r}, which is no node type. "
                f"The graph has: {', '.join(map(repr, graph.types))}. "
                f"Received: {sorted(others)}"
            )
        self._specs = {
            name: others.get(name, default).spec(name, rows, dim)
            for name, rows in graph.rows.items()
        }
        self.relations = tuple(relation.name for relation in graph.relations)
        self._types = list(graph.types)
        self._type_of = {
            side: [self._types.index(getattr(r, side)) for r in graph.relations]
            for side in ("lhs", "rhs")
        }
        self.variables_of = {
            name: make_table(
                keras.initializers.get(spec.initializer),
                (spec.rows, dim),
                others.get(name, default).storage,
                name,
            )
            for name, spec in self._specs.items()
        }

    @property
    def trained(self) -> list[str]:
        """Types that some relation has an end of; rows of others stay as they are."""
        numbers = {*self._type_of["lhs"], *self._type_of["rhs"]}
        return [self._types[number] for number in sorted(numbers)]

    def optimizers(self) -> dict[str, tuple[Optimizer, list[tf.Variable]]]:
        """The optimizers of trained types' tables, as groups of a `GroupedOptimizer`.

        "table/<type>" -> (its optimizer, the table's shards).
        """
        return {
            f"table/{name}": (
                self._specs[name].make_optimizer(),
                shards_of(self.variables_of[name]),
            )
            for name in self.trained
        }

    def type_numbers(self, side: str) -> list[int]:
        """Types, by number, that some relation has on `side`."""
        return sorted(set(self._type_of[side]))

    def group(self, relation: tf.Tensor, side: str) -> tf.Tensor:
        """The place in `type_numbers(side)` of each edge's type there, (batch,)."""
        numbers = self.type_numbers(side)
        places = [numbers.index(number) for number in self._type_of[side]]
        if len(numbers) == 1:
            return tf.zeros_like(relation)
        return tf.gather(tf.constant(places, relation.dtype), relation)

    def table(self, number: int) -> tf.Variable:
        """The table of the type of that number."""
        return self.variables_of[self._types[number]]

    def vectors(self, number: int, rows: tf.Tensor) -> tf.Tensor:
        """Looks rows up in the table of the type of that number, (..., dim) float32."""
        return read_rows(self.table(number), rows)

    def rows(self, number: int) -> int:
        """How many rows the type of that number has."""
        return self._specs[self._types[number]].rows

    def edges(
        self, lhs: tf.Tensor, relation: tf.Tensor, rhs: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The vectors of both ends of edges: (batch,) integers -> (batch, dim) twice.

        A table that serves both sides is looked up once, so that its gradient needs
        no putting together.
        """
        ends = {"lhs": lhs, "rhs": rhs}
        groups = {side: self.group(relation, side) for side in ends}
        parts: dict[str, list] = {"lhs": [], "rhs": []}
        for number in range(len(self._types)):
            sides = [s for s in ends if number in self.type_numbers(s)]
            if not sides:
                continue
            rows, of_type = [], []
            for side in sides:
                numbers = self.type_numbers(side)
                rows.append(ends[side])
                if len(numbers) > 1:
                    of_type.append(groups[side] == numbers.index(number))
                else:
                    of_type.append(None)
            rows = rows_of_type(rows, of_type, self.rows(number))
            vectors = self.vectors(number, rows)
            for part, side in zip(
                tf.split(vectors, len(sides)) if len(sides) > 1 else [vectors],
                sides,
                strict=True,
            ):
                parts[side].append((groups[side], part))
        return merge(parts["lhs"]), merge(parts["rhs"])


def rows_of_type(
    rows: Sequence[tf.Tensor], of_type: Sequence[tf.Tensor | None], size: int
) -> tf.Tensor:
    """Joins rows of both sides; those that are not of this type become one that is.

    Its gradient gets zeros added. A row that the batch does not hold would be
    touched: lazy optimizers move a row that they see.

    Args:
        rows: (batch,) integers, of one side each.
        of_type: (batch,) bool of each, which are of this type; none for all.
        size: how many rows the type has.
    """
    if len(rows) == 1 and of_type[0] is None:
        return rows[0]
    joined = tf.concat(rows, axis=0)
    if all(mask is None for mask in of_type):
        return joined
    masks = [
        tf.ones_like(row, tf.bool) if mask is None else mask
        for row, mask in zip(rows, of_type, strict=True)
    ]
    mask = tf.concat(masks, axis=0)
    present = tf.gather(joined, tf.argmax(mask, output_type=tf.int32))
    return tf.where(mask, joined, tf.minimum(present, size - 1))


def merge(parts: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> tf.Tensor:
    """Each edge's vector among those that every table of its side offers.

    Args:
        parts: the edges' groups (batch,), and vectors (batch, dim), of each group.
    """
    (group, merged), *others = parts
    for number, (_, vectors) in enumerate(others, start=1):
        merged = tf.where((group == number)[:, tf.newaxis], vectors, merged)
    return merged
