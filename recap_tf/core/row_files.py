"""Reads parquet and CSV files as chunks of rows; never a whole file at once."""

import abc
import contextlib
import csv
import difflib
import glob
import io
import os
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import tensorflow as tf

from recap_tf.core.arrow_streams import Sink, open_source, readable
from recap_tf.core.command import UserError
from recap_tf.core.values.arrow_kinds import (
    BadValue,
    advice,
    decoded,
    kind_of,
    stored_type,
)
from recap_tf.core.values.guessed_kinds import casts, guess_kind

CHUNK_ROWS = 32_768
_HEAD_BYTES = 1 << 20
# Rows of a column of bytes, to see whether they are text.
_BYTES_LOOKED_AT = 4096
_GZIP = b"\x1f\x8b"
_SUFFIXES = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz")


class TableFile(abc.ABC):
    """One file of rows.

    `kinds` maps each column to what it holds: "text", "integer", "number" and the
    other kinds of `values.arrow_kinds`, or "other". `unreadable` says in a sentence why
    a column is "other" and what to do. `rows` is how many rows it has, exactly if
    `rows_are_exact`, else roughly, or None.
    """

    path: str
    kinds: dict[str, str]
    unreadable: dict[str, str]
    rows: int | None
    rows_are_exact: bool

    def require(self, columns: Iterable[str], also: Iterable[str] = ()) -> None:
        """Raises UserError, with the nearest names, if a column is missing.

        Args:
            columns: names that the file must hold.
            also: further names that the user could have meant.
        """
        for name in columns:
            if name not in self.kinds:
                known = nearest(name, [*self.kinds, *also])
                raise UserError(f"{self.path} has no column {name!r}. {known}")

    def chunks(self, columns: Iterable[str]) -> Iterator[tuple[int, pa.Table]]:
        """Yields (number of the chunk's first row, counted from 1; its rows)."""
        columns = list(dict.fromkeys(columns))
        self.require(columns)
        # Without any column a chunk would have no rows either.
        wanted = columns or list(self.kinds)[:1]
        row = 1
        with readable(self.path):
            for batch in self._batches(wanted):
                # Slices bound a chunk's size however large the file's batches are.
                for start in range(0, batch.num_rows, CHUNK_ROWS):
                    part = batch.slice(start, CHUNK_ROWS)
                    yield row, self._decoded(part, wanted, row)
                    row += part.num_rows

    def read(self) -> pa.Table:
        """Reads all columns and rows."""
        parts = [part for _, part in self.chunks(self.kinds)]
        return (
            pa.concat_tables(parts) if parts else pa.table({n: [] for n in self.kinds})
        )

    def fits_int64(self, column: str) -> bool:
        """Whether the whole numbers of an "integer" column fit 64 bits with sign.

        Of text files, what they begin with is looked at.
        """
        return True

    def _decoded(self, part: pa.RecordBatch, columns: list[str], row: int) -> pa.Table:
        arrays = {}
        for name in columns:
            values = part.column(name)
            try:
                arrays[name] = values if name in self.unreadable else decoded(values)
            except BadValue as error:
                raise UserError(
                    f"{self.path}, row {row + error.index}: column {name!r} is {error}."
                ) from error
        return pa.table(arrays)

    @abc.abstractmethod
    def _batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]: ...


class ParquetTable(TableFile):
    """A parquet file; `metadata` is what its writer noted beside the schema."""

    rows_are_exact = True

    def __init__(self, path: str):
        self.path = path
        with readable(path), open_source(path) as source:
            reader = pyarrow.parquet.ParquetFile(source)
            self.rows = reader.metadata.num_rows
            fields = list(reader.schema_arrow)
            self.kinds = {f.name: kind_of(f.type) for f in fields}
            self.unreadable = {}
            for field in fields:
                problem = advice(field.name, field.type)
                if not problem and _holds_bytes(field.type):
                    problem = _no_utf8(reader, field.name)
                if problem:
                    self.kinds[field.name] = "other"
                    self.unreadable[field.name] = problem
            self.metadata = dict(reader.schema_arrow.metadata or {})
            self._types = {field.name: field.type for field in fields}

    def fits_int64(self, column):
        kind = stored_type(self._types[column])
        if pa.types.is_integer(kind) and kind != pa.uint64():
            return True
        for _, table in self.chunks([column]):
            try:
                table[column].cast(pa.int64())
            except pa.ArrowInvalid:
                return False
        return True

    def _batches(self, columns):
        with open_source(self.path) as source:
            reader = pyarrow.parquet.ParquetFile(source)
            yield from reader.iter_batches(CHUNK_ROWS, columns=columns)


class CsvTable(TableFile):
    """A CSV or TSV file, compressed with gzip or not.

    All columns are read as text; an empty field, NA, NaN or null is a missing value.
    What `kinds` says is a guess from the first megabyte.

    Args:
        compressed: with gzip.
        names: of the columns, where the first line does not say them.
    """

    rows_are_exact = False

    def __init__(
        self, path: str, *, compressed: bool, names: Sequence[str] | None = None
    ):
        self.path = path
        self._headed = names is None
        self._compressed = compressed
        with readable(path), self._stream() as source:
            head = source.read(_HEAD_BYTES)
        line = head.split(b"\n", 1)[0]
        self._delimiter = max(",\t;", key=lambda mark: line.count(mark.encode()))
        self._names = self._header(head)
        if names is not None:
            if len(names) != len(self._names):
                raise UserError(
                    f"{path} has {len(self._names)} columns; to name them takes as "
                    f"many. Received: {', '.join(names)}"
                )
            self._names = list(names)
        size = tf.io.gfile.stat(path).length
        whole_file = len(head) < _HEAD_BYTES
        lines = head.rstrip(b"\n").count(b"\n")
        self.rows = None if compressed else lines * size // max(len(head), 1)
        if not whole_file:
            head = head[: head.rfind(b"\n") + 1]
        with readable(path), self._reader(pa.BufferReader(head), None) as reader:
            first = reader.read_all()
        self.kinds = {name: guess_kind(first[name]) for name in self._names}
        self.unreadable = {}
        self._wide = {
            name
            for name, kind in self.kinds.items()
            if kind == "integer" and not casts(first[name], pa.int64())
        }

    def fits_int64(self, column):
        return column not in self._wide

    def _batches(self, columns):
        with self._stream() as source, self._reader(source, columns) as reader:
            yield from reader

    @contextlib.contextmanager
    def _stream(self):
        with open_source(self.path) as source:
            if self._compressed:
                source = pa.CompressedInputStream(source, "gzip")
            yield source

    def _reader(self, source, columns: list[str] | None):
        return pyarrow.csv.open_csv(
            source,
            read_options=pyarrow.csv.ReadOptions(
                block_size=4 << 20,
                column_names=None if self._headed else self._names,
            ),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=self._delimiter, newlines_in_values=True
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                # Types guessed file by file would make two vocabularies of one
                # column; text is text in each of them.
                column_types={name: pa.string() for name in self._names},
                include_columns=columns,
                strings_can_be_null=True,
            ),
        )

    def _header(self, head: bytes) -> list[str]:
        text = head.decode("utf-8-sig", errors="replace")
        names = next(csv.reader(io.StringIO(text), delimiter=self._delimiter), [])
        repeated = [name for name in names if names.count(name) > 1]
        if repeated and self._headed:
            raise UserError(f"{self.path} has two columns named {repeated[0]!r}.")
        return names


def open_table(path: str, names: Sequence[str] | None = None) -> TableFile:
    """Opens a file of rows; parquet, CSV and gzip are told apart by content.

    >>> import tempfile
    >>> from recap_tf.core.row_files import open_table, write_parquet
    >>> path = f"{tempfile.mkdtemp()}/users.parquet"
    >>> write_parquet(path, pa.table({"name": ["ann", "bob"], "age": [30, 40]}))
    >>> open_table(path).kinds
    {'name': 'text', 'age': 'integer'}

    Args:
        path: on any file system that TensorFlow knows.
        names: of the columns of a CSV file without a header line.

    Raises:
        UserError: the file is missing, empty, or none of these.
    """
    with readable(path), tf.io.gfile.GFile(path, "rb") as file:
        head = file.read(4096)
    if not head:
        raise UserError(f"{path} is empty (0 bytes).")
    if head.startswith(b"PAR1"):
        return ParquetTable(path)
    compressed = head.startswith(_GZIP)
    if path.endswith(".parquet") or (b"\0" in head and not compressed):
        raise UserError(f"{path} cannot be read: it is neither parquet nor CSV.")
    return CsvTable(path, compressed=compressed, names=names)


def find_tables(
    patterns: Sequence[str],
    *,
    flag: str = "--input",
    names: Sequence[str] | None = None,
) -> list[TableFile]:
    """Opens the files that paths, globs and folders name, in that order.

    Args:
        flag: what the user calls the patterns.
        names: of the columns of CSV files without a header line.

    Raises:
        UserError: one of them matches nothing, or a file is not readable.
    """
    paths = []
    for pattern in patterns:
        matches = _matches(pattern)
        if not matches:
            raise UserError(f"{flag} {pattern} matches no file.")
        paths += matches
    return [open_table(path, names) for path in dict.fromkeys(paths)]


def write_parquet(path: str, table: pa.Table) -> None:
    """Writes a small table, on any file system TensorFlow knows."""
    buffer = pa.BufferOutputStream()
    pyarrow.parquet.write_table(table, buffer, compression="zstd")
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(buffer.getvalue().to_pybytes())


@contextlib.contextmanager
def parquet_writer(
    path: str, schema: pa.Schema
) -> Iterator[pyarrow.parquet.ParquetWriter]:
    """Opens a parquet file to write piece by piece, on any file system."""
    with (
        tf.io.gfile.GFile(path, "wb") as file,
        Sink(file) as sink,
        pyarrow.parquet.ParquetWriter(sink, schema, compression="zstd") as writer,
    ):
        yield writer


def nearest(name: str, names: Iterable[str]) -> str:
    """A sentence with the names closest to `name`, or with all if none is close."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"Nearest: {', '.join(map(repr, close))}."
    return f"It has: {', '.join(map(repr, names[:20]))}{', ...' * (len(names) > 20)}."


def _holds_bytes(kind: pa.DataType) -> bool:
    kind = stored_type(kind)
    return kind_of(kind) == "text" and "binary" in str(kind)


def _no_utf8(reader: pyarrow.parquet.ParquetFile, name: str) -> str | None:
    """Says that a column of bytes holds no text; None if its first rows do."""
    for batch in reader.iter_batches(_BYTES_LOOKED_AT, columns=[name]):
        try:
            decoded(batch.column(0))
        except BadValue as error:
            return f"Column {name!r} holds {error}."
        break
    return None


def _matches(pattern: str) -> list[str]:
    if tf.io.gfile.isdir(pattern):
        names = sorted(tf.io.gfile.listdir(pattern))
        return [os.path.join(pattern, n) for n in names if n.endswith(_SUFFIXES)]
    if "://" in pattern:
        return sorted(tf.io.gfile.glob(pattern))
    # A path with brackets in its name is still a path.
    return [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))
