"""Approximate neighbours in plain TensorFlow: cells, of which a few are searched."""

import dataclasses

import gin
import numpy as np
import tensorflow as tf
from sklearn.cluster import MiniBatchKMeans

from recap_tf.core.checks import check_range
from twhin_tf.exporting.product_quantization import nearest_centroids

_BLOCK = 16_384
_LOWEST = float(np.finfo(np.float32).min)


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class InvertedFile:
    """How vectors are put into cells, and how many cells are searched.

    Args:
        cells: their number, at least 1; None for the square root of that of vectors.
        probes: cells that are searched for a query, at least 1; more find more.
        largest: no cell holds more than so many times the mean, at least 1; larger
            ones are cut.
        sample: the cells' centres are found on so many vectors, at least 1.
        seed: of the sample and the first centres.
    """

    cells: int | None = None
    probes: int = 32
    largest: float = 2.0
    sample: int = 65_536
    seed: int = 0

    def __post_init__(self):
        check_range(
            "InvertedFile.cells",
            self.cells,
            at_least=1,
            none="the square root of the number of vectors",
        )
        check_range("InvertedFile.probes", self.probes, at_least=1)
        check_range("InvertedFile.largest", self.largest, at_least=1)
        check_range("InvertedFile.sample", self.sample, at_least=1)

    def sort(self, vectors: np.ndarray) -> list[np.ndarray]:
        """Puts the rows of (n, dim) vectors into cells, none of them empty."""
        count = len(vectors)
        cells = min(self.cells or max(round(count**0.5), 1), count)
        rng = np.random.default_rng(self.seed)
        sample = vectors[np.sort(rng.permutation(count)[: max(self.sample, cells)])]
        kmeans = MiniBatchKMeans(
            cells, n_init=1, batch_size=4096, random_state=self.seed
        )
        centres = kmeans.fit(sample).cluster_centers_.astype(np.float32)
        cell = np.concatenate(
            [
                nearest_centroids(vectors[start : start + _BLOCK], centres)
                for start in range(0, count, _BLOCK)
            ]
        )
        order = np.argsort(cell, kind="stable")
        most = max(int(self.largest * count / cells), 1)
        by_cell = np.split(order, np.flatnonzero(np.diff(cell[order])) + 1)
        return [part for rows in by_cell for part in _cut(vectors, rows, most)]


class CellIndex(tf.Module):
    """Vectors in cells, searched by dot product.

    The cells that promise most are searched whole: an inverted file (Sivic and
    Zisserman 2003; Jegou et al. 2011, section 4).

        promise(cell) = query . centre + |query| * spread

    with `spread` the standard deviation of the cell's vectors along a direction.
    Without it, cells of one kind of vectors win over those that hold a few much better
    ones.

    >>> vectors = np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32)
    >>> index = CellIndex(vectors, InvertedFile(cells=20, probes=8), k=3)
    >>> scores, rows = index(tf.constant(vectors[:100]))
    >>> from twhin_tf.exporting.neighbours import exact_neighbours, recall
    >>> recall(rows.numpy(), exact_neighbours(vectors[:100], vectors, k=3)) > 0.9
    True

    Args:
        vectors: (n, dim) float32.
        settings: of the cells.
        k: neighbours per query, at most n.

    Attributes:
        cells: their number, after large ones were cut.
        probes: cells that are searched, so many that they hold k vectors.
        largest: vectors in the largest cell.
    """

    def __init__(self, vectors: np.ndarray, settings: InvertedFile, k: int):
        super().__init__(name="cell_index")
        cells = settings.sort(vectors)
        sizes = np.array([len(rows) for rows in cells])
        order = np.concatenate(cells)
        centres = np.stack([vectors[rows].mean(axis=0) for rows in cells])
        # Mean over the directions; the products' spread, were they all alike.
        spreads = np.array([vectors[rows].var(axis=0).mean() ** 0.5 for rows in cells])
        self._k = k
        # Enough cells for k neighbours, whichever they are.
        enough = int(np.searchsorted(np.cumsum(np.sort(sizes)), k)) + 1
        self.probes = min(max(settings.probes, enough), len(cells))
        self.cells, self.largest = len(cells), int(sizes.max())
        self._vectors = _constant(vectors[order], "vectors")
        self._rows = _constant(order.astype(np.int32), "rows")
        self._centres = _constant(centres, "centres")
        self._spreads = _constant(spreads.astype(np.float32), "spreads")
        self._starts = _constant((np.cumsum(sizes) - sizes).astype(np.int32), "starts")
        self._sizes = _constant(sizes.astype(np.int32), "sizes")

    def __call__(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds neighbours: (batch, dim) -> their scores and rows, (batch, k) each."""
        promise = tf.matmul(queries, self._centres, transpose_b=True)
        promise += tf.norm(queries, axis=1, keepdims=True) * self._spreads
        cells = tf.math.top_k(promise, self.probes).indices
        # Query by query: the vectors of all cells of a batch would be a large tensor.
        return tf.map_fn(
            self._search,
            (queries, cells),
            fn_output_signature=(
                tf.TensorSpec([self._k], tf.float32),
                tf.TensorSpec([self._k], tf.int32),
            ),
        )

    def _search(self, query_and_cells):
        query, cells = query_and_cells
        starts, sizes = tf.gather(self._starts, cells), tf.gather(self._sizes, cells)
        within = tf.range(self.largest)[tf.newaxis]
        inside = tf.reshape(within < sizes[:, tf.newaxis], [-1])
        places = tf.where(inside, tf.reshape(starts[:, tf.newaxis] + within, [-1]), 0)
        scores = tf.linalg.matvec(tf.gather(self._vectors, places), query)
        scores = tf.where(inside, scores, _LOWEST)
        best = tf.math.top_k(scores, self._k)
        return best.values, tf.gather(self._rows, tf.gather(places, best.indices))


def _cut(vectors: np.ndarray, rows: np.ndarray, most: int) -> list[np.ndarray]:
    """Cuts `rows` in equal parts of at most `most`, along the widest direction."""
    parts = -(-len(rows) // most)
    if parts == 1:
        return [rows]
    offsets = vectors[rows] - vectors[rows].mean(axis=0)
    direction = np.linalg.eigh(offsets.T @ offsets)[1][:, -1]
    order = np.argsort(offsets @ direction, kind="stable")
    return np.array_split(rows[order], parts)


def _constant(values: np.ndarray, name: str) -> tf.Variable:
    # A variable: the graph of a SavedModel holds at most 2 GB of constants.
    return tf.Variable(values, trainable=False, name=name)
