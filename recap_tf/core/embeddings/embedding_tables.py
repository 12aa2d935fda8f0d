"""Large embedding tables: looked up in bags, updated row by row."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.embeddings import tpu_tables
from recap_tf.core.embeddings.open_vocabulary import OpenVocabularyRows
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.embeddings.vocabulary import VocabularyRows, load_snapshot
from recap_tf.core.optimizers.grouped import Optimizer
from recap_tf.core.storage.huge_pages import use_huge_pages

# Rows whose norms are computed at once.
_CHUNK = 65_536
# Starts for the rows that change owners: Keras's initializers give the same values in
# every call, so some are drawn once and handed out in turn.
_STARTS = 256


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class EmbeddingTables(keras.layers.Layer):
    """Looks bags of ids up in large tables.

        output[feature] = combiner of table[row(id)] over the ids of an example

    Call: {feature: SparseTensor (batch, any), or dense (batch, n) or (batch,)} of ids
    -> {feature: (batch, dim)} float32. Features that no table serves are ignored.

    The tables are those of tensorflow-recommenders' `TPUEmbedding`: variables off TPU,
    with sparse gradients that `optimizers()` apply, and memory of the embedding cores
    under a TPUStrategy, where they update themselves with the same settings. Two
    things it does not do off TPU are done here: it gathers zeros, on some devices, for
    ids outside a table, and it fills empty bags with id 0, which then counts as seen.

    On TPUs ids have to become rows before they reach the device: map `rows_of` over
    the data set, and distribute it with `experimental_fetch_to_device=False`. Rows of
    an open vocabulary and l2 are not to be had there.

    Args:
        tables: what each holds; names and features appear once.
        replica_batch_size: examples per batch and replica; TPUs need to know. By the
            feature's name, where features come with batches of their own.

    >>> import tensorflow as tf
    >>> from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
    >>> from recap_tf.core.embeddings.table_spec import TableSpec
    >>> tables = EmbeddingTables(
    ...     [TableSpec(name="post", rows=100, dim=8, features=["liked"], hashed=True)]
    ... )
    >>> tables({"liked": tf.constant([["a", "b"], ["b", "c"]])})["liked"].shape
    TensorShape([2, 8])
    """

    def __init__(
        self,
        tables: Sequence[TableSpec],
        replica_batch_size: int | Mapping[str, int] | None = None,
        **kwargs,
    ):
        super().__init__(**({"dtype": "float32"} | kwargs))
        _check_unique(tables)
        self.tables = {spec.name: spec for spec in tables}
        self.replica_batch_size = replica_batch_size
        self.finders = {spec.name: spec.make_rows() for spec in tables}
        # Not tracked: checkpoints hold optimizers under the trainer's name for them.
        self._optimizer_of: Callable[[str], Optimizer] | None = None

    def build(self, shapes):
        self._tpu = tpu_tables.under_tpu()
        specs, counter = self.tables.values(), None
        if self._tpu:
            tpu_tables.check_for_tpu(
                type(self).__name__, specs, self.replica_batch_size
            )
            self.counter = counter = keras.optimizers.legacy.SGD(0.0)
        self._features = tpu_tables.feature_configs(specs, counter)
        self.embedding = tpu_tables.build_tables(
            self._features, self.replica_batch_size
        )
        if not self._tpu:
            for table in self.embedding.embedding_tables.values():
                use_huge_pages(table)
        for name, finder in self.finders.items():
            finder.build(None)
            if isinstance(finder, OpenVocabularyRows):
                self._draw_starts(name)
        super().build(shapes)

    def call(self, inputs, training=None):
        on_cores = self._tpu and tpu_tables.under_tpu()
        if on_cores and not tf.distribute.in_cross_replica_context():
            return self.embedding({name: inputs[name] for name in self._features})
        bags = self.rows_of(inputs, training=bool(training))
        if self._tpu:
            # Evaluation runs on the host, on the tables as they were last saved.
            combined = self.embedding(bags, serving_config=self._features)
        else:
            combined = self.embedding(bags)
        if training:
            self._penalize(bags)
        return {
            name: _whole_batch(vectors, bags[name], inputs[name].shape[0])
            for name, vectors in combined.items()
        }

    def rows_of(self, inputs: Mapping[str, Any], training: bool = False):
        """The features of the tables with rows in place of ids, as SparseTensors.

        Args:
            inputs: feature -> (batch, any), (batch, n) or (batch,) ids, as in a call.
            training: whether open vocabularies learn from the ids.

        Raises:
            ValueError: a feature is missing or holds no ids.
        """
        rows_of = {}
        for name, spec in self.tables.items():
            bags = {feature: _bag(feature, inputs, spec) for feature in spec.features}
            ids = {feature: bag.values for feature, bag in bags.items()}
            finder = self.finders[name]
            if training and isinstance(finder, OpenVocabularyRows):
                self._start_anew(name, finder.learn(ids))
            rows = finder(ids)
            for feature, bag in bags.items():
                rows_of[feature] = bag.with_values(rows[feature])
        return rows_of

    def variable(self, name: str) -> tf.Variable:
        """The table of that name, (rows and shared row, dim)."""
        # On TPUs, what the embedding cores held when they were last saved.
        tables = self.embedding.embedding_tables
        return {config.name: table for config, table in tables.items()}[name]

    def optimizers(self) -> dict[str, tuple[Optimizer, list[tf.Variable]]]:
        """The tables' optimizers, as groups for a `GroupedOptimizer`.

        "table/<name>" -> (its optimizer, a list of the table alone). Under a
        TPUStrategy one group that counts steps; the cores do the rest.
        """
        if self._tpu:
            return {"tables": (self.counter, self.embedding.trainable_weights)}
        optimizers = {name: spec.make_optimizer() for name, spec in self.tables.items()}
        self._optimizer_of = optimizers.__getitem__
        return {
            f"table/{name}": (optimizer, [self.variable(name)])
            for name, optimizer in optimizers.items()
        }

    def load_pretrained(self) -> dict[str, float]:
        """Loads the snapshots of the specs: table -> share of its rows covered."""
        return {
            name: load_snapshot(
                spec.pretrained, self.variable(name), spec.rows, spec.vocabulary
            )
            for name, spec in self.tables.items()
            if spec.pretrained is not None
        }

    def norms(self) -> dict[str, float]:
        """The mean norms of the rows of tables that are to be logged, by table."""
        return {
            name: float(_mean_norm(self.variable(name)))
            for name, spec in self.tables.items()
            if spec.log_norm
        }

    def off_tpu(self) -> tf.tpu.experimental.embedding.TPUEmbedding:
        """The same tables as plain variables; see `tpu_tables.build_off_tpu`."""
        return tpu_tables.build_off_tpu(self._features)

    @property
    def lookup_tables(self) -> list[tf.lookup.StaticHashTable]:
        """The vocabularies, which an export has to hold beside the weights."""
        finders = self.finders.values()
        return [f.lookup for f in finders if isinstance(f, VocabularyRows)]

    def _draw_starts(self, name: str) -> None:
        spec = self.tables[name]
        draw = keras.initializers.get(spec.initializer)
        with tf.init_scope():
            starts = tf.constant(draw((_STARTS, spec.dim), tf.float32).numpy())
        setattr(self, f"_starts_{name}", starts)

    def _start_anew(self, name: str, rows: tf.Tensor) -> None:
        """Gives rows with a new owner the values and the state of fresh ones."""
        starts = getattr(self, f"_starts_{name}")
        which = (rows + self.finders[name].clock) % _STARTS
        self.variable(name).scatter_update(
            tf.IndexedSlices(tf.gather(starts, which), rows)
        )
        if self._optimizer_of is not None:
            self._optimizer_of(name).reset_rows(self.variable(name), rows)

    def _penalize(self, bags) -> None:
        for name, spec in self.tables.items():
            if not spec.l2:
                continue
            rows = tf.concat([bags[f].values for f in spec.features], axis=0)
            unique, _, times = tf.unique_with_counts(rows)
            squares = tf.reduce_sum(tf.gather(self.variable(name), unique) ** 2, axis=1)
            batch = tf.cast(bags[spec.features[0]].dense_shape[0], tf.float32)
            self.add_loss(
                spec.l2 * tf.reduce_sum(squares * tf.cast(times, tf.float32)) / batch
            )

    def get_config(self):
        return super().get_config() | {
            "tables": [spec.get_config() for spec in self.tables.values()],
            "replica_batch_size": self.replica_batch_size,
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["tables"] = [TableSpec.from_config(table) for table in config["tables"]]
        return cls(**config)


def _check_unique(tables: Sequence[TableSpec]) -> None:
    names = [spec.name for spec in tables]
    features = [feature for spec in tables for feature in spec.features]
    for what, given in (
        ("Two tables are called", names),
        ("Two tables serve feature", features),
    ):
        twice = sorted({name for name in given if given.count(name) > 1})
        if twice:
            raise ValueError(f"{what} {twice[0]!r}.")


def _bag(feature: str, inputs: Mapping[str, Any], spec: TableSpec) -> tf.SparseTensor:
    """The ids of a feature: (batch, any) int64 or strings."""
    if feature not in inputs:
        raise ValueError(
            f"Embedding table {spec.name!r} looks up feature {feature!r}, which is not "
            f"among the features: {sorted(inputs)}."
        )
    ids = inputs[feature]
    if not (ids.dtype.is_integer or ids.dtype == tf.string):
        raise ValueError(
            f"Feature {feature!r} holds {ids.dtype.name} values, but embedding table "
            f"{spec.name!r} looks ids up in it."
        )
    if not isinstance(ids, tf.SparseTensor):
        if ids.shape.rank == 1:
            ids = ids[:, tf.newaxis]
        # Every column counts: `tf.sparse.from_dense` would leave zeros out.
        shape = tf.shape(ids, tf.int64)
        places = tf.where(tf.ones(shape, tf.bool))
        dense_shape = shape if ids.shape[0] is None else ids.shape
        ids = tf.SparseTensor(places, tf.reshape(ids, [-1]), dense_shape)
    return ids if ids.dtype == tf.string else tf.cast(ids, tf.int64)


def _whole_batch(
    vectors: tf.Tensor, bag: tf.SparseTensor, batch: int | None
) -> tf.Tensor:
    """Adds zeros for empty bags at the end of a batch, which the lookup leaves out."""
    missing = tf.cast(bag.dense_shape[0], tf.int32) - tf.shape(vectors)[0]
    padded = tf.pad(vectors, [[0, missing], [0, 0]])
    padded.set_shape([batch, vectors.shape[-1]])
    return padded


@tf.function(reduce_retracing=True)
def _mean_norm(table: tf.Variable) -> tf.Tensor:
    # In chunks by gather: reading a large table at once would copy it.
    rows = table.shape[0]
    total = tf.zeros([], tf.float64)
    for start in tf.range(0, rows, _CHUNK):
        chunk = tf.gather(table, tf.range(start, tf.minimum(start + _CHUNK, rows)))
        total += tf.cast(tf.reduce_sum(tf.norm(chunk, axis=1)), tf.float64)
    return total / rows
