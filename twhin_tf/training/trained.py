"""What commands on trained vectors have in common: finding and loading them."""

import argparse

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_config
from recap_tf.core.training import checkpoints
from twhin_tf import settings
from twhin_tf.graph.graph import Graph, read_graph
from twhin_tf.model.graph_embeddings import GraphEmbeddings
from twhin_tf.settings import Embedder
from twhin_tf.training.building import create_graph_embeddings
from twhin_tf.training.partitioned_checkpoints import (
    load_partitioned,
    read_partitions_state,
)

GRAPH = "graph"
"""In checkpoint.json: the fingerprint of the graph that was trained on."""


def load_trained(
    arguments: argparse.Namespace,
) -> tuple[Embedder, Graph, GraphEmbeddings, str]:
    """The settings, the graph, its trained model, and the checkpoint's folder.

    Args:
        arguments: parsed, of `add_arguments`.
    """
    gin_config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    embedder = settings.Embedder()
    graph = read_graph(embedder.graph)
    path = checkpoints.choose_checkpoint(arguments.checkpoint)
    return embedder, graph, load_model(path, embedder, graph), path


def load_model(path: str, embedder: Embedder, graph: Graph) -> GraphEmbeddings:
    """The model of the checkpoint in folder `path`.

    Raises:
        UserError: the checkpoint is of another graph or model.
    """
    check_graph(path, graph)
    state = read_partitions_state(path)
    if state is not None:
        return load_partitioned(path, state, embedder, graph)
    model = create_graph_embeddings(embedder, graph)
    checkpoints.restore_model(path, model)
    return model


def check_graph(path: str, graph: Graph) -> None:
    """Makes sure that the rows of a checkpoint are those of `graph`.

    Args:
        path: the checkpoint's folder; older ones do not know their graph.
        graph: in which other rows may be of other entities.

    Raises:
        UserError: it was trained on a graph of other entities or relations.
    """
    known = checkpoints.read_metadata(path).get(GRAPH, graph.fingerprint)
    if known != graph.fingerprint:
        raise UserError(
            f"The checkpoint {path} does not belong to the vocabularies of "
            f"{graph.folder}: its graph has the fingerprint {known}. Received: "
            f"{graph.fingerprint}"
        )
