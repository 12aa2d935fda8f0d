"""graph.gin: the config that trains on a graph folder."""

import posixpath

from recap_tf.core import files
from twhin_tf.graph import Graph

CONFIG = "graph.gin"


def write_config(graph: Graph) -> None:
    """Writes DIR/graph.gin."""
    lines = [
        "# Written by twhin_tf.vocabulary. {here} is the folder of this file.",
        'include "twhin_tf/graph.gin"',
        "",
        'twhin.embedder.graph = "{here}"',
        'twhin.train.save_dir = "{here}/run"',
        "",
    ]
    files.write_text(posixpath.join(graph.folder, CONFIG), "\n".join(lines))
