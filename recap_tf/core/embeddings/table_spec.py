"""What a large embedding table holds, how it starts, how it learns."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gin
import tf_keras as keras

from recap_tf.core.embeddings.open_vocabulary import OpenVocabulary, OpenVocabularyRows
from recap_tf.core.embeddings.row_ids import CheckedRows, HashedRows, RowFinder
from recap_tf.core.embeddings.vocabulary import VocabularyRows
from recap_tf.core.optimizers.grouped import Optimizer
from recap_tf.core.optimizers.row_optimizers import SparseAdagrad
from recap_tf.core.optimizers.schedules import Schedule


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class TableSpec:
    """One large table: what it holds, how it starts, how it learns.

    Ids are rows, 0 to rows - 1, unless one of `hashed`, `vocabulary` and
    `open_vocabulary` says how they become rows. The latter two add one row at the
    table's end, for all ids that have none of their own.

    Args:
        name: in messages, logs and checkpoints.
        rows: for ids.
        dim: numbers per row.
        features: looked up here. Dense columns or of variable length; integers or,
            unless ids are rows, strings.
        combiner: what becomes of the rows of an example; of none, zeros.
        initializer: how rows start: a Keras initializer's name or config.
        optimizer: makes one of `recap_tf.core.optimizers.row_optimizers`.
        learning_rate: a number or a schedule.
        l2: adds l2 * (sum of squares of the rows that an example looks up) to its
            loss. Rows that are not looked up do not decay.
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
            if getattr(self, field) < 1:
                self._refuse(field, "must be at least 1")
        if self.combiner not in ("sum", "mean"):
            self._refuse("combiner", 'must be "sum" or "mean"')
        if self.l2 < 0:
            self._refuse("l2", "cannot be negative")
        if not self.features or isinstance(self.features, str):
            self._refuse("features", "must be a list of at least one name")
        ways = {
            "vocabulary": self.vocabulary is not None,
            "hashed": self.hashed,
            "open_vocabulary": self.open_vocabulary is not None,
        }
        given = [way for way, used in ways.items() if used]
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

    def _refuse(self, field: str, expected: str):
        raise ValueError(
            f"TableSpec.{field} of table {self.name!r} {expected}. "
            f"Received: {getattr(self, field)!r}"
        )

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
            ValueError: it is none of `recap_tf.core.optimizers.row_optimizers`.
        """
        made = self.optimizer(learning_rate=self.learning_rate)
        if not hasattr(made, "slot_starts"):
            raise ValueError(
                f"TableSpec.optimizer of table {self.name!r} must be one of SparseSGD, "
                "SparseAdagrad, RowWiseAdagrad, LazyAdam and SparseFTRL, which update "
                f"single rows. Received: {type(made).__name__}"
            )
        return made

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
    made = keras.saving.deserialize_keras_object(
        serialized | {"config": dict(serialized["config"]) | {"learning_rate": 0.0}}
    )
    made._set_hyper("learning_rate", learning_rate)
    return made
