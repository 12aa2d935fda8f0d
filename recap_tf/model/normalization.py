"""Batch normalization that keeps the unbiased variance, as the reference does."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class BatchNorm(keras.layers.Layer):
    """Batch normalization: every feature gets mean 0 and variance 1 over the batch.

        training:  y = (x - mean(x)) / sqrt(var(x) + epsilon)
        inference: y = (x - moving_mean) / sqrt(moving_variance + epsilon)
        output   = gamma * y + beta   (affine only)

    (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1 and 2). `var` divides by n;
    the moving variance takes the unbiased estimate, n / (n - 1) times that. Keras's
    own layer moves the biased one on flat inputs, so a model trained here with the
    reference's settings would differ from it at inference. Statistics are float32
    whatever the compute type. Call: (batch, F) -> (batch, F).

    Args:
        momentum: share of the old moving value kept at each batch, in [0, 1); torch's
            momentum is one minus this.
        affine: learn gamma and beta.
        epsilon: added to the variance; above 0, or constant columns become NaN.

    >>> import tensorflow as tf
    >>> from recap_tf.model.normalization import BatchNorm
    >>> norm = BatchNorm(momentum=0.0)
    >>> normalized = norm(tf.constant([[1.0], [3.0]]), training=True)
    >>> [round(float(value), 3) for value in normalized[:, 0]]
    [-1.0, 1.0]
    >>> norm.moving_variance.numpy().tolist()  # The unbiased one.
    [2.0]
    """

    def __init__(
        self,
        momentum: float = 0.9,
        affine: bool = True,
        epsilon: float = 1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_range("BatchNorm.momentum", momentum, at_least=0, below=1)
        self.momentum = momentum
        self.affine = affine
        self.epsilon = epsilon

    def build(self, shape):
        width = shape[-1]
        if self.affine:
            self.gamma = self.add_weight(
                "gamma", (width,), tf.float32, "ones", experimental_autocast=False
            )
            self.beta = self.add_weight(
                "beta", (width,), tf.float32, "zeros", experimental_autocast=False
            )
        self.moving_mean = self._add_statistic("moving_mean", width, "zeros")
        self.moving_variance = self._add_statistic("moving_variance", width, "ones")
        super().build(shape)

    def _add_statistic(self, name: str, width: int, initializer: str) -> tf.Variable:
        # Replicas see different batches: each moves its own copy, readers take the
        # mean.
        return self.add_weight(
            name,
            (width,),
            tf.float32,
            initializer,
            trainable=False,
            experimental_autocast=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
        )

    def call(self, inputs, training=None):
        x = tf.cast(inputs, tf.float32)
        if training:
            mean, variance = tf.nn.moments(x, axes=[0])
            n = tf.cast(tf.shape(x)[0], tf.float32)
            unbiased = variance * n / tf.maximum(n - 1.0, 1.0)
            self._move(self.moving_mean, mean)
            self._move(self.moving_variance, unbiased)
            centred = x - mean
            # The mean of a constant column is its value up to rounding, which
            # 1 / sqrt(epsilon) would blow up. Centred once more, it is exactly 0.
            centred = centred - tf.reduce_mean(centred, axis=0)
        else:
            centred, variance = x - self.moving_mean, self.moving_variance
        scale = tf.math.rsqrt(variance + self.epsilon)
        if self.affine:
            scale = scale * self.gamma
        y = centred * scale
        if self.affine:
            y = y + self.beta
        return tf.cast(y, self.compute_dtype)

    def _move(self, statistic: tf.Variable, value: tf.Tensor) -> None:
        statistic.assign_sub((statistic - value) * (1.0 - self.momentum))

    def get_config(self):
        return super().get_config() | {
            "momentum": self.momentum,
            "affine": self.affine,
            "epsilon": self.epsilon,
        }
