"""From settings to a model that is not trained yet, and to what it is trained for."""

import functools

import numpy as np

from twhin_tf.graph.edge_batches import Edges
from twhin_tf.graph.edge_files import read_split
from twhin_tf.graph.graph import Graph
from twhin_tf.model.graph_embeddings import EdgeObjective, GraphEmbeddings
from twhin_tf.model.node_tables import NodeTables
from twhin_tf.model.operators import RelationOperators
from twhin_tf.model.warm_start import Drift
from twhin_tf.settings import Embedder


def create_graph_embeddings(
    embedder: Embedder, graph: Graph, node_tables: NodeTables | None = None
) -> GraphEmbeddings:
    """The model with its first weights.

    Args:
        embedder: the settings.
        graph: that it is of.
        node_tables: those of another model, to share; None makes new ones.
    """
    if node_tables is None:
        node_tables = NodeTables(graph, embedder.dim, embedder.table, embedder.tables)
    names = [relation.name for relation in graph.relations]
    return GraphEmbeddings(
        node_tables,
        RelationOperators(names, embedder.operator, embedder.operators),
        embedder.comparator,
        functools.partial(
            embedder.relation_optimizer, learning_rate=embedder.relation_learning_rate
        ),
        embedder.dropout,
    )


def create_objective(
    embedder: Embedder,
    graph: Graph,
    model: GraphEmbeddings,
    edges: Edges,
    drift: Drift | None = None,
) -> EdgeObjective:
    """What `model` is trained for.

    Args:
        embedder: the settings.
        graph: that the model is of.
        model: to train.
        edges: that it is trained on; they are counted by node if a sampler goes by
            that.
        drift: keeps vectors near old ones.
    """
    degrees = {}
    if any(negatives.needs_degrees for negatives in embedder.negatives):
        degrees = count_degrees(graph, edges, model.node_tables)
    return EdgeObjective(
        model,
        [
            negatives.prepare(model.node_tables, degrees)
            for negatives in embedder.negatives
        ],
        embedder.loss,
        embedder.mask_known,
        relation_weights(embedder, graph),
        embedder.penalty,
        drift,
    )


def relation_weights(embedder: Embedder, graph: Graph) -> np.ndarray | None:
    """(relations,): what the edges of each count for in the loss; None for 1."""
    weights = embedder.relation_weights
    names = [relation.name for relation in graph.relations]
    unknown = [name for name in weights if name not in names]
    if unknown:
        raise ValueError(
            f"twhin.embedder.relation_weights names {unknown[0]!r}, which is no "
            f"relation of the graph. Received: {sorted(weights)}"
        )
    if not weights:
        return None
    bases = [relation.inverse_of for relation in graph.relations]
    return np.array(
        [
            weights.get(name, weights.get(base, 1.0))
            for name, base in zip(names, bases, strict=True)
        ],
        np.float32,
    )


def count_degrees(
    graph: Graph, edges: Edges, tables: NodeTables
) -> dict[str, list[np.ndarray]]:
    """How many of `edges` each node has on each side, turned ones among them.

    Returns:
        side -> for each of `tables.type_numbers(side)`, (rows,) int64.
    """
    counts = {
        side: {name: np.zeros(rows, np.int64) for name, rows in graph.rows.items()}
        for side in ("lhs", "rhs")
    }
    other = {"lhs": "rhs", "rhs": "lhs"}
    inverses = graph.inverses
    for part in read_split(graph, edges.split, edges.limit, edges.offset):
        for number in np.unique(part[:, 1]):
            of_relation = part[part[:, 1] == number]
            turned = edges.inverse and inverses[number] is not None
            for side, column in (("lhs", 0), ("rhs", 2)):
                name = getattr(graph.relations[number], side)
                degrees = np.bincount(
                    of_relation[:, column], minlength=graph.rows[name]
                )
                counts[side][name] += degrees
                if turned:
                    counts[other[side]][name] += degrees
    types = list(graph.types)
    return {
        side: [of_type[types[number]] for number in tables.type_numbers(side)]
        for side, of_type in counts.items()
    }
