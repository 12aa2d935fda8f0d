"""Operators: what a relation does to its left-hand side before it is compared.

score(lhs, relation, rhs) = comparator(operator(lhs, relation), rhs)
"""

import abc
from collections.abc import Callable, Mapping, Sequence

import gin
import tensorflow as tf
import tf_keras as keras

from twhin_tf.model.grouped_product import few_rows, grouped_product


class Operator(keras.layers.Layer, abc.ABC):
    """An operator: one map of vectors per relation.

    Call: [vectors (batch, dim), relation (batch,) integers] -> (batch, dim).

    Args:
        relations: how many there are; their numbers come from 0 on.
    """

    set_elsewhere = {"relations": "the graph"}
    """Parameter that a config file does not set -> where it comes from."""

    def __init__(self, relations: int, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.relations = relations

    @abc.abstractmethod
    def call(self, inputs): ...

    @abc.abstractmethod
    def adjoint(
        self, vectors: tf.Tensor, relation: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """How right-hand sides meet untransformed left-hand sides.

            operator(lhs) . rhs = lhs . turned(rhs) + offset(rhs)

        Returns:
            turned (batch, dim), and offset (batch,) or None for 0.
        """

    def parameters(self, relation: tf.Tensor) -> tf.Tensor | None:
        """The numbers of each edge's relation, (batch, n); None if it has none."""
        return None

    def moduli(self, vectors: tf.Tensor) -> tf.Tensor:
        """Moduli of what counts as one number: (..., dim) -> (..., n)."""
        return tf.abs(vectors)

    def get_config(self):
        return super().get_config() | {"relations": self.relations}


@gin.register(denylist=["relations"])
@keras.saving.register_keras_serializable(package="twhin_tf")
class Identity(Operator):
    """The identity, operator(lhs) = lhs: all relations are one.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.operators import Identity
    >>> Identity(relations=3)([tf.constant([[1.0, 2.0]]), tf.constant([0])]).shape
    TensorShape([1, 2])
    """

    def call(self, inputs):
        return inputs[0]

    def adjoint(self, vectors, relation):
        return vectors, None


@gin.register(denylist=["relations"])
@keras.saving.register_keras_serializable(package="twhin_tf")
class Translation(Operator):
    """A translation: operator(lhs) = lhs + translation[relation].

    TwHIN (arXiv:2202.05387, eq. 1). Translations start from 0.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.operators import Translation
    >>> vectors, relation = tf.constant([[1.0, 2.0]]), tf.constant([0])
    >>> Translation(relations=3)([vectors, relation]).numpy().tolist()  # At first.
    [[1.0, 2.0]]
    """

    def build(self, shapes):
        self.translations = self.add_weight(
            "translations", (self.relations, shapes[0][-1]), initializer="zeros"
        )
        super().build(shapes)

    def call(self, inputs):
        vectors, relation = inputs
        return vectors + few_rows(self.translations, relation)

    def adjoint(self, vectors, relation):
        translations = few_rows(self.translations, relation)
        return vectors, tf.reduce_sum(translations * vectors, axis=-1)

    def parameters(self, relation):
        return few_rows(self.translations, relation)


@gin.register(denylist=["relations"])
@keras.saving.register_keras_serializable(package="twhin_tf")
class Diagonal(Operator):
    """A scaling: operator(lhs) = lhs * diagonal[relation]; with a dot product DistMult.

    Yang et al. 2015 (arXiv:1412.6575). Diagonals start from 1.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.operators import Diagonal
    >>> vectors, relation = tf.constant([[1.0, 2.0]]), tf.constant([0])
    >>> Diagonal(relations=3)([vectors, relation]).numpy().tolist()  # At first.
    [[1.0, 2.0]]
    """

    def build(self, shapes):
        self.diagonals = self.add_weight(
            "diagonals", (self.relations, shapes[0][-1]), initializer="ones"
        )
        super().build(shapes)

    def call(self, inputs):
        vectors, relation = inputs
        return vectors * few_rows(self.diagonals, relation)

    def adjoint(self, vectors, relation):
        return self([vectors, relation]), None

    def parameters(self, relation):
        return few_rows(self.diagonals, relation)


@gin.register(denylist=["relations"])
@keras.saving.register_keras_serializable(package="twhin_tf")
class ComplexDiagonal(Operator):
    """A scaling in complex numbers; with a dot product ComplEx.

        operator(lhs) = lhs * diagonal[relation]

    The first half of a vector holds real parts, the second imaginary parts. Trouillon
    et al. 2016 (arXiv:1606.06357). Diagonals start as rotations by random angles.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.operators import ComplexDiagonal
    >>> rotate = ComplexDiagonal(relations=3)
    >>> rotated = rotate([tf.constant([[3.0, 4.0]]), tf.constant([0])])
    >>> round(float(tf.norm(rotated)), 3)  # |3 + 4i|
    5.0
    """

    def build(self, shapes):
        dim = shapes[0][-1]
        if dim % 2:
            raise ValueError(
                f"ComplexDiagonal needs an even twhin.embedder.dim. Received: {dim}"
            )
        self.diagonals = self.add_weight(
            "diagonals", (self.relations, dim), initializer=_rotations
        )
        super().build(shapes)

    def call(self, inputs):
        vectors, relation = inputs
        return _times(vectors, few_rows(self.diagonals, relation), 1.0)

    def adjoint(self, vectors, relation):
        return _times(vectors, few_rows(self.diagonals, relation), -1.0), None

    def parameters(self, relation):
        return few_rows(self.diagonals, relation)

    def moduli(self, vectors):
        real, imaginary = tf.split(vectors, 2, axis=-1)
        # The root's gradient at 0 is infinite.
        return tf.sqrt(real**2 + imaginary**2 + 1e-12)


@gin.register(denylist=["relations"])
@keras.saving.register_keras_serializable(package="twhin_tf")
class Linear(Operator):
    """A linear map: operator(lhs) = matrix[relation] lhs; with a dot product RESCAL.

    Nickel et al. 2011. Matrices start from the identity.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.operators import Linear
    >>> vectors, relation = tf.constant([[1.0, 2.0]]), tf.constant([0])
    >>> Linear(relations=3)([vectors, relation]).numpy().tolist()  # At first.
    [[1.0, 2.0]]
    """

    def build(self, shapes):
        dim = shapes[0][-1]
        self.matrices = self.add_weight(
            "matrices", (self.relations, dim, dim), initializer=_identities
        )
        super().build(shapes)

    def call(self, inputs):
        vectors, relation = inputs
        return grouped_product(vectors, tf.convert_to_tensor(self.matrices), relation)

    def adjoint(self, vectors, relation):
        transposed = tf.transpose(self.matrices, [0, 2, 1])
        return grouped_product(vectors, transposed, relation), None

    def parameters(self, relation):
        matrices = tf.gather(self.matrices, relation)
        return tf.reshape(matrices, [-1, matrices.shape[1] * matrices.shape[2]])


class RelationOperators(keras.layers.Layer):
    """The operator of every relation; one, or several kinds of them.

    Call: [vectors (batch, dim), relation (batch,)] -> (batch, dim).

    >>> import tensorflow as tf
    >>> from twhin_tf.model.operators import Identity, RelationOperators, Translation
    >>> operators = RelationOperators(["like", "same"], Translation, {"same": Identity})
    >>> vectors, relation = tf.constant([[1.0, 2.0]] * 2), tf.constant([0, 1])
    >>> operators([vectors, relation]).numpy().tolist()  # Translations start at 0.
    [[1.0, 2.0], [1.0, 2.0]]

    Args:
        names: of the relations, in the order of their numbers.
        default: makes the operator of relations that `others` does not name.
        others: relation -> makes its operator.
    """

    def __init__(
        self,
        names: Sequence[str],
        default: Callable[..., Operator],
        others: Mapping[str, Callable[..., Operator]],
        **kwargs,
    ):
        super().__init__(**({"dtype": "float32"} | kwargs))
        unknown = [name for name in others if name not in names]
        if unknown:
            raise ValueError(
                f"twhin.embedder.operators names {unknown[0]!r}, which is no relation "
                f"of the graph. Received: {sorted(others)}"
            )
        makers = list(dict.fromkeys([others.get(name, default) for name in names]))
        self._kind = [makers.index(others.get(name, default)) for name in names]
        # Each has numbers for every relation: few next to the tables.
        self.kinds = [maker(relations=len(names)) for maker in makers]

    def build(self, shapes):
        for kind in self.kinds:
            kind.build(shapes)
        super().build(shapes)

    def call(self, inputs):
        vectors, relation = inputs
        return self._pick(relation, [kind([vectors, relation]) for kind in self.kinds])

    def adjoint(self, vectors, relation):
        """The adjoint of each edge's operator; see `Operator.adjoint`."""
        turned, offsets = zip(
            *(kind.adjoint(vectors, relation) for kind in self.kinds), strict=True
        )
        offset = None
        if any(given is not None for given in offsets):
            zeros = tf.zeros(tf.shape(vectors)[:1])
            filled = [zeros if given is None else given for given in offsets]
            offset = self._pick(relation, filled)
        return self._pick(relation, turned), offset

    def penalty(
        self, lhs: tf.Tensor, relation: tf.Tensor, rhs: tf.Tensor, power: int
    ) -> tf.Tensor:
        """Sums of the sizes of an edge's numbers to `power`, (batch,)."""
        by_kind = []
        for kind in self.kinds:
            parameters = kind.parameters(relation)
            # A matrix is no row of complex numbers, but of moduli of its own.
            parts = [lhs, rhs] if parameters is None else [lhs, rhs, parameters]
            sizes = [tf.reduce_sum(kind.moduli(p) ** power, axis=-1) for p in parts]
            by_kind.append(tf.add_n(sizes))
        return self._pick(relation, by_kind)

    def _pick(self, relation: tf.Tensor, by_kind: Sequence[tf.Tensor]) -> tf.Tensor:
        """Each edge's value among those of every kind."""
        if len(by_kind) == 1:
            return by_kind[0]
        kind = tf.gather(tf.constant(self._kind), relation)
        picked = by_kind[0]
        for number, values in enumerate(by_kind[1:], start=1):
            of_kind = kind == number
            if values.shape.rank == 2:
                of_kind = of_kind[:, tf.newaxis]
            picked = tf.where(of_kind, values, picked)
        return picked


def _times(first: tf.Tensor, second: tf.Tensor, sign: float) -> tf.Tensor:
    """The complex product first * second, or first * conjugate(second) for sign -1."""
    a, b = tf.split(first, 2, axis=-1)
    c, d = tf.split(second, 2, axis=-1)
    d = sign * d
    return tf.concat([a * c - b * d, a * d + b * c], axis=-1)


def _rotations(shape, dtype=None, **kwargs):
    angles = tf.random.uniform([shape[0], shape[1] // 2], -3.14159265, 3.14159265)
    return tf.concat([tf.cos(angles), tf.sin(angles)], axis=-1)


def _identities(shape, dtype=None, **kwargs):
    return tf.eye(shape[1], batch_shape=[shape[0]])
