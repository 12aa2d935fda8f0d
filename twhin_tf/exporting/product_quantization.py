"""Vectors in some bytes each: product quantization (Jegou et al. 2011)."""

import dataclasses
import io
import itertools

import gin
import numpy as np
import tensorflow as tf
from sklearn.cluster import KMeans

_CENTROIDS = 256
_BLOCK = 65_536
_RATIO = 25  # TwHIN (arXiv:2202.05387, section 4.3) reports 20 to 30.


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class ProductQuantization:
    """How vectors are cut into parts and each part is replaced by a centroid's number.

    Args:
        bytes_per_vector: parts of a vector, one byte each; none for the number that
            makes float32 vectors about 25 times smaller.
        sample: centroids are found on so many vectors.
        iterations: of k-means at most.
        seed: of the sample and of the first centroids.
    """

    bytes_per_vector: int | None = None
    sample: int = 32_768
    iterations: int = 20
    seed: int = 0

    def __post_init__(self):
        for name in ("bytes_per_vector", "sample", "iterations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(
                    f"ProductQuantization.{name} must be at least 1. Received: {value}"
                )


@dataclasses.dataclass(frozen=True)
class Quantized:
    """Vectors as codes.

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
        """Of codes and codebook."""
        return self.codes.nbytes + self.codebook.nbytes

    def vectors(self) -> np.ndarray:
        """What the codes stand for, (n, dim) float32."""
        out = np.empty((len(self.codes), self.codebook.shape[1]), np.float32)
        for part, columns in enumerate(_parts(self.cuts)):
            out[:, columns] = self.codebook[self.codes[:, part], columns]
        return out

    def write(self, path: str) -> None:
        """Writes an .npz file with `codes`, `codebook` and `cuts`."""
        # GFile cannot seek while it writes.
        buffer = io.BytesIO()
        np.savez(buffer, codes=self.codes, codebook=self.codebook, cuts=self.cuts)
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(buffer.getvalue())


def read_quantized(path: str) -> Quantized:
    """What `Quantized.write` wrote."""
    with tf.io.gfile.GFile(path, "rb") as file, np.load(file) as arrays:
        return Quantized(arrays["codes"], arrays["codebook"], arrays["cuts"])


def quantize(vectors: np.ndarray, settings: ProductQuantization) -> Quantized:
    """Codes for (n, dim) float32 vectors."""
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
        found = _centroids(sample[:, columns], centroids, settings)
        codebook[: len(found), columns] = found
        for start in range(0, count, _BLOCK):
            block = slice(start, start + _BLOCK)
            codes[block, part] = nearest_centroids(vectors[block, columns], found)
    return Quantized(codes, codebook, cuts)


def nearest_centroids(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """(n,) numbers of the centroids at the least Euclidean distance."""
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
