"""Parts of a validation set that are reported on their own: new users, short videos."""

import dataclasses
import math
from collections.abc import Mapping

import gin
import tensorflow as tf

EVERYTHING = "all"
"""The slice that every example is in."""


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Slice:
    """The examples in which one column of a feature has a certain value.

        Slice(name="young", feature="continuous", column=3, in_range=(None, 18))

    Features are looked at as the model reads them: after the steps of
    `Records.preprocess`, before the model's own preprocessor. One that the model does
    not read, but the records hold, is read for the evaluation alone.

    Args:
        name: what tables and JSON call it; not "all".
        feature: a feature of fixed length, by its name inside the model or in the
            records.
        column: which of its columns, from 0.
        equals: the value; a string for a feature of bytes. Exactly one of this and
            `in_range` is given.
        in_range: (low, high), low <= value < high; None for no bound. A NaN is in no
            range.
    """

    name: str
    feature: str
    column: int = 0
    equals: int | float | str | None = None
    in_range: tuple[float | None, float | None] | None = None

    def __post_init__(self):
        if self.name == EVERYTHING:
            raise ValueError(
                f"Slice.name must not be {EVERYTHING!r}: that is the whole set."
            )
        if (self.equals is None) == (self.in_range is None):
            raise ValueError(
                f"Slice {self.name!r} needs exactly one of equals and in_range. "
                f"Received: equals={self.equals!r}, in_range={self.in_range}"
            )
        if self.in_range is not None:
            low, high = self.in_range
            bounds = [bound for bound in (low, high) if bound is not None]
            if not all(map(math.isfinite, bounds)) or (
                len(bounds) == 2 and not low < high
            ):
                raise ValueError(
                    f"Slice.in_range of slice {self.name!r} must be (low, high) with "
                    f"low < high, None for no bound. Received: {self.in_range}"
                )

    def check(self, spec: tf.TensorSpec) -> None:
        """Raises ValueError unless a feature of `spec` can be in the slice."""
        width = 1 if spec.shape.rank == 1 else spec.shape[-1]
        if not 0 <= self.column < width:
            raise ValueError(
                f"Slice.column of slice {self.name!r} must be in [0, {width}), the "
                f"columns of {self.feature!r}. Received: {self.column}"
            )
        text = spec.dtype == tf.string
        if text and self.in_range is not None:
            raise ValueError(
                f"Slice.in_range of slice {self.name!r} needs numbers; "
                f"{self.feature!r} holds bytes. Write Slice.equals."
            )
        if self.equals is not None and text != isinstance(self.equals, str):
            raise ValueError(
                f"Slice.equals of slice {self.name!r} must be a "
                f"{'string' if text else 'number'}, as {self.feature!r} holds "
                f"{'bytes' if text else spec.dtype.name}. Received: {self.equals!r}"
            )
        fraction = isinstance(self.equals, float) and not self.equals.is_integer()
        if fraction and not spec.dtype.is_floating:
            raise ValueError(
                f"Slice.equals of slice {self.name!r} must be a whole number, as "
                f"{self.feature!r} holds {spec.dtype.name}. Received: {self.equals}"
            )

    def mask(self, features: Mapping[str, tf.Tensor], name: str) -> tf.Tensor:
        """Which examples are in the slice, (batch,) bool.

        Args:
            features: name inside the model -> (batch, length) or (batch,).
            name: of the slice's feature among them.
        """
        values = features[name]
        if values.shape.rank > 1:
            values = values[:, self.column]
        if values.dtype == tf.string:
            return values == tf.constant(self.equals)
        whole = not values.dtype.is_floating
        if whole:
            # Ids use all of their 64 bits, which no floating-point number does.
            values = tf.cast(values, tf.int64)

        def constant(bound: float) -> tf.Tensor:
            # A bound rounds as the values did: 0.7 in float32 is less than in float64.
            # No whole number lies between a fraction and the next whole number.
            return tf.constant(math.ceil(bound) if whole else bound, values.dtype)

        if self.equals is not None:
            return values == constant(self.equals)
        low, high = self.in_range
        inside = values == values  # False for NaN.
        if low is not None:
            inside &= values >= constant(low)
        if high is not None:
            inside &= values < constant(high)
        return inside
