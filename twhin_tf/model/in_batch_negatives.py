"""In-batch negatives: ends of other edges of the batch."""

import dataclasses

import gin
import tensorflow as tf

from recap_tf.core.checks import check_range
from twhin_tf.model.batch_draws import draw_places
from twhin_tf.model.edge_batch import EdgeBatch, Side
from twhin_tf.model.log_q import LogQ
from twhin_tf.model.negatives import Candidates, Degrees, Negatives, Sampler, Sides
from twhin_tf.model.node_tables import NodeTables


@gin.register
@dataclasses.dataclass(frozen=True)
class InBatchNegatives(Negatives):
    """Other edges' nodes: `count` of each relation, drawn without replacement.

    The relation's edges in the batch in a random order, repeated until there are
    `count`. Every edge of the relation gets the same. (TwHIN, section 3.)

    Args:
        count: candidates per side, at least 1.
        sides: which ends of an edge they stand in for.
    """

    count: int = 10
    sides: Sides = "both"

    def __post_init__(self):
        check_range("InBatchNegatives.count", self.count, at_least=1)

    def prepare(self, tables, degrees):
        return InBatchSampler(self, tables)


class InBatchSampler(Sampler):
    """Draws `InBatchNegatives`."""

    def __init__(self, settings: InBatchNegatives, tables: NodeTables):
        super().__init__(settings.sides, tables)
        self._count = settings.count

    def draw(self, batch, seed):
        groups, ends = len(self.tables.relations), self.ends
        places = draw_places(batch.relation, groups, self._count * len(ends), seed)
        # Both sides share one order, of which one takes the beginning, the other what
        # follows.
        parts = tf.split(places, len(ends), axis=1)
        return [
            (side, self.at(batch, side, part))
            for side, part in zip(ends, parts, strict=True)
        ]

    def of_side(self, batch, side, seed):
        places = draw_places(
            batch.relation, len(self.tables.relations), self._count, seed
        )
        return [self.at(batch, side, places)]

    def at(self, batch: EdgeBatch, side: Side, places: tf.Tensor) -> Candidates:
        """The candidates at `places`, (relations, count), of the batch."""
        return Candidates(
            vectors=batch.take("queries" if side == "lhs" else "rhs", places),
            group=batch.relation,
            rows=tf.gather(batch.rows[side], places),
            transformed=side == "lhs",
        )


@gin.register
@dataclasses.dataclass(frozen=True)
class SharedInBatchNegatives(Negatives):
    """Other edges' nodes of the same type, whatever their relation.

    Frequent nodes are drawn more often; `log_q` takes that out of the scores, with the
    share of training edges that a node has on the side (Yi et al. 2019, "Sampling-bias-
    corrected neural modeling", eq. 3).

    Args:
        count: candidates per side and node type, at least 1.
        log_q: subtract the log of the share from scores.
        sides: which ends of an edge they stand in for.
    """

    count: int = 100
    log_q: bool = True
    sides: Sides = "both"

    def __post_init__(self):
        check_range("SharedInBatchNegatives.count", self.count, at_least=1)

    @property
    def needs_degrees(self):
        return self.log_q

    def prepare(self, tables, degrees):
        return SharedInBatchSampler(self, tables, degrees)


class SharedInBatchSampler(Sampler):
    """Draws `SharedInBatchNegatives`."""

    def __init__(
        self, settings: SharedInBatchNegatives, tables: NodeTables, degrees: Degrees
    ):
        super().__init__(settings.sides, tables)
        self._count = settings.count
        self._log_q = None
        if settings.log_q:
            self._log_q = LogQ(
                {side: [d / max(d.sum(), 1) for d in degrees[side]] for side in degrees}
            )

    def of_side(self, batch, side, seed):
        group = self.tables.group(batch.relation, side)
        groups = len(self.tables.type_numbers(side))
        places = draw_places(group, groups, self._count, seed)
        rows = tf.gather(batch.rows[side], places)
        log_q = None
        if self._log_q is not None:
            log_q = self._log_q.of(side, rows, batch.rows[side], group)
        vectors = batch.take(side, places)
        return [Candidates(vectors, group, rows, log_q=log_q)]
