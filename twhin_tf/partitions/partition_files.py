"""Partitions of node tables as files: rows of a vector and its optimizer's state.

FOLDER/TYPE/00003-000017.bin       partition 3, written by the 17th write

A file is never changed: a new version is written beside it, so that checkpoints can
refer to the old one. What was never written starts as its initializer draws it.
"""

import dataclasses
import os
import pathlib
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import tensorflow as tf
import tf_keras as keras

from recap_tf.core import keras_privates
from recap_tf.core.command import UserError
from twhin_tf.graph.entities import file_stem
from twhin_tf.model.node_tables import NodeTable
from twhin_tf.partitions.partition_layout import Layout

CHUNK = 65_536
"""Rows that are read, written or drawn at once."""

Versions = dict[str, list[int]]
"""Type -> version of each partition; 0 for one that was never written."""


@dataclasses.dataclass(frozen=True)
class RowFormat:
    """A row of a partition in its file: a vector and its optimizer's state.

    Args:
        dim: numbers per vector.
        storage: their type: "float32", "float16", "bfloat16".
        state: name of an optimizer's state -> (float32 numbers per row, 0 for a single
            one without a dimension of its own; value it starts from).
        initializer: how vectors start: a Keras initializer's name or config.
    """

    dim: int
    storage: str
    state: Mapping[str, tuple[int, float]]
    initializer: str | Mapping[str, Any]

    @classmethod
    def of(cls, table: NodeTable, dim: int) -> "RowFormat":
        """Derives the format of a node type's table, vectors `dim` wide."""
        optimizer = table.spec("rows", 1, dim).make_optimizer()
        row = tf.Variable(tf.zeros([1, dim]))
        keras_privates.create_state(optimizer, [row])
        state = {
            name: [optimizer.get_slot(row, name).shape[1:].num_elements(), start]
            for name, start in optimizer.slot_starts().items()
        }
        for name, numbers_and_start in state.items():
            if optimizer.get_slot(row, name).shape.rank == 1:
                numbers_and_start[0] = 0
        return cls(dim, table.storage, state, table.initializer)

    @property
    def record(self) -> np.dtype:
        """The type of a row in a file."""
        # Files know no bfloat16, but 16 bits.
        vector = "<u2" if self.storage == "bfloat16" else f"<{self.dtype.str[1:]}"
        fields = [("vector", vector, (self.dim,))]
        for name, (numbers, _) in self.state.items():
            fields.append((name, "<f4", (numbers,) if numbers else ()))
        return np.dtype(fields)

    @property
    def dtype(self) -> np.dtype:
        """The type of a vector's numbers in memory."""
        return np.dtype(getattr(ml_dtypes, self.storage, self.storage))

    def vectors(self, records: np.ndarray) -> np.ndarray:
        """Takes the vectors of records: (n,) -> (n, dim)."""
        return records["vector"].view(self.dtype)

    def records(
        self, vectors: np.ndarray, state: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Makes (n,) records of (n, dim) vectors and the optimizer's state by name."""
        records = np.empty(len(vectors), self.record)
        records["vector"] = vectors.astype(self.dtype).view(records["vector"].dtype)
        for name in self.state:
            records[name] = state[name]
        return records

    def drawn(self, rows: int, seed: int) -> np.ndarray:
        """Draws (rows,) records as they start."""
        initializer = keras.initializers.get(self.initializer)
        settings = initializer.get_config()
        if "seed" in settings:
            # As it is, every chunk of every partition would start the same.
            settings["seed"] = (seed + (settings["seed"] or 0)) % 2**31
        vectors = type(initializer).from_config(settings)((rows, self.dim))
        starts = {name: start for name, (_, start) in self.state.items()}
        return self.records(np.asarray(vectors), starts)


class PartitionFiles:
    """Reads and writes partitions.

    Args:
        folder: on this machine; those of one run only.
        layout: of the tables.
        formats: type -> the format of its rows, of the types that are parted.
        seed: of what the rows start as.

    Attributes:
        versions: the present ones, each partition's last; `go_on_from` changes them.

    Raises:
        UserError: the folder is not on this machine, or an initializer goes by the
            number of rows.
    """

    def __init__(
        self, folder: str, layout: Layout, formats: Mapping[str, RowFormat], seed: int
    ):
        if "://" in folder:
            raise UserError(
                "Partitions.folder must be on this machine (of a save_dir that is not, "
                f"give one). Received: {folder!r}"
            )
        for name, row_format in formats.items():
            if hasattr(keras.initializers.get(row_format.initializer), "mode"):
                raise UserError(
                    f"The initializer of type {name!r} must not go by the number of "
                    "rows, which are drawn part by part with Partitions. Received: "
                    f"{row_format.initializer}"
                )
        self.layout, self.formats = layout, formats
        self.versions: Versions = {name: [0] * layout.count for name in formats}
        self.folder, self.seed = folder, seed
        self._last = 0

    def chunks(self, name: str, partition: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first row within the partition, records), `CHUNK` rows at once."""
        rows, version = self.layout.place_rows(name), self.versions[name][partition]
        record = self.formats[name].record
        for start in range(0, rows, CHUNK):
            size = min(CHUNK, rows - start)
            if version:
                path = self._path(name, partition, version)
                offset = start * record.itemsize
                chunk = np.fromfile(path, record, size, offset=offset)
            else:
                chunk = self._drawn(name, partition, start, size)
            yield start, chunk

    def vectors(self, name: str, partition: int, rows: np.ndarray) -> np.ndarray:
        """Reads the vectors of n rows of a partition, (n, dim)."""
        if version := self.versions[name][partition]:
            # Mapped for this call only: pages stay resident as long as a map does.
            mapped = np.memmap(
                self._path(name, partition, version), self.formats[name].record, "r"
            )
            return self.formats[name].vectors(np.array(mapped[rows]))
        row_format = self.formats[name]
        vectors = np.empty((len(rows), row_format.dim), row_format.dtype)
        for start, records in self.chunks(name, partition):
            inside = (rows >= start) & (rows < start + len(records))
            if inside.any():
                drawn = row_format.vectors(records)
                vectors[inside] = drawn[rows[inside] - start]
        return vectors

    def check_complete(self, name: str) -> None:
        """Raises UserError if a file of type `name` is missing or too short."""
        for partition, version in enumerate(self.versions[name]):
            path = self._path(name, partition, version)
            rows = self.layout.place_rows(name)
            size = rows * self.formats[name].record.itemsize
            if version and (not path.exists() or path.stat().st_size != size):
                raise UserError(
                    f"{path} must hold {rows} rows of type {name!r}, {size} bytes. "
                    f"Received: {path.stat().st_size if path.exists() else 'no file'}"
                )

    def write(self, name: str, partition: int, chunks: Iterable[np.ndarray]) -> None:
        """Writes a new version of a partition; the one before stays."""
        self._last += 1
        path = self._path(name, partition, self._last)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            for records in chunks:
                records.tofile(file)
        self.versions[name][partition] = self._last

    def go_on_from(self, versions: Versions) -> None:
        """Takes the versions of a checkpoint for the present ones."""
        self.versions = {name: list(numbers) for name, numbers in versions.items()}
        self._last = max(max(numbers) for numbers in versions.values())

    def remove_all_but(self, referenced: Iterable[Versions]) -> None:
        """Deletes the files of versions that are neither present nor `referenced`."""
        spared = {
            self._path(name, partition, version)
            for versions in [self.versions, *referenced]
            for name, numbers in versions.items()
            for partition, version in enumerate(numbers)
        }
        for name in self.formats:
            for path in self._path(name, 0, 0).parent.glob("*.bin"):
                if path not in spared:
                    os.remove(path)

    def _path(self, name: str, partition: int, version: int) -> pathlib.Path:
        return (
            pathlib.Path(self.folder)
            / file_stem(name)
            / f"{partition:05d}-{version:06d}.bin"
        )

    def _drawn(self, name: str, partition: int, start: int, size: int) -> np.ndarray:
        text = f"{self.seed}/{name}/{partition}/{start}"
        return self.formats[name].drawn(size, zlib.crc32(text.encode()))
