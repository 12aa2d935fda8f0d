"""Optimizers of large tables: an update reads and writes the rows of its batch only.

Each is a Keras optimizer, and says how a TPU's embedding cores do the same. Formulas
are per row of the table; g is the sum of a row's gradients over the batch, t counts
updates from 1. Rows that a batch does not hold keep their weights and their state.
"""

from collections.abc import Callable, Mapping, Sequence

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.optimizers.grouped import Adam
from recap_tf.core.optimizers.schedules import Schedule
from recap_tf.core.storage.half_precision import AsFloat32
from recap_tf.core.storage.sharded_tables import ShardedVariable

_legacy = keras.optimizers.legacy
_on_tpu = tf.tpu.experimental.embedding
# Numbers per row from which on rows are added up first, fetched and put back.
_WIDE = 32


class RowOptimizer:
    """What all optimizers of this module offer beside Keras's interface."""

    set_elsewhere = {"learning_rate": "TableSpec.learning_rate"}
    """Parameter that a config file does not set -> the setting it comes from."""

    def slot_starts(self) -> Mapping[str, float]:
        """State kept per row: Keras's name of it -> the value it starts from."""
        raise NotImplementedError("A row optimizer defines slot_starts().")

    def as_tpu(self, learning_rate: float | Callable[[], tf.Tensor]):
        """The `tf.tpu.experimental.embedding` optimizer with these settings.

        Raises:
            ValueError: TPUs have none.
        """
        raise NotImplementedError("A row optimizer defines as_tpu().")

    def tpu_slots(self) -> Mapping[str, Sequence[str]]:
        """State kept per row -> TPUs' names of it; of several, side by side."""
        return {name: [f"{name}s"] for name in self.slot_starts()}

    def tpu_offsets(self) -> Mapping[str, float]:
        """TPUs' name of a state -> by how much it is above ours, where it is."""
        return {}

    def _resource_apply_sparse_duplicate_indices(self, grad, handle, indices, **kwargs):
        grad, indices = add_up(grad, indices)
        if handle.dtype != tf.float32:
            # By nothing that differs among the copies of a mirrored table.
            seed = tf.stack([tf.zeros_like(self.iterations), self.iterations])
            handle = AsFloat32(handle, seed)
        return self._resource_apply_sparse(grad, handle, indices, **kwargs)

    def add_slot(self, var, slot_name, initializer="zeros", shape=None):
        if var.dtype != tf.float32:
            # State of 16-bit tables is float32: sums of squares need the digits.
            var = AsFloat32(var)
        return super().add_slot(var, slot_name, initializer, shape)

    def _hypers(self, var, apply_state) -> Mapping[str, tf.Tensor]:
        """This update's numbers, "lr_t" among them, where `var` is."""
        key = (var.device, var.dtype.base_dtype)
        return (apply_state or {}).get(key) or self._fallback_apply_state(*key)

    def get_slot(self, var, slot_name):
        if not isinstance(var, ShardedVariable):
            return super().get_slot(var, slot_name)
        # Keras puts a new one together each time; checkpoints go by identity.
        slots = vars(self).setdefault("_slots_of_sharded", {})
        key = (id(var), slot_name)
        if key not in slots:
            slots[key] = super().get_slot(var, slot_name)
        return slots[key]

    def reset_rows(self, table: tf.Variable, rows: tf.Tensor) -> None:
        """Forgets what was learned about `rows`, (n,) integers, of `table`."""
        for name, start in self.slot_starts().items():
            slot = self.get_slot(table, name)
            shape = tf.concat([tf.shape(rows), slot.shape[1:]], axis=0)
            slot.scatter_update(
                tf.IndexedSlices(tf.fill(shape, tf.cast(start, slot.dtype)), rows)
            )


class _OnlyRows(RowOptimizer):
    """Those whose update of a whole table is that of all its rows."""

    def _resource_apply_dense(self, grad, var, apply_state=None):
        every = tf.range(var.shape[0])
        return self._resource_apply_sparse(grad, var, every, apply_state)


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class SparseSGD(RowOptimizer, _legacy.SGD):
    """w -= lr * g.

    Args:
        learning_rate: a number or a schedule.
    """

    def __init__(self, learning_rate: float | Schedule = 0.01, name: str = "SparseSGD"):
        super().__init__(learning_rate, name=name)

    def slot_starts(self):
        return {}

    def _resource_apply_sparse_duplicate_indices(self, grad, handle, indices, **kwargs):
        apply = super()._resource_apply_sparse_duplicate_indices
        if handle.shape[-1] < _WIDE and handle.dtype == tf.float32:
            # Keras's subtracts row after row, one that comes twice, twice.
            apply = super(RowOptimizer, self)._resource_apply_sparse_duplicate_indices
        return apply(grad, handle, indices, **kwargs)

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        rate = self._hypers(var, apply_state)["lr_t"]
        return _subtract(var, indices, rate * grad)

    def as_tpu(self, learning_rate):
        return _on_tpu.SGD(learning_rate)

    def get_config(self):
        return _only(super().get_config(), "learning_rate", "name")


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class SparseAdagrad(RowOptimizer, _legacy.Adagrad):
    """Adagrad (Duchi et al. 2011).

        a += g^2;  w -= lr * g / (sqrt(a) + 1e-7)

    Args:
        learning_rate: a number or a schedule.
        initial_accumulator_value: what a starts from.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        initial_accumulator_value: float = 0.1,
        name: str = "SparseAdagrad",
    ):
        super().__init__(learning_rate, initial_accumulator_value, name=name)

    def slot_starts(self):
        return {"accumulator": self._initial_accumulator_value}

    def as_tpu(self, learning_rate):
        return _on_tpu.Adagrad(learning_rate, self._initial_accumulator_value)

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        # Keras's fused op waits for one row of memory after the other; gathering
        # fetches ahead.
        state = self._hypers(var, apply_state)
        slot = self.get_slot(var, "accumulator")
        sums = tf.gather(slot, indices) + tf.square(grad)
        slot.scatter_update(tf.IndexedSlices(sums, indices))
        change = state["lr_t"] * grad / (tf.sqrt(sums) + state["epsilon"])
        return _subtract(var, indices, change)

    def get_config(self):
        names = ("learning_rate", "initial_accumulator_value", "name")
        return _only(super().get_config(), *names)


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class RowWiseAdagrad(_OnlyRows, _legacy.Optimizer):
    """Adagrad with one accumulator per row: a table's state is 1 / dim of its size.

        a += mean(g^2);  w -= lr * g / (sqrt(a) + epsilon)

    Mudigere et al. 2021 (arXiv:2104.05158, section 4.1.4). TPUs do not have it.

    Args:
        learning_rate: a number or a schedule.
        initial_accumulator_value: what a starts from.
        epsilon: added to the root.
    """

    _HAS_AGGREGATE_GRAD = True

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        name: str = "RowWiseAdagrad",
    ):
        super().__init__(name)
        if initial_accumulator_value < 0:
            raise ValueError(
                "RowWiseAdagrad.initial_accumulator_value cannot be negative. "
                f"Received: {initial_accumulator_value}"
            )
        self._set_hyper("learning_rate", learning_rate)
        self._set_hyper("decay", 0.0)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def slot_starts(self):
        return {"accumulator": self.initial_accumulator_value}

    def as_tpu(self, learning_rate):
        raise ValueError(
            "RowWiseAdagrad does not exist on TPUs. Use SparseAdagrad there."
        )

    def _create_slots(self, var_list):
        start = keras.initializers.Constant(self.initial_accumulator_value)
        for var in var_list:
            self.add_slot(var, "accumulator", start, shape=var.shape[:1])

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        slot = self.get_slot(var, "accumulator")
        sums = tf.gather(slot, indices) + tf.reduce_mean(tf.square(grad), axis=-1)
        slot.scatter_update(tf.IndexedSlices(sums, indices))
        root = tf.sqrt(sums) + self.epsilon
        rate = self._hypers(var, apply_state)["lr_t"]
        change = rate * grad / root[:, tf.newaxis]
        return _subtract(var, indices, change)

    def get_config(self):
        return super().get_config() | {
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class LazyAdam(_OnlyRows, Adam):
    """Adam whose moments decay only when a row is seen.

        m = beta_1 * m + (1 - beta_1) * g;  v = beta_2 * v + (1 - beta_2) * g^2
        w -= lr * (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    Keras's Adam decays the moments of every row in every update, which costs as much
    as the table is large. TPUs add epsilon before the bias correction.

    Args:
        learning_rate: a number or a schedule.
        beta_1, beta_2: decay of the first and second moment per update of a row.
        epsilon: added to the root of the corrected second moment.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "LazyAdam",
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name)

    def slot_starts(self):
        return {"moments": 0.0}

    def tpu_slots(self):
        return {"moments": ["momenta", "velocities"]}

    def as_tpu(self, learning_rate):
        beta_1, beta_2 = self._exact_betas
        return _on_tpu.Adam(
            learning_rate,
            beta_1,
            beta_2,
            self.epsilon,
            lazy_adam=True,
            sum_inside_sqrt=False,
        )

    def _create_slots(self, var_list):
        # Both moments of a row side by side, [m, v]: fetching one longer row from
        # somewhere in a large table costs half of fetching two.
        for var in var_list:
            rows, dim = var.shape
            self.add_slot(var, "moments", "zeros", shape=(rows, 2 * dim))

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        state = self._hypers(var, apply_state)
        slot = self.get_slot(var, "moments")
        decay = tf.repeat(
            tf.stack([state["beta_1_t"], state["beta_2_t"]]), grad.shape[1]
        )
        towards = tf.concat([grad, tf.square(grad)], axis=1)
        moments = decay * tf.gather(slot, indices) + (1.0 - decay) * towards
        slot.scatter_update(tf.IndexedSlices(moments, indices))
        m, v = tf.split(moments, 2, axis=1)
        change = state["lr"] * m / (tf.sqrt(v) + state["epsilon"])
        return _subtract(var, indices, change)


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class SparseFTRL(_OnlyRows, _legacy.Optimizer):
    """FTRL-proximal (McMahan et al. 2013, algorithm 1), with a^-power as rate.

        a' = a + g^2;  z += g - (a'^-power - a^-power) / lr * w;  a = a'
        w = -(z - sign(z) * l1) / (a^-power / lr + 2 * l2) where |z| > l1, else 0

    The first update of a row forgets most of its initial weights: z starts from 0.

    Args:
        learning_rate: a number or a schedule.
        learning_rate_power: at most 0; -0.5 is the paper's.
        initial_accumulator_value: what a starts from.
        l1, l2: strengths of the penalties.
    """

    _HAS_AGGREGATE_GRAD = True

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        name: str = "SparseFTRL",
    ):
        super().__init__(name)
        if learning_rate_power > 0:
            raise ValueError(
                "SparseFTRL.learning_rate_power must be at most 0. "
                f"Received: {learning_rate_power}"
            )
        for setting, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1", l1),
            ("l2", l2),
        ):
            if value < 0:
                raise ValueError(
                    f"SparseFTRL.{setting} cannot be negative. Received: {value}"
                )
        self._set_hyper("learning_rate", learning_rate)
        self._set_hyper("decay", 0.0)
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1, self.l2 = l1, l2

    def slot_starts(self):
        return {"sums": 0.0}

    def tpu_slots(self):
        return {"sums": ["accumulators", "linears"]}

    def tpu_offsets(self):
        return {"accumulators": self.initial_accumulator_value}

    def as_tpu(self, learning_rate):
        return _on_tpu.FTRL(
            learning_rate,
            learning_rate_power=self.learning_rate_power,
            l1_regularization_strength=self.l1,
            l2_regularization_strength=self.l2,
            initial_accumulator_value=self.initial_accumulator_value,
        )

    def _create_slots(self, var_list):
        # Both sums of a row side by side, [a less what it starts from, z]; see
        # LazyAdam. TensorFlow's fused op waits for three rows one after the other.
        for var in var_list:
            rows, dim = var.shape
            self.add_slot(var, "sums", "zeros", shape=(rows, 2 * dim))

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        rate = self._hypers(var, apply_state)["lr_t"]
        slot = self.get_slot(var, "sums")
        squares, z = tf.split(tf.gather(slot, indices), 2, axis=1)
        added = squares + tf.square(grad)
        before, root = (
            tf.pow(self.initial_accumulator_value + a, -self.learning_rate_power)
            for a in (squares, added)
        )
        z += grad - (root - before) / rate * tf.gather(var, indices)
        slot.scatter_update(tf.IndexedSlices(tf.concat([added, z], axis=1), indices))
        # 0 where |z| is at most l1.
        beyond = z - tf.clip_by_value(z, -self.l1, self.l1)
        weights = -beyond / (root / rate + 2.0 * self.l2)
        return var.scatter_update(tf.IndexedSlices(weights, indices))

    def get_config(self):
        return super().get_config() | {
            "learning_rate": self._serialize_hyperparameter("learning_rate"),
            "learning_rate_power": self.learning_rate_power,
            "initial_accumulator_value": self.initial_accumulator_value,
            "l1": self.l1,
            "l2": self.l2,
        }


def _subtract(var: tf.Variable, indices: tf.Tensor, change: tf.Tensor):
    """Takes `change` from rows, each of which comes once."""
    if var.shape[-1] < _WIDE:
        return var.scatter_sub(tf.IndexedSlices(change, indices))
    # Fetching wide rows and putting them back is many times faster than TensorFlow's
    # scattered subtraction, which waits for one row of memory after the other.
    rows = tf.gather(var, indices) - change
    return var.scatter_update(tf.IndexedSlices(rows, indices))


def add_up(grad: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Gradients of rows, some of them several times -> of each row once, ascending.

    As Keras does, but by sorting, at half the cost.
    """
    order = tf.argsort(indices)
    indices = tf.gather(indices, order)
    # Not [[True], ...]: there may be no row at all.
    start = tf.ones_like(indices[:1], tf.bool)
    first = tf.concat([start, indices[1:] != indices[:-1]], axis=0)
    number = tf.cumsum(tf.cast(first, tf.int32)) - 1
    summed = tf.math.segment_sum(tf.gather(grad, order), number)
    return summed, tf.boolean_mask(indices, first)


def _only(config: dict, *names: str) -> dict:
    return {name: config[name] for name in names}
