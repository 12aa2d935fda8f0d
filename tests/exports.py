"""A graph with vocabularies, a model of it, and its export."""

import numpy as np
import pyarrow as pa
import tensorflow as tf

from twhin_tf.exporting.export_folder import VectorExportSettings, export_vectors
from twhin_tf.graph.entities import (
    Entities,
    vocabulary_path,
    write_entities,
)
from twhin_tf.graph.graph import Graph, NodeType, Relation, with_inverses
from twhin_tf.settings import Embedder
from twhin_tf.training.building import create_graph_embeddings

USERS, TAGS, DIM = 30, 12, 8


def make_graph(folder):
    """Makes users with text ids and communities, tags with numbers from 100 on."""
    (folder / "vocabulary").mkdir(parents=True)
    names = [f"user\t{number}" for number in range(USERS)]
    users = Entities(
        ids=pa.array(names, pa.large_string()),
        counts=np.arange(USERS)[::-1],
        communities=np.arange(USERS) % 3,
    )
    tags = Entities(ids=pa.array(np.arange(100, 100 + TAGS)))
    types = {}
    for name, entities in (("user", users), ("tag", tags)):
        path = vocabulary_path(str(folder), name)
        write_entities(path, entities)
        rows = len(entities.ids)
        types[name] = NodeType(name=name, rows=rows, vocabulary=path)
    relations = [
        Relation(name="follow", lhs="user", rhs="user"),
        Relation(name="use", lhs="user", rhs="tag"),
        Relation(name="like", lhs="user", rhs="tag"),
    ]
    return Graph(
        folder=str(folder),
        types=types,
        relations=with_inverses(relations),
        splits={},
    )


def model_of(graph, **settings):
    """Makes random vectors and translations, so that every relation matters."""
    tf.keras.utils.set_random_seed(0)
    embedder = Embedder(graph=graph.folder, dim=DIM, **settings)
    model = create_graph_embeddings(embedder, graph)
    for weight in [*model.tables.values(), *model.operators.weights]:
        weight.assign(tf.random.normal(weight.shape))
    return model


def export(model, graph, folder, **settings):
    lines = []
    settings = VectorExportSettings(**({"plot_method": "pca"} | settings))
    export_vectors(model, graph, str(folder), settings, 7, lines.append)
    return lines
