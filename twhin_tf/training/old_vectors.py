"""Old vectors, by the rows of a graph that has grown: for a `WarmStart`."""

import posixpath
import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.optimizers.grouped import Optimizer
from recap_tf.core.row_files import open_table
from recap_tf.core.training import checkpoints
from twhin_tf.graph.edge_batches import Edges
from twhin_tf.graph.edge_files import read_split
from twhin_tf.graph.entities import file_stem, read_entities
from twhin_tf.graph.graph import Graph, read_graph
from twhin_tf.model.graph_embeddings import GraphEmbeddings
from twhin_tf.model.warm_start import WarmStart
from twhin_tf.settings import Embedder
from twhin_tf.training.trained import load_model

Groups = Mapping[str, tuple[Optimizer, list[tf.Variable]]]


class OldVectors:
    """The old vectors that a `WarmStart` finds for a graph.

    Args:
        warm_start: where they are.
        embedder: the settings of the new training.
        graph: the grown graph.

    Attributes:
        vectors: type -> (rows, dim) float32; NaN for rows without an old vector.

    Raises:
        UserError: old and new do not fit together, or have no entity in common.
    """

    def __init__(self, warm_start: WarmStart, embedder: Embedder, graph: Graph):
        self._warm_start, self._graph = warm_start, graph
        self._dim = embedder.dim
        self._places: dict[str, np.ndarray] = {}
        self.vectors: dict[str, np.ndarray] = {}
        self._old_graph = self._old_model = None
        if warm_start.vectors is None:
            self._path = checkpoints.choose_checkpoint(warm_start.checkpoint)
            self._old_graph = read_graph(warm_start.graph)
            self._old_model = load_model(self._path, embedder, self._old_graph)
        for name in graph.types:
            ids = read_entities(graph, name).ids
            old = self._read(name)
            places = np.full(len(ids), -1)
            vectors = np.full((len(ids), self._dim), np.nan, np.float32)
            if old is not None:
                places = _places(ids, old[0], name)
                known = places >= 0
                vectors[known] = old[1](places[known])
            self._places[name], self.vectors[name] = places, vectors
        if not any((places >= 0).any() for places in self._places.values()):
            where = warm_start.vectors or warm_start.graph
            raise UserError(f"WarmStart: no entity of {graph.folder} is in {where}.")

    def shares(self) -> dict[str, float]:
        """Type -> share of its rows that have an old vector."""
        return {
            name: float((places >= 0).mean()) for name, places in self._places.items()
        }

    def give(self, model: GraphEmbeddings, groups: Groups, edges: Edges) -> None:
        """Gives a new model its start.

        Args:
            model: the model.
            groups: its optimizers, see `GraphEmbeddings.parameter_groups`.
            edges: that it is going to be trained on.
        """
        if self._old_model is not None:
            self._give_relations(model)
        starts = {}
        for name, old in self.vectors.items():
            start = tf.cast(model.tables[name], tf.float32).numpy()
            known = self._places[name] >= 0
            start[known] = old[known]
            starts[name] = start
        if self._warm_start.new_rows == "neighbours":
            self._start_near_neighbours(model, starts, edges)
        for name, start in starts.items():
            model.tables[name].assign(tf.cast(start, model.tables[name].dtype))
            group = groups.get(f"table/{name}")
            if self._old_model is not None and group is not None:
                self._give_state(name, *group)

    def _read(self, name: str):
        """(entities, places -> vectors) of the old type; None if there is none."""
        if self._old_model is not None:
            if name not in self._old_graph.types:
                return None
            table = self._old_model.tables[name]
            ids = read_entities(self._old_graph, name).ids
            return ids, lambda at: tf.cast(tf.gather(table, at), tf.float32).numpy()
        path = posixpath.join(self._warm_start.vectors, f"{file_stem(name)}.parquet")
        if not tf.io.gfile.exists(path):
            return None
        file = open_table(path)
        file.require(("entity", "vector"))
        table = file.read()
        vectors = table["vector"].combine_chunks()
        flat = vectors.flatten().to_numpy(zero_copy_only=False).astype(np.float32)
        if len(flat) != len(vectors) * self._dim:
            raise UserError(
                f"{path} must hold vectors of {self._dim} numbers, as "
                f"twhin.embedder.dim says. Received: {len(flat) / len(vectors):g}"
            )
        flat = flat.reshape(-1, self._dim)
        return table["entity"].combine_chunks(), lambda at: flat[at]

    def _give_relations(self, model: GraphEmbeddings) -> None:
        number = {r.name: i for i, r in enumerate(self._old_graph.relations)}
        old = [number.get(r.name, -1) for r in self._graph.relations]
        new = np.flatnonzero(np.array(old) >= 0)
        pairs = zip(
            model.operators.weights, self._old_model.operators.weights, strict=True
        )
        for weight, before in pairs:
            values = weight.numpy()
            values[new] = before.numpy()[np.array(old)[new]]
            weight.assign(values)

    def _give_state(
        self, name: str, optimizer: Optimizer, weights: list[tf.Variable]
    ) -> None:
        """What the old optimizer knew of old rows, if it kept the same of them."""
        reader = tf.train.load_checkpoint(posixpath.join(self._path, "state"))
        keys = reader.get_variable_to_shape_map()
        places = self._places[name]
        known = np.flatnonzero(places >= 0)
        for slot_name in optimizer.slot_starts() if len(known) else ():
            pattern = rf"model/.*/{re.escape(name)}/\.OPTIMIZER_SLOT/.*/{slot_name}/"
            matches = [key for key in keys if re.match(pattern, key)]
            slot = optimizer.get_slot(weights[0], slot_name)
            if len(matches) != 1 or keys[matches[0]][1:] != slot.shape[1:].as_list():
                continue
            values = slot.numpy()
            values[known] = reader.get_tensor(matches[0])[places[known]]
            slot.assign(values)

    def _start_near_neighbours(
        self, model: GraphEmbeddings, starts: dict[str, np.ndarray], edges: Edges
    ) -> None:
        """Sums up, over a new node's edges to old ones, what raises their scores."""
        sums = {name: np.zeros_like(start) for name, start in starts.items()}
        graph, places = self._graph, self._places
        for part in read_split(graph, edges.split, edges.limit, edges.offset):
            for number in np.unique(part[:, 1]):
                of_relation = part[part[:, 1] == number]
                ends = graph.relations[number].lhs, graph.relations[number].rhs
                old = [
                    places[t][of_relation[:, c]] >= 0
                    for t, c in zip(ends, (0, 2), strict=True)
                ]
                towards = of_relation[old[0] & ~old[1]]
                vectors = model.transform(int(number), starts[ends[0]][towards[:, 0]])
                np.add.at(sums[ends[1]], towards[:, 2], vectors.numpy())
                back = of_relation[~old[0] & old[1]]
                turned, _ = model.operators.adjoint(
                    tf.constant(starts[ends[1]][back[:, 2]]), tf.constant(back[:, 1])
                )
                np.add.at(sums[ends[0]], back[:, 0], turned.numpy())
        for name, start in starts.items():
            lengths = np.linalg.norm(sums[name], axis=1, keepdims=True)
            new = np.flatnonzero((places[name] < 0) & (lengths[:, 0] > 0))
            known = start[places[name] >= 0]
            if len(known):
                typical = np.linalg.norm(known, axis=1).mean()
                start[new] = sums[name][new] / lengths[new] * typical


def _places(ids: pa.Array, old: pa.Array, name: str) -> np.ndarray:
    """(n,) places of `ids` among `old`, -1 for those that are not there."""
    if pa.types.is_integer(ids.type) != pa.types.is_integer(old.type):
        raise UserError(
            f"WarmStart: the entities of type {name!r} must be {ids.type} as in the "
            f"new graph. Received: {old.type}"
        )
    places = pc.index_in(ids, value_set=old.cast(ids.type))
    return pc.fill_null(places, -1).to_numpy(zero_copy_only=False)
