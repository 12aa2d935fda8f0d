"""What a large embedding table holds, how it starts, how it learns."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gin
import tf_keras as keras

from recap_tf.core.checks import check_choice, check_range
from recap_tf.core.embeddings.id_hashing import HashedRows
from recap_tf.core.embeddings.open_vocabulary import OpenVocabulary, OpenVocabularyRows
from recap_tf.core.embeddings.row_finders import CheckedRows, RowFinder
from recap_tf.core.embeddings.vocabulary import VocabularyRows
from recap_tf.core.optimizers.grouped import Optimizer
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.core.optimizers.row_optimizer import RowOptimizer
from recap_tf.core.optimizers.sparse_adagrad import RowWiseAdagrad, SparseAdagrad
from recap_tf.core.optimizers.sparse_ftrl import SparseFTRL
from recap_tf.core.optimizers.sparse_sgd import SparseSGD

_ROW_OPTIMIZERS = (SparseSGD, SparseAdagrad, RowWiseAdagrad, LazyAdam, SparseFTRL)


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """One large table: what it holds, how it starts, how it learns.

    Ids are rows, 0 to rows - 1, unless one of `hashed`, `vocabulary` and
    `open_vocabulary` says how they become rows. The latter two add one row at the
    table's end, for all ids that have none of their own.

    >>> from recap_tf.core.embeddings.table_spec import TableSpec
    >>> spec = TableSpec(name="users", rows=1000, dim=16, features=["user_id"])
    >>> spec.combiner, spec.optimizer.__name__
    ('sum', 'SparseAdagrad')

    Args:
        name: in messages, logs and checkpoints.
        rows: how many rows ids have, at least 1.
        dim: numbers per row, at least 1.
        features: looked up here. Dense columns or of variable length; integers or,
            unless ids are rows, strings.
        combiner: what becomes of the rows of an example; of none, zeros.
        initializer: how rows start: a Keras initializer's name or config.
        optimizer: makes a `RowOptimizer`: SparseSGD, SparseAdagrad, RowWiseAdagrad,
            LazyAdam or SparseFTRL.
        learning_rate: a number or a schedule.
        l2: adds l2 * (sum of squares of the rows that an example looks up) to its
            loss; at least 0. Rows that are not looked up do not decay.
        pretrained: snapshot that a new training starts from; see
            `recap_tf.core.embeddings.vocabulary.load_snapshot`.
        vocabulary: parquet file, `entity` -> `row`.
        hashed: row = hash(id) mod rows.
        open_vocabulary: rows are given to the ids that training meets often.
        log_norm: log the mean norm of the rows.
    """

    name: str
    rows: int
    dim: int
    features: Sequence[str]
    combiner: Literal["sum", "mean"] = "sum"
    initializer: str | Mapping[str, Any] = "uniform"
    optimizer: Callable[..., Optimizer] = SparseAdagrad
    learning_rate: float | Schedule = 0.01
    l2: float = 0.0
    pretrained: str | None = None
    vocabulary: str | None = None
    hashed: bool = False
    open_vocabulary: OpenVocabulary | None = None
    log_norm: bool = False

    def __post_init__(self):
        for field in ("rows", "dim"):
            check_range(self._named(field), getattr(self, field), at_least=1)
        check_choice(self._named("combiner"), self.combiner, ("sum", "mean"))
        check_range(self._named("l2"), self.l2, at_least=0)
        if not self.features or isinstance(self.features, str):
            raise ValueError(
                f"{self._named('features')} must be a list of at least one name. "
                f"Received: {self.features!r}"
            )
        ways = {
            "vocabulary": self.vocabulary is not None,
            "hashed": self.hashed,
            "open_vocabulary": self.open_vocabulary is not None,
        }
        given = [way for way, is_used in ways.items() if is_used]
        if len(given) > 1:
            raise ValueError(
                f"TableSpec of table {self.name!r} takes one of vocabulary, hashed and "
                f"open_vocabulary. Received: {' and '.join(given)}"
            )
        if self.pretrained is not None and given not in ([], ["vocabulary"]):
            raise ValueError(
                f"TableSpec.pretrained of table {self.name!r} needs ids with fixed "
                f"rows, which {given[0]} does not give."
            )

    def _named(self, field: str) -> str:
        return f"TableSpec.{field} of table {self.name!r}"

    def make_rows(self) -> RowFinder:
        """The layer that finds the rows of ids."""
        if self.vocabulary is not None:
            return VocabularyRows(self.name, self.rows, self.vocabulary)
        if self.open_vocabulary is not None:
            return OpenVocabularyRows(self.name, self.rows, self.open_vocabulary)
        return (HashedRows if self.hashed else CheckedRows)(self.name, self.rows)

    def make_optimizer(self) -> Optimizer:
        """The table's optimizer.

        Raises:
            ValueError: it is no `RowOptimizer`.
        """
        optimizer = self.optimizer(learning_rate=self.learning_rate)
        if not isinstance(optimizer, RowOptimizer):
            *names, last = (kind.__name__ for kind in _ROW_OPTIMIZERS)
            raise ValueError(
                f"{self._named('optimizer')} must be one of {', '.join(names)} and "
                f"{last}, which update single rows. Received: "
                f"{type(optimizer).__name__}"
            )
        return optimizer

    def get_config(self) -> dict[str, Any]:
        """The spec as plain values."""
        config = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        serialize = keras.saving.serialize_keras_object
        if isinstance(self.learning_rate, Schedule):
            config["learning_rate"] = serialize(self.learning_rate)
        if self.open_vocabulary is not None:
            config["open_vocabulary"] = dataclasses.asdict(self.open_vocabulary)
        optimizer = serialize(self.make_optimizer())
        del optimizer["config"]["learning_rate"]
        return config | {"optimizer": optimizer, "features": list(self.features)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "TableSpec":
        """The spec that `get_config` described."""
        config = dict(config)
        if isinstance(config["learning_rate"], Mapping):
            config["learning_rate"] = keras.saving.deserialize_keras_object(
                config["learning_rate"]
            )
        if config["open_vocabulary"] is not None:
            config["open_vocabulary"] = OpenVocabulary(**config["open_vocabulary"])
        config["optimizer"] = functools.partial(_make, config["optimizer"])
        return cls(**config)


def _make(serialized: Mapping[str, Any], learning_rate: float | Schedule) -> Optimizer:
    optimizer = keras.saving.deserialize_keras_object(
        serialized | {"config": dict(serialized["config"]) | {"learning_rate": 0.0}}
    )
    optimizer.learning_rate = learning_rate
    return optimizer
