"""Vectors in some bytes each: product quantization (Jegou et al. 2011)."""

import dataclasses
import io
import itertools

import gin
import numpy as np
import tensorflow as tf
from sklearn.cluster import KMeans

from recap_tf.core.checks import check_range

_CENTROIDS = 256
_BLOCK = 65_536
_RATIO = 25  # TwHIN (arXiv:2202.05387, section 4.3) reports 20 to 30.


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductQuantization:
    """How vectors are cut into parts and each part is replaced by a centroid's number.

    >>> ProductQuantization(bytes_per_vector=8).iterations
    20

    Args:
        bytes_per_vector: parts of a vector, one byte each, at most the vector's width;
            None for the number that makes float32 vectors about 25 times smaller.
        sample: centroids are found on so many vectors, at least 1.
        iterations: of k-means at most.
        seed: of the sample and of the first centroids.
    """

    bytes_per_vector: int | None = None
    sample: int = 32_768
    iterations: int = 20
    seed: int = 0

    def __post_init__(self):
        check_range(
            "ProductQuantization.bytes_per_vector",
            self.bytes_per_vector,
            at_least=1,
            none="about a 25th of float32",
        )
        check_range("ProductQuantization.sample", self.sample, at_least=1)
        check_range("ProductQuantization.iterations", self.iterations, at_least=1)


@dataclasses.dataclass(frozen=True)
class Quantized:
    """Vectors as codes, see `quantize`.

        vector[i, cuts[p] : cuts[p + 1]] = codebook[codes[i, p], cuts[p] : cuts[p + 1]]

    Args:
        codes: (n, parts) uint8.
        codebook: (centroids, dim) float32, at most 256 centroids.
        cuts: (parts + 1,) int64, where the parts begin and the last one ends.
    """

    codes: np.ndarray
    codebook: np.ndarray
    cuts: np.ndarray

    @property
    def bytes(self) -> int:
        """The size of codes and codebook in bytes."""
        return self.codes.nbytes + self.codebook.nbytes

    def vectors(self) -> np.ndarray:
        """Computes the vectors that the codes stand for, (n, dim) float32."""
        vectors = np.empty((len(self.codes), self.codebook.shape[1]), np.float32)
        for part, columns in enumerate(_parts(self.cuts)):
            vectors[:, columns] = self.codebook[self.codes[:, part], columns]
        return vectors

    def write(self, path: str) -> None:
        """Writes an .npz file with the arrays `codes`, `codebook` and `cuts`."""
        # GFile cannot seek while it writes.
        buffer = io.BytesIO()
        np.savez(buffer, codes=self.codes, codebook=self.codebook, cuts=self.cuts)
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(buffer.getvalue())


def read_quantized(path: str) -> Quantized:
    """Reads what `Quantized.write` wrote."""
    with tf.io.gfile.GFile(path, "rb") as file, np.load(file) as arrays:
        return Quantized(arrays["codes"], arrays["codebook"], arrays["cuts"])


def quantize(vectors: np.ndarray, settings: ProductQuantization) -> Quantized:
    """Finds centroids for (n, dim) float32 vectors, and replaces the vectors by codes.

    >>> vectors = np.eye(6, 8, dtype=np.float32)
    >>> quantized = quantize(vectors, ProductQuantization(bytes_per_vector=2))
    >>> quantized.codes.shape, np.array_equal(quantized.vectors(), vectors)
    ((6, 2), True)

    Raises:
        ValueError: `settings.bytes_per_vector` is larger than dim.
    """
    count, dim = vectors.shape
    parts = settings.bytes_per_vector or max(round(4 * dim / _RATIO), 1)
    if parts > dim:
        raise ValueError(
            f"ProductQuantization.bytes_per_vector must be at most {dim}, the vectors' "
            f"width. Received: {parts}"
        )
    cuts = np.arange(parts + 1) * dim // parts
    rng = np.random.default_rng(settings.seed)
    rows = np.sort(rng.permutation(count)[: settings.sample])
    sample = vectors[rows]
    centroids = min(_CENTROIDS, count)
    codebook = np.zeros((centroids, dim), np.float32)
    codes = np.empty((count, parts), np.uint8)
    for part, columns in enumerate(_parts(cuts)):
        of_part = _centroids(sample[:, columns], centroids, settings)
        codebook[: len(of_part), columns] = of_part
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            codes[block, part] = nearest_centroids(vectors[block, columns], of_part)
    return Quantized(codes, codebook, cuts)


def nearest_centroids(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Finds the centroid at the least Euclidean distance from each of n vectors.

    >>> nearest_centroids(np.array([[2.0], [9.0]]), np.array([[0.0], [10.0]]))
    array([0, 1])

    Args:
        vectors: (n, dim).
        centroids: (m, dim).

    Returns:
        (n,) numbers of centroids.
    """
    # |v - c|^2 = |v|^2 - 2 (v . c - |c|^2 / 2)
    products = vectors @ centroids.T - (centroids**2).sum(axis=1) / 2
    return products.argmax(axis=1)


def _centroids(sample, count, settings: ProductQuantization) -> np.ndarray:
    # Fewer different vectors than centroids: each is its own.
    different = np.unique(sample, axis=0)
    if len(different) <= count:
        return different
    kmeans = KMeans(
        count, n_init=1, max_iter=settings.iterations, random_state=settings.seed
    )
    return kmeans.fit(sample).cluster_centers_


def _parts(cuts: np.ndarray) -> list[slice]:
    return [slice(low, high) for low, high in itertools.pairwise(cuts)]
