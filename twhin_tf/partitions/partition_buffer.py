"""The partitions that are in memory: rows of the model's variables."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from twhin_tf.partitions.partition_files import CHUNK, PartitionFiles

VECTOR = "vector"


class PartitionBuffer:
    """Moves partitions between files and variables.

    Args:
        files: of all partitions.
        variables: type -> the variables that hold its rows: "vector", and the state of
            its optimizer by name; (buffer * place_rows, ...).

    Attributes:
        held: the partition in each place of the buffer; none before `fill`.
        swaps: partitions brought in, other than by `fill`.
    """

    def __init__(
        self,
        files: PartitionFiles,
        variables: Mapping[str, Mapping[str, tf.Variable]],
    ):
        self._files, self._variables = files, variables
        self._dirty: set[int] = set()
        self.held: list[int] = []
        self.swaps = 0

    def fill(self, held: Sequence[int]) -> None:
        """Brings partitions in, and drops what was there before, changed or not."""
        self.held = list(held)
        self._dirty.clear()
        for place in range(len(held)):
            self._bring_in(place)

    def change(self, held: Sequence[int]) -> None:
        """Brings partitions in that are not yet in their place; writes those before."""
        for place, partition in enumerate(held):
            if partition == self.held[place]:
                continue
            self._write(place)
            self.held[place] = partition
            self._bring_in(place)
            self.swaps += 1

    def touch(self) -> None:
        """Marks all partitions as changed, after a training step."""
        self._dirty = set(range(len(self.held)))

    def flush(self) -> None:
        """Writes the partitions that have changed since they were read or written."""
        for place in sorted(self._dirty):
            self._write(place)

    def _bring_in(self, place: int) -> None:
        layout = self._files.layout
        for name, variables in self._variables.items():
            first = place * layout.place_rows(name)
            for start, records in self._files.chunks(name, self.held[place]):
                rows = tf.range(first + start, first + start + len(records))
                row_format = self._files.formats[name]
                for field, variable in variables.items():
                    values = records[field]
                    if field == VECTOR:
                        values = row_format.vectors(records)
                    # A copy: TensorFlow may keep numpy's memory otherwise.
                    values = tf.constant(np.ascontiguousarray(values))
                    variable.scatter_update(tf.IndexedSlices(values, rows))

    def _write(self, place: int) -> None:
        if place not in self._dirty:
            return
        for name in self._variables:
            self._files.write(name, self.held[place], self._records(name, place))
        self._dirty.discard(place)

    def _records(self, name: str, place: int) -> Iterator[np.ndarray]:
        variables = self._variables[name]
        rows = self._files.layout.place_rows(name)
        first = place * rows
        for start in range(0, rows, CHUNK):
            # By gather: reading a variable that sparse updates change copies all of it.
            part = tf.range(first + start, first + min(start + CHUNK, rows))
            state = {
                field: tf.gather(variable, part).numpy()
                for field, variable in variables.items()
            }
            vectors = state.pop(VECTOR)
            yield self._files.formats[name].records(vectors, state)
