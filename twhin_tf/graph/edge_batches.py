"""Edges of a graph folder -> batches of (lhs row, relation number, rhs row)."""

import dataclasses

import gin
import numpy as np
import tensorflow as tf

from recap_tf.core.checks import check_range
from recap_tf.core.training.shard import WHOLE, Shard
from twhin_tf.graph.edge_files import read_split
from twhin_tf.graph.graph import Graph
from twhin_tf.graph.packed_edges import BLOCK_BYTES, pack_edges

# So many blocks are permuted together: large enough to mix, small enough for a cache.
_BLOCKS_PER_GROUP = 16
_FILES_AT_ONCE = 8


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Edges:
    """The edges of a graph that are read, and the way they are read.

    >>> from twhin_tf.graph.edge_batches import Edges
    >>> Edges(split="test", limit=1000).inverse
    True

    Args:
        split: name of the folder they are in: "train", "validation", "test".
        limit: read no more than so many edges, at least 1; None reads all.
        offset: leave out the first so many edges.
        inverse: in training, read every edge of a relation that has an inverse also
            as an edge of that inverse, turned around.
        shuffle: in training, another order in every epoch.
        shuffle_blocks: blocks of 4096 edges (48 kB each) among which the next are
            drawn, at least 1.
        cache_folder: where the edges are packed for reading; None for a folder
            ".packed" beside them.
        prefetch: batches made ahead; -1 lets tf.data choose.
        data_service: address of a tf.data service that reads for the trainer.
    """

    split: str = "train"
    limit: int | None = None
    offset: int = 0
    inverse: bool = True
    shuffle: bool = True
    shuffle_blocks: int = 128
    cache_folder: str | None = None
    prefetch: int = 8
    data_service: str | None = None

    def __post_init__(self):
        check_range("Edges.limit", self.limit, at_least=1, none="all edges")
        check_range("Edges.offset", self.offset, at_least=0)
        check_range("Edges.shuffle_blocks", self.shuffle_blocks, at_least=1)
        check_range("Edges.prefetch", self.prefetch, at_least=-1)


def read_edges(edges: Edges, graph: Graph) -> np.ndarray:
    """Reads all of the edges at once, (n, 3) int32, in the order of their files.

    Raises:
        UserError: the files are unfit.
    """
    parts = list(read_split(graph, edges.split, edges.limit, edges.offset))
    return np.concatenate(parts) if parts else np.zeros((0, 3), np.int32)


def edges_per_epoch(edges: Edges, graph: Graph) -> int:
    """Counts the edges that one pass of training reads, turned ones included."""
    paths, count = _packed(edges, graph)
    inverses = _inverse_numbers(edges, graph)
    if (inverses < 0).all():
        return count
    if (inverses[graph.stored] >= 0).all():
        return 2 * count
    turned = 0
    for path in paths:
        with tf.io.gfile.GFile(path, "rb") as file:
            relations = np.frombuffer(file.read(), "<i4").reshape(-1, 3)[:, 1]
        turned += int((inverses[relations[relations >= 0]] >= 0).sum())
    return count + turned


def read_edge_batches(
    edges: Edges,
    graph: Graph,
    batch_size: int,
    *,
    training: bool = True,
    seed: int = 0,
    shard: Shard = WHOLE,
) -> tf.data.Dataset:
    """Reads edges as int32 (batch, 3) tensors: lhs row, relation number, rhs row.

    In training there is no end: every edge comes exactly once per epoch, each epoch in
    another order; a batch may begin in one epoch and end in the next, so that all are
    full. Otherwise every edge comes exactly once, none turned around, and the last
    batch may be short.

    The iterator can be saved and goes on where it was. No Python runs, so that a
    tf.data service can do the reading; its workers share out the files of each epoch,
    and one may be an epoch ahead of another. There the position cannot be saved.

    >>> import tempfile
    >>> from twhin_tf.graph.edge_files import write_edges
    >>> from twhin_tf.graph.graph import NodeType, Relation
    >>> users = {"user": NodeType(name="user", rows=4)}
    >>> follow = Relation(name="follow", lhs="user", rhs="user")
    >>> folder, splits = tempfile.mkdtemp(), {"train": 3}
    >>> graph = Graph(folder=folder, types=users, relations=[follow], splits=splits)
    >>> write_edges(graph, "train", 0, np.array([[0, 0, 1], [2, 0, 3], [3, 0, 0]]))
    >>> batches = read_edge_batches(Edges(), graph, batch_size=2, training=False)
    >>> [batch.shape for batch in batches]
    [TensorShape([2, 3]), TensorShape([1, 3])]

    Args:
        edges: which edges, and how.
        graph: the graph they are of.
        batch_size: edges per batch of this pipeline, at least 1.
        training: see above.
        seed: of the orders; the same seed gives the same batches.
        shard: the pipelines of a `shard.count` read different edges; all of them need
            the same seed.

    Raises:
        UserError: the files are unfit.
        ValueError: there are fewer edges than pipelines.
    """
    paths, count = _packed(edges, graph)
    if isinstance(shard.count, int) and count < shard.count:
        raise ValueError(
            f"{count} edges cannot be shared out to {shard.count} input pipelines."
        )
    shuffle = training and edges.shuffle
    blocks = _blocks(paths, edges, shuffle, seed)
    inverses = _inverse_numbers(edges, graph) if training else None

    def unpacked(number, group):
        group = _decoded(group)[shard.index :: shard.count]
        group = tf.ensure_shape(group, [None, 3])  # Lost if the shard is of tensors.
        if inverses is not None and (inverses >= 0).any():
            group = _with_inverses(group, inverses)
        if shuffle:
            seeds = tf.stack([tf.constant(seed, tf.int64), number])
            group = tf.random.experimental.stateless_shuffle(group, seeds)
        return group

    groups = blocks.batch(_BLOCKS_PER_GROUP)
    if training:
        groups = groups.repeat()
    dataset = (
        groups.scan(tf.constant(0, tf.int64), lambda i, group: (i + 1, (i, group)))
        .map(unpacked, num_parallel_calls=2, deterministic=True)
        .rebatch(batch_size, drop_remainder=training)
    )
    if edges.data_service is not None:
        dataset = dataset.apply(
            tf.data.experimental.service.distribute(
                tf.data.experimental.service.ShardingPolicy.DYNAMIC,
                service=edges.data_service,
            )
        )
    options = tf.data.Options()
    options.deterministic = True
    return dataset.prefetch(edges.prefetch).with_options(options)


def _packed(edges: Edges, graph: Graph) -> tuple[list[str], int]:
    return pack_edges(graph, edges.split, edges.limit, edges.offset, edges.cache_folder)


def _blocks(
    paths: list[str], edges: Edges, shuffle: bool, seed: int
) -> tf.data.Dataset:
    """Reads the packed files' blocks, as scalar strings of bytes."""
    files = tf.data.Dataset.from_tensor_slices(paths)
    at_once = 1
    # A service's dispatcher hands files out one by one; a worker that shuffled them
    # would first ask for all.
    if shuffle and edges.data_service is None:
        files = files.shuffle(len(paths), seed=seed)
        at_once = min(_FILES_AT_ONCE, len(paths))
    blocks = files.interleave(
        lambda path: tf.data.FixedLengthRecordDataset(path, BLOCK_BYTES),
        cycle_length=at_once,
    )
    return blocks.shuffle(edges.shuffle_blocks, seed=seed) if shuffle else blocks


def _decoded(group: tf.Tensor) -> tf.Tensor:
    """Decodes (blocks,) bytes to (edges, 3), without what fills the last block up."""
    numbers = tf.io.decode_raw(group, tf.int32)
    edges = tf.reshape(numbers, [-1, 3])
    return tf.cond(
        tf.reduce_any(numbers[:, -1] < 0),
        lambda: tf.boolean_mask(edges, edges[:, 0] >= 0),
        lambda: edges,
    )


def _with_inverses(edges: tf.Tensor, inverses: np.ndarray) -> tf.Tensor:
    """Appends to `edges` those that have an inverse relation, turned around."""
    lhs, rel, rhs = tf.unstack(edges, axis=1)
    rel = tf.gather(tf.constant(inverses), rel)
    turned = tf.stack([rhs, rel, lhs], axis=1)
    return tf.concat([edges, tf.boolean_mask(turned, rel >= 0)], axis=0)


def _inverse_numbers(edges: Edges, graph: Graph) -> np.ndarray:
    """Returns (relations,) int32: each stored relation's inverse; -1 if not wanted."""
    numbers = [-1 if number is None else number for number in graph.inverses]
    wanted = np.array(graph.stored) & edges.inverse
    return np.where(wanted, numbers, -1).astype(np.int32)
