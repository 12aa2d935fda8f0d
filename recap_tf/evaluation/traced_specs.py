"""The specs of data sets' features, each traced once however many sets have them."""

from typing import Any

from recap_tf.data import record_batches
from recap_tf.data.record_batches import FeatureSpec, Records


class TracedSpecs:
    """Remembers `record_batches.feature_specs`, which traces all of the preprocessing.

    A run makes one and asks it for its training and its validation sets, which as a
    rule differ in nothing but their files and sampling rates.
    """

    def __init__(self):
        self._traced: list[tuple[tuple[Any, ...], dict[str, FeatureSpec]]] = []

    def of(self, records: Records) -> dict[str, FeatureSpec]:
        """Name inside the model -> (batch, ...) spec, after preprocessing."""
        depends_on = (
            records.schema,
            records.names(),
            list(records.preprocess),
            dict(records.masked_mantissa_bits),
        )
        # Not a dict: steps of preprocessing need not be hashable.
        for seen, specs in self._traced:
            if seen == depends_on:
                return specs
        specs = record_batches.feature_specs(records)
        self._traced.append((depends_on, specs))
        return specs
