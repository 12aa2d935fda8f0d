"""What commands on trained vectors have in common: finding and loading them."""

import argparse

from recap_tf.core import checkpoints, config
from twhin_tf import settings
from twhin_tf.building import create_graph_embeddings
from twhin_tf.graph import Graph, read_graph
from twhin_tf.model import GraphEmbeddings
from twhin_tf.partitioned_checkpoints import load_partitioned, read_partitions_state
from twhin_tf.settings import Embedder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds --config, --set and --checkpoint."""
    config.add_arguments(parser)
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="a checkpoint's folder, or a save_dir for its newest",
    )


def load_trained(
    arguments: argparse.Namespace,
) -> tuple[Embedder, Graph, GraphEmbeddings, str]:
    """The settings, the graph, its trained model, and the checkpoint's folder.

    Args:
        arguments: of `add_arguments`.
    """
    config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    embedder = settings.Embedder()
    graph = read_graph(embedder.graph)
    path = checkpoints.choose_checkpoint(arguments.checkpoint)
    return embedder, graph, load_model(path, embedder, graph), path


def load_model(path: str, embedder: Embedder, graph: Graph) -> GraphEmbeddings:
    """The model of the checkpoint in folder `path`.

    Raises:
        UserError: the checkpoint is of another graph or model.
    """
    state = read_partitions_state(path)
    if state is not None:
        return load_partitioned(path, state, embedder, graph)
    model = create_graph_embeddings(embedder, graph)
    checkpoints.restore_model(path, model)
    return model
