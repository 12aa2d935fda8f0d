"""All nodes as negatives: a softmax over whole tables."""

import dataclasses

import gin
import tensorflow as tf

from twhin_tf.model.negatives import Candidates, Negatives, Sampler, Sides
from twhin_tf.model.node_tables import NodeTables


@gin.register
@dataclasses.dataclass(frozen=True)
class AllNodes(Negatives):
    """Every node of the type; a softmax over them is not sampled.

    For tables small enough to multiply a batch with. Known true pairs stay among them,
    as in the "full multiclass" loss of Lacroix et al. 2018 (arXiv:1806.07297).

    Args:
        sides: which ends of an edge they stand in for.
    """

    sides: Sides = "both"

    def prepare(self, tables, degrees):
        return AllNodesSampler(self, tables)


class AllNodesSampler(Sampler):
    """Offers whole tables, which have to be float32.

    Raises:
        ValueError: a table is not.
    """

    def __init__(self, settings: AllNodes, tables: NodeTables):
        super().__init__(settings.sides, tables)
        for name, table in tables.variables_of.items():
            if table.dtype != tf.float32:
                raise ValueError(
                    "twhin.embedder.negatives: AllNodes updates tables whole, and so "
                    f"needs NodeTable.storage = 'float32' for type {name!r}. "
                    f"Received: {table.dtype.name!r}"
                )

    def of_side(self, batch, side, seed):
        group = self.tables.group(batch.relation, side)
        return [
            Candidates(
                vectors=tf.convert_to_tensor(self.tables.table(number))[tf.newaxis],
                group=tf.zeros_like(group),
                # Of another type: not among them.
                columns=tf.where(group == place, batch.rows[side], -1),
            )
            for place, number in enumerate(self.tables.type_numbers(side))
        ]
