"""Training edges sorted by the pair of partitions they are of, read piece by piece.

FOLDER/edges.bin     (lhs, rel, rhs) int32, pair after pair, each in random order
FOLDER/edges.json    where each pair begins and ends
"""

import json
import pathlib
import shutil
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from recap_tf.core import files
from twhin_tf.graph.edge_batches import Edges
from twhin_tf.graph.packed_edges import BLOCK_BYTES, pack_edges
from twhin_tf.partitions.partition_layout import Layout
from twhin_tf.partitions.partition_order import Visit

_PIECE = 1 << 20
_BLOCKS_AT_ONCE = 256
_EDGE_BYTES = 12


class PartitionedEdges:
    """The training edges of each pair of partitions.

    Args:
        folder: where they are sorted to, unless the same are there; on this machine.
        edges: which edges of the layout's graph, and whether they are shuffled.
        layout: of the tables.
        seed: of the order in which they are read.
    """

    def __init__(self, folder: str, edges: Edges, layout: Layout, seed: int):
        self._layout, self._seed, self._shuffle = layout, seed, edges.shuffle
        inverses = layout.graph.inverses if edges.inverse else []
        self._inverses = np.array(
            [-1 if number is None else number for number in inverses] or [-1], np.int32
        )
        self._has_inverses = bool((self._inverses >= 0).any())
        paths, _ = pack_edges(
            layout.graph, edges.split, edges.limit, edges.offset, edges.cache_folder
        )
        key = f"{pathlib.PurePosixPath(paths[0]).parent.name}-{layout.count}"
        if layout.whole:
            key += "-" + "-".join(sorted(layout.whole)).encode().hex()
        path = pathlib.Path(folder) / f"edges-{key}"
        if not path.exists():
            # What was killed while it sorted. Nobody else writes to this folder.
            for unfinished in pathlib.Path(folder).glob(".partial-*-edges-*"):
                shutil.rmtree(unfinished)
            with files.new_folder(str(path)) as aside:
                _sort(paths, layout, pathlib.Path(aside))
        self._path = path / "edges.bin"
        self._starts = np.array(json.loads((path / "edges.json").read_text()))

    def count(self, visit: Visit) -> int:
        """Counts the edges of a visit, in all chunks, turned ones left out."""
        ranges = [self._range(pair, 0, 1) for pair in visit.pairs]
        return sum(stop - start for start, stop in ranges)

    def piece_count(self, visit: Visit, chunks: int) -> int:
        """The number of pieces, of about a million edges, of a visit to one chunk."""
        count = self.count(visit) // chunks * (2 if self._has_inverses else 1)
        return max(-(-count // _PIECE), 1)

    def piece(
        self, visit: Visit, number: int, chunk: int, chunks: int, turn: int
    ) -> np.ndarray:
        """Reads a piece of a visit's edges, (n, 3) int32, mixed, turned ones as well.

        Args:
            visit: whose pairs are read.
            number: of the piece, below `piece_count`.
            chunk, chunks: a share of the edges of each pair: chunk 0 to chunks - 1.
            turn: of the visits; the order is another one in each.
        """
        pieces = self.piece_count(visit, chunks)
        share = chunk * pieces + number
        edges = np.concatenate(
            [self._read(pair, share, chunks * pieces) for pair in visit.pairs]
        )
        if self._has_inverses:
            edges = self._with_inverses(edges)
        if self._shuffle:
            seed = [self._seed, turn, number, *visit.held]
            edges = edges[np.random.default_rng(seed).permutation(len(edges))]
        return edges

    def _range(self, pair: Sequence[int], share: int, shares: int) -> tuple[int, int]:
        number = _number(np.array([pair]), self._layout.count)[0]
        start, stop = self._starts[number : number + 2].tolist()
        size = stop - start
        return start + size * share // shares, start + size * (share + 1) // shares

    def _read(self, pair: Sequence[int], share: int, shares: int) -> np.ndarray:
        start, stop = self._range(pair, share, shares)
        numbers = np.fromfile(
            self._path, "<i4", 3 * (stop - start), offset=start * _EDGE_BYTES
        )
        return numbers.reshape(-1, 3)

    def _with_inverses(self, edges: np.ndarray) -> np.ndarray:
        inverse = self._inverses[edges[:, 1]]
        turned = np.stack([edges[:, 2], inverse, edges[:, 0]], axis=1)
        return np.concatenate([edges, turned[inverse >= 0]])


class PieceBatches:
    """Batches of edges that are in memory; an iterator for a training step.

    Args:
        batch_size: edges per batch, all of them full.

    Attributes:
        count: batches of the edges that are loaded.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        with tf.device("CPU:0"):
            self._edges = tf.Variable(
                np.zeros((0, 3), np.int32), shape=[None, 3], trainable=False
            )
            self._done = tf.Variable(0, trainable=False)
        self.count = 0

    def load(self, edges: np.ndarray, done: int) -> None:
        """Takes (n, 3) edges, of which `done` batches have been read.

        Some edges come twice where the last batch would not be full.
        """
        self.count = -(-len(edges) // self._batch_size)
        edges = edges[np.arange(self.count * self._batch_size) % max(len(edges), 1)]
        self._edges.assign(edges)
        self._done.assign(done)

    @property
    def done(self) -> int:
        """The number of batches read of the edges that are loaded."""
        return int(self._done.numpy())

    def get_next(self) -> tf.Tensor:
        """Reads the next batch, (batch_size, 3)."""
        first = self._done * self._batch_size
        self._done.assign_add(1)
        return tf.gather(self._edges, first + tf.range(self._batch_size))


def _sort(paths: Sequence[str], layout: Layout, folder: pathlib.Path) -> None:
    pairs = layout.count * layout.count
    counts = np.zeros(pairs, np.int64)
    for edges in _blocks(paths):
        numbers = _number(layout.pairs(edges), layout.count)
        counts += np.bincount(numbers, minlength=pairs)
    starts = np.concatenate([[0], np.cumsum(counts)])
    ends = starts[:-1].copy()
    with open(folder / "edges.bin", "wb") as file:
        file.truncate(int(starts[-1]) * _EDGE_BYTES)
        # What is written here stays in the order of the packed edges, a random one.
        for edges in _blocks(paths):
            numbers = _number(layout.pairs(edges), layout.count)
            order = np.argsort(numbers, kind="stable")
            edges, sizes = edges[order], np.bincount(numbers, minlength=pairs)
            cuts = np.cumsum(sizes)[:-1]
            for number, part in enumerate(np.split(edges, cuts)):
                if len(part):
                    file.seek(int(ends[number]) * _EDGE_BYTES)
                    file.write(np.ascontiguousarray(part, "<i4").tobytes())
            ends += sizes
    (folder / "edges.json").write_text(json.dumps(starts.tolist()))


def _blocks(paths: Sequence[str]) -> Iterator[np.ndarray]:
    """Yields the packed edges, (n, 3) int32, a million at once."""
    for path in paths:
        with tf.io.gfile.GFile(path, "rb") as file:
            while data := file.read(_BLOCKS_AT_ONCE * BLOCK_BYTES):
                edges = np.frombuffer(data, "<i4").reshape(-1, 3)
                yield edges[edges[:, 0] >= 0]


def _number(pairs: np.ndarray, count: int) -> np.ndarray:
    return pairs[:, 0].astype(np.int64) * count + pairs[:, 1]
