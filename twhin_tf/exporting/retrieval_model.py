"""SavedModels that find neighbours: entity ids in, neighbour ids and scores out.

Plain TensorFlow operations, so that TF Serving loads them as they are. A model has the
signatures

    LHS_to_RHS      "entities" (batch,) ids of LHS nodes, "relations" (batch,) names
                    -> the RHS nodes that score best for (entity, relation, ?)
    similar_TYPE    "entities" (batch,) -> the nodes of the type that score best with
                    the entity itself, by the comparator, without a relation
    serving_default the first LHS_to_RHS

with ids as in the vocabulary, int64 or string, and the outputs

    neighbours  (batch, k) ids, best first
    scores      (batch, k) float32
    known       (batch,) bool: False for an entity without a vector, or a relation that
                does not lead from LHS to RHS; its neighbours are "" or -1, its scores 0
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tensorflow_recommenders.layers.factorized_top_k import BruteForce

from twhin_tf.exporting.inverted_file import CellIndex, InvertedFile
from twhin_tf.graph.graph import Graph
from twhin_tf.model.graph_embeddings import GraphEmbeddings

Search = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
"""Prepared queries (batch, dim) -> scores and neighbours' ids, (batch, k) each."""


@dataclasses.dataclass(frozen=True)
class TypePair:
    """Two node types, and the relations that lead from one to the other.

    Args:
        lhs, rhs: names of the types.
        relations: name -> number; empty to compare nodes of one type.
    """

    lhs: str
    rhs: str
    relations: Mapping[str, int]

    @property
    def signature(self) -> str:
        """The name of the signature that finds nodes of `rhs` for nodes of `lhs`."""
        if not self.relations:
            return f"similar_{self.lhs}"
        return f"{self.lhs}_to_{self.rhs}"


def type_pairs(graph: Graph) -> list[TypePair]:
    """Lists the pairs of types that relations join, in the order of the relations."""
    by_types: dict[tuple[str, str], dict[str, int]] = {}
    for number, relation in enumerate(graph.relations):
        of_pair = by_types.setdefault((relation.lhs, relation.rhs), {})
        of_pair[relation.name] = number
    return [TypePair(*types, relations) for types, relations in by_types.items()]


class RetrievalModel:
    """A model that finds neighbours, to be saved; the module says what it is asked.

    Args:
        model: trained, with tables in memory.
        graph: that the model was trained on.
        ids: type -> the entities of its rows, int64 or string.
        k: neighbours per query, fewer for types with fewer nodes.
        cells: makes the search approximate; None for an exact one.

    Attributes:
        graph: that the model was trained on.
        ids: type -> the entities, as a tensor.
        pairs: a signature each.
        functions: signature -> function.
        indexes: type -> the cells of its vectors, of an approximate search.
    """

    def __init__(
        self,
        model: GraphEmbeddings,
        graph: Graph,
        ids: Mapping[str, pa.Array],
        k: int,
        cells: InvertedFile | None = None,
    ):
        self.graph, self._model = graph, model
        self._module = tf.Module(name="retrieval")
        # What the functions below use, and nothing of Keras.
        self._module.variables_of_model = [
            *model.tables.values(),
            *model.operators.weights,
        ]
        self.ids = {name: _as_tensor(entities) for name, entities in ids.items()}
        self._rows = {name: _row_table(keys) for name, keys in self.ids.items()}
        self._module.row_tables = list(self._rows.values())
        self._searches: dict[str, Search] = {}
        self.indexes: dict[str, CellIndex] = {}
        for name, table in model.tables.items():
            vectors = tf.cast(tf.convert_to_tensor(table), tf.float32)
            vectors = model.comparator.prepare(vectors)
            most = min(k, table.shape[0])
            self._add_search(name, vectors, most, cells)
        similar = [TypePair(name, name, {}) for name in graph.types]
        self.pairs = type_pairs(graph) + similar
        self.functions = {pair.signature: self._function(pair) for pair in self.pairs}

    def _add_search(
        self, name: str, vectors: tf.Tensor, k: int, cells: InvertedFile | None
    ) -> None:
        ids = self.ids[name]
        if cells is None:
            brute_force = BruteForce(k=k).index(vectors, ids)
            self._searches[name] = brute_force
            self._module.variables_of_model += brute_force.weights
            return
        index = CellIndex(vectors.numpy(), cells, k)
        stored = tf.Variable(ids, trainable=False, name="ids")
        self.indexes[name] = index
        self._module.variables_of_model += [*index.variables, stored]

        def search(queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scores, rows = index(queries)
            return scores, tf.gather(stored, rows)

        self._searches[name] = search

    def save(self, folder: str) -> None:
        """Writes a SavedModel with all signatures; the first is the default too."""
        first = next(iter(self.functions.values()))
        tf.saved_model.save(
            self._module, folder, {"serving_default": first, **self.functions}
        )

    def _function(self, pair: TypePair) -> tf.types.experimental.ConcreteFunction:
        """Traces a pair's search, which looks up the relation if there are any."""
        table, search = self._model.tables[pair.lhs], self._searches[pair.rhs]
        inputs = {"entities": self._spec(pair.lhs)}
        numbers = None
        if pair.relations:
            inputs["relations"] = tf.TensorSpec([None], tf.string, "relations")
            numbers = _table(
                tf.constant(list(pair.relations)),
                tf.constant(list(pair.relations.values()), tf.int64),
            )
            self._module.row_tables.append(numbers)

        def find(entities, relations=None):
            row = self._rows[pair.lhs].lookup(entities)
            known = row >= 0
            vectors = tf.cast(tf.gather(table, tf.maximum(row, 0)), tf.float32)
            if numbers is not None:
                number = numbers.lookup(relations)
                known &= number >= 0
                vectors = self._model.transform(tf.maximum(number, 0), vectors)
            scores, neighbours = search(self._model.comparator.prepare(vectors))
            mask = known[:, tf.newaxis]
            nobody = "" if neighbours.dtype == tf.string else -1
            return {
                "neighbours": tf.where(
                    mask, neighbours, tf.constant(nobody, neighbours.dtype)
                ),
                "scores": tf.where(mask, scores, 0.0),
                "known": known,
            }

        # Traced now: TensorFlow takes many functions of one name for one that is traced
        # again and again, and warns.
        function = tf.function(find, input_signature=list(inputs.values()))
        return function.get_concrete_function()

    def _spec(self, name: str) -> tf.TensorSpec:
        return tf.TensorSpec([None], self.ids[name].dtype, "entities")


def _as_tensor(ids: pa.Array) -> tf.Tensor:
    if pa.types.is_integer(ids.type):
        return tf.constant(ids.to_numpy(), tf.int64)
    return tf.constant(np.array(ids.to_pylist(), object), tf.string)


def _row_table(ids: tf.Tensor) -> tf.lookup.StaticHashTable:
    return _table(ids, tf.range(len(ids), dtype=tf.int64))


def _table(keys: tf.Tensor, values: tf.Tensor) -> tf.lookup.StaticHashTable:
    """Makes a table of whole numbers; keys that it does not hold give -1."""
    return tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, values), default_value=-1
    )
