"""Embeddings of the ranker: learned tables of ids, and stored vectors."""

import dataclasses
import json
from collections.abc import Mapping, Sequence

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range

STORED_EMBEDDINGS = ("user_embedding", "user_eng_embedding", "author_embedding")
"""Vectors that arrive with the record, in the order the model concatenates them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingTable:
    """One table of learned vectors.

    Args:
        name: in messages and checkpoints.
        num_embeddings: how many rows, at least 1; ids are below it.
        embedding_dim: numbers per row, at least 1.
        column: the column of `discrete` whose ids are looked up.
    """

    name: str
    num_embeddings: int
    embedding_dim: int
    column: int

    def __post_init__(self):
        for field in ("num_embeddings", "embedding_dim"):
            setting = f"{field} of embedding table {self.name!r}"
            check_range(setting, getattr(self, field), at_least=1)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class SmallEmbeddings(keras.layers.Layer):
    """Looks ids up in tables that live and train inside the model.

        output = concat(table_1[discrete[:, column_1]], table_2[...], ...)

    Call: discrete (batch, D) integers -> (batch, sum of embedding_dim); with
    `per_table` table name -> (batch, its embedding_dim).

    Args:
        tables: table name -> {"column", "num_embeddings", "embedding_dim"}; or
        columns: path of the `columns.json` that `recap_tf.convert` wrote: one table
            for every column of `discrete`.
        embedding_dim: width of the tables of `columns`; a table of fewer rows gets
            its number of rows.
        initializer: how the rows start: a Keras initializer's name.
        l2: adds l2 * (sum of squares of the rows that an example looks up) to its
            loss; at least 0. Rows that are not looked up do not decay.

    >>> import tensorflow as tf
    >>> from recap_tf.model.small_embeddings import SmallEmbeddings
    >>> country = {"column": 1, "num_embeddings": 200, "embedding_dim": 4}
    >>> SmallEmbeddings({"country": country})(tf.constant([[7, 0], [7, 199]])).shape
    TensorShape([2, 4])
    """

    def __init__(
        self,
        tables: Mapping[str, Mapping[str, int]] | None = None,
        columns: str | None = None,
        embedding_dim: int = 16,
        initializer: str = "uniform",
        l2: float = 0.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_range("SmallEmbeddings.l2", l2, at_least=0)
        if (tables is None) == (columns is None):
            raise ValueError(
                "SmallEmbeddings needs exactly one of tables and columns. Received: "
                f"tables={tables}, columns={columns!r}"
            )
        if columns is not None:
            self.tables = _read_tables(columns, embedding_dim)
        else:
            self.tables = [
                EmbeddingTable(name=name, **table) for name, table in tables.items()
            ]
        self.initializer = initializer
        self.l2 = l2

    def build(self, shape):
        for table in self.tables:
            if not 0 <= table.column < shape[-1]:
                raise ValueError(
                    f"Embedding table {table.name!r} reads column {table.column} of "
                    f"`discrete`, which has {shape[-1]} columns."
                )
        self.rows = {
            table.name: self.add_weight(
                table.name,
                (table.num_embeddings, table.embedding_dim),
                initializer=self.initializer,
            )
            for table in self.tables
        }
        super().build(shape)

    def call(self, discrete, per_table=False, training=None):
        vectors = {
            table.name: tf.gather(self.rows[table.name], _ids(discrete, table))
            for table in self.tables
        }
        if training and self.l2:
            squares = [tf.reduce_sum(v**2, axis=-1) for v in vectors.values()]
            self.add_loss(self.l2 * tf.reduce_mean(tf.add_n(squares)))
        return vectors if per_table else tf.concat(list(vectors.values()), axis=-1)

    def get_config(self):
        tables = {table.name: dataclasses.asdict(table) for table in self.tables}
        for table in tables.values():
            del table["name"]
        return super().get_config() | {
            "tables": tables,
            "initializer": self.initializer,
            "l2": self.l2,
        }


def _ids(discrete: tf.Tensor, table: EmbeddingTable) -> tf.Tensor:
    ids = discrete[:, table.column]
    inside = (ids >= 0) & (ids < table.num_embeddings)
    check = tf.debugging.Assert(
        tf.reduce_all(inside),
        [
            f"Embedding table {table.name!r} has {table.num_embeddings} rows; "
            f"ids outside it in column {table.column} of `discrete`:",
            tf.boolean_mask(ids, ~inside),
        ],
        summarize=5,
    )
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(ids)


def _read_tables(path: str, embedding_dim: int) -> Sequence[EmbeddingTable]:
    if not tf.io.gfile.exists(path):
        raise ValueError(f"SmallEmbeddings.columns = {path!r} does not exist.")
    with tf.io.gfile.GFile(path) as file:
        columns = json.load(file)["discrete"]
    return [
        EmbeddingTable(
            name=column["name"],
            num_embeddings=column["size"],
            embedding_dim=min(embedding_dim, column["size"]),
            column=i,
        )
        for i, column in enumerate(columns)
    ]
