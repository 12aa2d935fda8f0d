"""Quantized vectors are small and near, and few ones are exact."""

import numpy as np

from twhin_tf.exporting.product_quantization import (
    ProductQuantization,
    quantize,
    read_quantized,
)


def test_quantized_vectors_are_small_and_near(tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(20_000, 4)) @ rng.normal(size=(4, 50))
    vectors = vectors.astype(np.float32)
    quantized = quantize(vectors, ProductQuantization(sample=4000, iterations=5))
    assert quantized.codes.shape == (20_000, 8) and quantized.codes.dtype == np.uint8
    assert vectors.nbytes / quantized.codes.nbytes == 25
    assert quantized.bytes == quantized.codes.nbytes + 256 * 50 * 4
    path = str(tmp_path / "codes.npz")
    quantized.write(path)
    again = read_quantized(path)
    error = ((again.vectors() - vectors) ** 2).mean() / vectors.var()
    assert error < 0.1
    # By hand: the third part of vector 5.
    low, high = again.cuts[2:4]
    np.testing.assert_array_equal(
        again.vectors()[5, low:high], again.codebook[again.codes[5, 2], low:high]
    )
    finer = ProductQuantization(bytes_per_vector=25, sample=4000, iterations=5)
    finer = quantize(vectors, finer).vectors()
    assert ((finer - vectors) ** 2).mean() / vectors.var() < error / 3


def test_few_vectors_are_their_own_centroids():
    vectors = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    quantized = quantize(vectors, ProductQuantization(bytes_per_vector=3))
    np.testing.assert_array_equal(quantized.vectors(), vectors)
