"""Checkpoints of a run with partitions, and tables read from them row by row.

CHECKPOINT/partitions.json    which version of which file each partition is
CHECKPOINT/state.*            relations, tables of whole types, step
"""

import dataclasses
import json
import os
import posixpath
from typing import Any

import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.training import checkpoints
from twhin_tf.graph.graph import Graph, NodeType
from twhin_tf.model.graph_embeddings import GraphEmbeddings
from twhin_tf.partitions.disk_tables import PartitionedTable
from twhin_tf.partitions.partition_files import PartitionFiles, RowFormat, Versions
from twhin_tf.partitions.partition_layout import Layout
from twhin_tf.settings import Embedder
from twhin_tf.training.building import create_graph_embeddings

PARTITIONS = "partitions.json"
_OWNER = "save_dir.txt"


class Resident(tf.Module):
    """What a checkpoint holds of a model beside the partitions.

    Args:
        model: whose tables are parted.
        layout: says which tables of it are not.
    """

    def __init__(self, model: GraphEmbeddings, layout: Layout):
        super().__init__(name="resident")
        self.operators = model.operators
        self.tables = {name: model.tables[name] for name in sorted(layout.whole)}


@dataclasses.dataclass(frozen=True)
class PartitionsState:
    """What partitions.json says.

    Args:
        folder: of the partitions' files, from the checkpoint's folder.
        count, buffer, whole: of the `Layout`.
        seed: of what rows start as.
        formats: type -> what its rows are.
        versions: type -> version of each partition.
        position: what comes next.
    """

    folder: str
    count: int
    buffer: int
    whole: list[str]
    seed: int
    formats: dict[str, dict[str, Any]]
    versions: Versions
    position: dict[str, Any]

    def text(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)

    def check_goes_on(self, path: str, other: "PartitionsState") -> None:
        """Raises UserError if a run with the settings of `other` cannot go on here."""
        for name in ("count", "buffer", "whole", "seed", "formats"):
            there, here = getattr(self, name), getattr(other, name)
            if there != here:
                what = {"seed": "twhin.train.seed", "formats": "The tables' settings"}
                raise UserError(
                    f"{what.get(name, f'Partitions.{name}')} must be {there}, as in "
                    f"the checkpoint {path}. Received: {here}"
                )


def read_partitions_state(path: str) -> PartitionsState | None:
    """The state of the partitions of the checkpoint in folder `path`.

    Returns:
        None if the checkpoint holds its tables itself.
    """
    file = posixpath.join(path, PARTITIONS)
    if not tf.io.gfile.exists(file):
        return None
    with tf.io.gfile.GFile(file) as opened:
        return PartitionsState(**json.load(opened))


def claim(folder: str, save_dir: str) -> None:
    """Notes whose partitions are in `folder`: a run deletes those it does not know.

    Raises:
        UserError: they are those of checkpoints of another run.
    """
    owner = save_dir if "://" in save_dir else os.path.abspath(save_dir)
    path = posixpath.join(folder, _OWNER)
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path) as file:
            before = file.read()
        if before != owner and checkpoints.list_checkpoints(before):
            raise UserError(
                f"Partitions.folder must be another than that of the run {before}. "
                f"Received: {folder!r}"
            )
    files.write_text(path, owner)


def load_partitioned(
    path: str, state: PartitionsState, embedder: Embedder, graph: Graph
) -> GraphEmbeddings:
    """The model of a checkpoint; tables that are parted stay on disk.

    Raises:
        UserError: the checkpoint is of another graph or model.
    """
    layout = Layout(graph, state.count, state.buffer, frozenset(state.whole))
    formats = {name: RowFormat(**row) for name, row in state.formats.items()}
    for name in layout.parted:
        versions = state.versions.get(name, [])
        if len(versions) != state.count or formats[name].dim != embedder.dim:
            raise UserError(
                f"The checkpoint {path} is of another graph or twhin.embedder.dim."
            )
    # To build the model; its tables come from disk.
    types = {
        name: node_type if name in layout.whole else NodeType(name=name, rows=1)
        for name, node_type in graph.types.items()
    }
    model = create_graph_embeddings(embedder, dataclasses.replace(graph, types=types))
    checkpoints.restore_model(path, Resident(model, layout))
    folder = posixpath.normpath(posixpath.join(path, state.folder))
    parts = PartitionFiles(folder, layout, formats, state.seed)
    parts.go_on_from(state.versions)
    for name in layout.parted:
        parts.check_complete(name)
        model.node_tables.variables_of[name] = PartitionedTable(name, parts)
    return model
