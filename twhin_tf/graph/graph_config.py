"""graph.gin: the config that trains on a graph folder."""

import posixpath

from recap_tf.core import files
from twhin_tf.graph.graph import Graph

CONFIG = "graph.gin"
_PASSES = 5
_FEWEST_STEPS = 500
# twhin.train.batch_size in twhin_tf/graph.gin.
_BATCH_SIZE = 1000


def write_config(graph: Graph) -> None:
    """Writes DIR/graph.gin, which trains for five passes or at least 500 steps."""
    inverses = [number is not None for number in graph.inverses]
    edges = graph.splits["train"] * (2 if any(inverses) else 1)
    steps = max(-(-_PASSES * edges // _BATCH_SIZE), _FEWEST_STEPS)
    lines = [
        "# Written with the edges. {here} is the folder of this file.",
        'include "twhin_tf/graph.gin"',
        "",
        'twhin.embedder.graph = "{here}"',
        'twhin.train.save_dir = "{here}/run"',
        f"twhin.train.steps = {steps}",
    ]
    if not any(inverses):
        # Nothing turns edges around, so both ends need negatives.
        lines.append('GlobalNegatives.sides = "both"')
    lines.append("")
    files.write_text(posixpath.join(graph.folder, CONFIG), "\n".join(lines))
