"""Rows for ids that nobody has listed: frequent ones get their own, idle ones lose it.

    seen      a sketch counts the ids that have no row
    admitted  at the `admit_after`-th sighting an id gets one of `ways` rows, which its
              hash says
    evicted   the row's former id, if all of them were taken

The state is a handful of integer variables and all of it plain TensorFlow ops, so
that any TensorFlow process loads an export. Only training changes it.
"""

import dataclasses
from typing import Literal, get_args

import gin
import tensorflow as tf

from recap_tf.core.checks import check_choice, check_range
from recap_tf.core.embeddings.id_hashing import fingerprints, mix, remainder
from recap_tf.core.embeddings.row_finders import Ids, RowFinder

Evict = Literal["least_recent", "least_frequent"]
_HASHES = 3
_NEVER = tf.int64.max


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenVocabulary:
    """Rules of a table without a list of its ids: who gets a row, and who has to leave.

    Sightings of ids without a row are counted in a count-min sketch (Cormode &
    Muthukrishnan 2005) with conservative update (Estan & Varghese 2002), and all counts
    are halved from time to time, as in TinyLFU (Einziger et al. 2017,
    arXiv:1512.00727): what was frequent long ago does not stay so, and the many rare
    ids do not add up.

    >>> from recap_tf.core.embeddings.open_vocabulary import OpenVocabulary
    >>> OpenVocabulary(admit_after=3).evict
    'least_recent'

    Args:
        admit_after: sightings after which an id gets a row of its own. Until then it
            has the shared row, which all others without one have too. The sketch may
            count too many, hence admit too early, never too few.
        ways: rows that an id may take; divides the table's rows. More ways fill a
            table better and cost more per lookup.
        evict: who leaves if all `ways` rows are taken: the id not seen for longest, or
            the one seen least, if that was less than the new one.
        sketch_width: counters per hash, of three; 4 per row if none.
        halve_every: sightings of ids without a row between two halvings; if none,
            `admit_after` / 4 per counter. More lets less frequent ids in, and more
            ids by mistake.
    """

    admit_after: int = 2
    ways: int = 8
    evict: Evict = "least_recent"
    sketch_width: int | None = None
    halve_every: int | None = None

    def __post_init__(self):
        check_range("OpenVocabulary.admit_after", self.admit_after, at_least=1)
        check_range("OpenVocabulary.ways", self.ways, at_least=1)
        for name, none in (
            ("sketch_width", "4 per row"),
            ("halve_every", "`admit_after` / 4 per counter"),
        ):
            value = getattr(self, name)
            check_range(f"OpenVocabulary.{name}", value, at_least=1, none=none)
        check_choice("OpenVocabulary.evict", self.evict, get_args(Evict))


class OpenVocabularyRows(RowFinder):
    """A set-associative map from ids to rows; row `rows`, the last, is shared.

    An id may have any of the `ways` rows of the set that its hash names. One id per
    set and call is admitted; rows of ids in the same batch are never taken away.

    Args:
        settings: see `OpenVocabulary`.
    """

    shared_rows = 1

    def __init__(self, table: str, rows: int, settings: OpenVocabulary, **kwargs):
        super().__init__(table, rows, **kwargs)
        if rows % settings.ways:
            raise ValueError(
                f"rows of embedding table {table!r} must be a multiple of "
                f"OpenVocabulary.ways = {settings.ways}. Received: {rows}"
            )
        self.settings = settings
        self.sets = rows // settings.ways
        self.width = settings.sketch_width or 4 * rows
        self.halve_every = settings.halve_every or max(
            1, self.width * settings.admit_after // 4
        )

    def build(self, _):
        strategy = tf.distribute.get_strategy()
        if strategy.num_replicas_in_sync > 1:
            raise ValueError(
                f"TableSpec.open_vocabulary of table {self.table!r} needs "
                'recap.train.strategy = "one_device": replicas would give one row to '
                f"different ids. Use TableSpec.hashed. Received: "
                f"{type(strategy).__name__} with {strategy.num_replicas_in_sync} "
                "replicas"
            )

        def state(name: str, shape: tuple[int, ...], dtype: tf.DType) -> tf.Variable:
            return self.add_weight(
                name, shape, dtype, initializer="zeros", trainable=False
            )

        # The fingerprint of each row's id; 0: free.
        self.owners = state("owners", (self.rows,), tf.int64)
        self.counts = state("counts", (self.rows,), tf.int32)
        self.last_seen = state("last_seen", (self.rows,), tf.int64)
        self.sketch = state("sketch", (_HASHES * self.width,), tf.int32)
        self.sightings = state("sightings", (), tf.int64)
        self.clock = state("clock", (), tf.int64)
        super().build(_)

    def call(self, ids: Ids):
        return {name: self._find(_prints(values)) for name, values in ids.items()}

    def learn(self, ids: Ids) -> tf.Tensor:
        """Counts a training batch's ids, admits and evicts.

        Returns:
            (n,) int64: the rows that have another id than before. They hold what
            the id before them learned.
        """
        every = tf.concat([_prints(values) for values in ids.values()], axis=0)
        unique, _, times = tf.unique_with_counts(every)
        self.clock.assign_add(1)
        places = self._places(unique)
        hit = tf.gather(self.owners, places) == unique[:, tf.newaxis]
        known = tf.reduce_any(hit, axis=1)
        self._touch(tf.boolean_mask(places, hit), tf.boolean_mask(times, known))
        strangers = tf.boolean_mask(unique, ~known)
        times = tf.boolean_mask(times, ~known)
        evicted = self._admit(strangers, self._count(strangers, times))
        self._age(tf.cast(tf.reduce_sum(times), tf.int64))
        return evicted

    def _find(self, prints: tf.Tensor) -> tf.Tensor:
        places = self._places(prints)
        hit = tf.gather(self.owners, places) == prints[:, tf.newaxis]
        row = tf.reduce_max(tf.where(hit, places, -1), axis=1)
        return tf.where(row < 0, tf.constant(self.rows, tf.int64), row)

    def _places(self, prints: tf.Tensor) -> tf.Tensor:
        """The rows that an id may have: (n,) -> (n, ways)."""
        ways = self.settings.ways
        first = ways * remainder(tf.bitcast(prints, tf.uint64), self.sets)
        return first[:, tf.newaxis] + tf.range(ways, dtype=tf.int64)

    def _touch(self, rows: tf.Tensor, times: tf.Tensor) -> None:
        self.counts.scatter_add(tf.IndexedSlices(times, rows))
        now = tf.fill(tf.shape(rows), self.clock.read_value())
        self.last_seen.scatter_update(tf.IndexedSlices(now, rows))

    def _count(self, prints: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
        """Adds sightings to the sketch; returns (n,) how many there are now."""
        bits = tf.bitcast(prints, tf.uint64)
        cells = []
        for i in range(_HASHES):
            seed = tf.constant(i + 1, tf.uint64)
            cell = remainder(mix(tf.bitwise.bitwise_xor(bits, seed)), self.width)
            cells.append(cell + i * self.width)
        seen = times + tf.reduce_min(
            [tf.gather(self.sketch, cell) for cell in cells], axis=0
        )
        for cell in cells:
            self.sketch.scatter_max(tf.IndexedSlices(seen, cell))
        return seen

    def _admit(self, strangers: tf.Tensor, seen: tf.Tensor) -> tf.Tensor:
        enough = seen >= self.settings.admit_after
        prints, seen = tf.boolean_mask(strangers, enough), tf.boolean_mask(seen, enough)
        prints, seen = self._one_per_set(prints, seen)
        places = self._places(prints)
        free = tf.gather(self.owners, places) == 0
        in_use = tf.gather(self.last_seen, places) == self.clock
        if self.settings.evict == "least_recent":
            worth = tf.gather(self.last_seen, places)
        else:
            worth = tf.cast(tf.gather(self.counts, places), tf.int64)
            in_use |= worth >= tf.cast(seen, tf.int64)[:, tf.newaxis]
        worth = tf.where(free, tf.constant(-1, tf.int64), worth)
        worth = tf.where(in_use & ~free, _NEVER, worth)
        way = tf.argmin(worth, axis=1)
        row = tf.gather(places, way, batch_dims=1)
        has_place = tf.gather(worth, way, batch_dims=1) != _NEVER
        row = tf.boolean_mask(row, has_place)
        evicted = tf.boolean_mask(row, tf.gather(self.owners, row) != 0)
        self.owners.scatter_update(
            tf.IndexedSlices(tf.boolean_mask(prints, has_place), row)
        )
        seen = tf.boolean_mask(seen, has_place)
        self.counts.scatter_update(tf.IndexedSlices(tf.zeros_like(seen), row))
        self._touch(row, seen)
        return evicted

    def _one_per_set(self, prints, seen):
        """The most seen of the candidates for each set."""
        order = tf.argsort(seen, direction="DESCENDING", stable=True)
        prints, seen = tf.gather(prints, order), tf.gather(seen, order)
        unique, which = tf.unique(self._places(prints)[:, 0])
        first = tf.math.unsorted_segment_min(
            tf.range(tf.size(prints)), which, tf.size(unique)
        )
        return tf.gather(prints, first), tf.gather(seen, first)

    def _age(self, sightings: tf.Tensor) -> None:
        def halve() -> tf.Tensor:
            self.sketch.assign(self.sketch // 2)
            self.counts.assign(self.counts // 2)
            return self.sightings.assign(tf.zeros_like(self.sightings))

        total = self.sightings.assign_add(sightings)
        tf.cond(total >= self.halve_every, halve, lambda: tf.identity(total))

    def get_config(self):
        return super().get_config() | {"settings": dataclasses.asdict(self.settings)}

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        return cls(settings=OpenVocabulary(**config.pop("settings")), **config)


def _prints(ids: tf.Tensor) -> tf.Tensor:
    """Fingerprints as int64, none of them 0."""
    prints = tf.bitcast(fingerprints(ids), tf.int64)
    return tf.where(prints == 0, tf.ones_like(prints), prints)
