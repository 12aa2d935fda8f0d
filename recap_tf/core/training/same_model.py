"""Refuses to restore a checkpoint of another architecture or of other vocabularies."""

import collections
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.embeddings.vocabulary import VocabularyRows
from recap_tf.core.storage.sharded_tables import ShardedVariable


def weight_shapes(root: Any) -> dict[str, list[int]]:
    """Path within `root` -> shape, of all variables that a checkpoint of it holds."""
    return {
        path: node.shape.as_list()
        for path, node in _nodes(root)
        if isinstance(node, (tf.Variable, ShardedVariable))
    }


def vocabularies(root: Any) -> dict[str, VocabularyRows]:
    """Table -> its vocabulary, of all tables below `root` that have one."""
    nodes = [node for _, node in _nodes(root)]
    return {node.table: node for node in nodes if isinstance(node, VocabularyRows)}


def _nodes(root: Any) -> Iterator[tuple[str, Any]]:
    """(path, object) of all that a checkpoint of `root` holds, each object once."""
    view = tf.train.TrackableView(root)
    seen = set()
    queue = collections.deque([("", root)])
    while queue:
        path, node = queue.popleft()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield path, node
        for name, child in view.children(node).items():
            queue.append((f"{path}/{name}" if path else name, child))


def check_same_model(path: str, stored: Mapping[str, Any], model: tf.Module) -> None:
    """Raises UserError if the checkpoint in folder `path` is not of this model.

    Args:
        path: the checkpoint's folder, for the message.
        stored: its `checkpoint.json`.
        model: whose weights are to be restored.
    """
    check_same_weights(path, stored["model"], weight_shapes(model))
    # Older checkpoints say nothing of vocabularies.
    fingerprints = stored.get("vocabularies", {})
    for table, vocabulary in vocabularies(model).items():
        present = vocabulary.fingerprint
        if fingerprints.get(table, present) != present:
            raise UserError(
                f"The checkpoint {path} was trained with another vocabulary of table "
                f"{table!r}: with {vocabulary.path} as it is now, ids would get the "
                "rows of others. Bring the file back, or train anew."
            )


def check_same_weights(
    path: str, there: Mapping[str, list[int]], here: Mapping[str, list[int]]
) -> None:
    """Raises UserError naming what differs between a checkpoint and the model.

    Args:
        path: the checkpoint's folder.
        there: weight -> shape in the checkpoint.
        here: weight -> shape in the model.
    """
    different = [
        f"{name} is {there[name]} there and {here[name]} here"
        for name in here
        if name in there and there[name] != here[name]
    ]
    different += [f"{name} is only there" for name in there if name not in here]
    different += [f"{name} is only here" for name in here if name not in there]
    if different:
        shown = "; ".join(different[:3])
        more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(
            f"The checkpoint {path} is of another architecture: {shown}{more}."
        )
