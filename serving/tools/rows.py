"""Rows, which requests are filled with: of record files, of parquet files, or made up.

Inputs of a request are a dict, a signature's alias -> array (rows, ...).
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from serving.command import UserError
from serving.predict_messages import SignatureSpec

Inputs = Mapping[str, np.ndarray]

_GZIP = b"\x1f\x8b"
_LENGTH = "_length"
_TEXTS = {
    "binary",
    "binary_view",
    "fixed_size_binary",
    "large_binary",
    "large_string",
    "string",
    "string_view",
}
_UUID = "extension<arrow.uuid>"


def example_input(key: str, signature: SignatureSpec) -> str:
    """The alias of the one input that takes serialized tf.Examples.

    Raises:
        UserError: the signature takes other things.
    """
    aliases = [a for a, s in signature.inputs.items() if s.dtype == tf.string]
    if len(signature.inputs) != 1 or len(aliases) != 1:
        raise UserError(
            f"Signature {key!r} must have one input, of serialized tf.Examples. "
            f"Received: {sorted(signature.inputs)}"
        )
    return aliases[0]


def match_files(pattern: str) -> list[str]:
    """The files of a pattern, in order; UserError if there is none."""
    paths = sorted(tf.io.gfile.glob(pattern))
    if not paths:
        raise UserError(f"{pattern!r} matches no file.")
    return paths


def record_bytes(paths: Sequence[str]) -> int:
    """About how many bytes the records of TFRecord files have, unpacked."""
    total = 0
    for path in paths:
        size = tf.io.gfile.stat(path).length
        with tf.io.gfile.GFile(path, "rb") as file:
            if file.read(2) == _GZIP and size > 4:
                # gzip ends with the length of what it holds, modulo 2^32.
                file.seek(size - 4)
                size = max(size, int.from_bytes(file.read(4), "little"))
        total += size
    return total


def records(paths: Sequence[str]) -> Iterator[bytes]:
    """The records of TFRecord files, gzip or not by their content, file by file.

    Raises:
        UserError: a file is damaged.
    """
    for path in paths:
        with tf.io.gfile.GFile(path, "rb") as file:
            compression = "GZIP" if file.read(2) == _GZIP else ""
        dataset = tf.data.TFRecordDataset(path, compression).batch(64)
        try:
            for batch in dataset.as_numpy_iterator():
                yield from batch
        except tf.errors.OpError as error:
            reason = error.message.splitlines()[0]
            raise UserError(f"{path} is not a sound TFRecord file: {reason}") from error


def example_batches(
    paths: Sequence[str], alias: str, size: int
) -> Iterator[dict[str, np.ndarray]]:
    """Serialized examples, `size` at a time, under the name `alias`."""
    serialized = records(paths)
    while batch := list(itertools.islice(serialized, size)):
        yield {alias: np.array(batch, object)}


def parquet_batches(
    paths: Sequence[str], signature: SignatureSpec, size: int
) -> Iterator[tuple[dict[str, np.ndarray], pa.RecordBatch]]:
    """Rows of parquet files as a signature's inputs, and as they stand in the file.

    The column NAME fills the input NAME: numbers and strings as (rows,) or (rows, 1),
    whichever the signature takes, lists as (rows, length). Where the signature takes
    NAME_length too, lists may differ in length and are filled up with zeros. Numbers,
    decimals among them, are converted to the input's type; strings may be of any of
    Arrow's types for text and bytes, dictionaries and UUIDs.

    Raises:
        UserError: a column is missing, or has nulls or values that do not fit.
    """
    lengths = {
        name
        for name in signature.inputs
        if name.endswith(_LENGTH) and name.removesuffix(_LENGTH) in signature.inputs
    }
    columns = [name for name in signature.inputs if name not in lengths]
    for path in paths:
        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} cannot be read as parquet: {error}") from error
        names = file.schema_arrow.names
        for name in columns:
            if (count := names.count(name)) != 1:
                what = "has no column" if count == 0 else f"has {count} columns named"
                raise UserError(f"{path} {what} {name!r}, which is an input.")
        for batch in file.iter_batches(size):
            inputs = {}
            for name in columns:
                column, spec = batch.column(name), signature.inputs[name]
                where = f"{path}: column {name!r}"
                if name + _LENGTH in lengths:
                    values, count = _ragged(where, column, spec)
                    inputs[name + _LENGTH] = count
                else:
                    values = _dense(where, column, spec)
                inputs[name] = values
            yield inputs, batch


def parquet_rows(paths: Sequence[str]) -> int:
    """The number of rows of parquet files."""
    return sum(pq.read_metadata(path).num_rows for path in paths)


def made_rows(
    signature: SignatureSpec, rows: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Inputs of the right types and shapes, random but for that.

    The first free dimension gets `rows`, any other 1; a fixed one stays as it is.
    Numbers are uniform in [0, 1), integers 0 or 1, so that lengths and ids hold.

    Raises:
        UserError: an input takes strings, which cannot be made up.
    """
    inputs = {}
    for name, spec in signature.inputs.items():
        if spec.dtype == tf.string:
            raise UserError(
                f"Input {name!r} takes strings, which cannot be made up: give "
                "--examples, --parquet or --requests."
            )
        shape = [
            (rows if i == 0 else 1) if size is None else size
            for i, size in enumerate(spec.shape.as_list())
        ]
        values = rng.random(shape)
        if not spec.dtype.is_floating:
            values = values < 0.5
        inputs[name] = values.astype(spec.dtype.as_numpy_dtype)
    return inputs


def _dense(where: str, column: pa.Array, spec: tf.TensorSpec) -> np.ndarray:
    rows = len(column)
    if column.null_count:
        raise UserError(f"{where} has nulls.")
    if _is_list(column.type):
        flat = column.flatten()
        counts = np.unique(column.value_lengths().to_numpy(zero_copy_only=False))
        if len(counts) > 1:
            raise UserError(
                f"{where} has lists of {counts[0]} to {counts[-1]} values, and the "
                "signature takes no lengths for them."
            )
        array = _values(where, flat, spec).reshape(rows, -1)
    else:
        array = _values(where, column, spec)
    if spec.shape.rank == 2 and array.ndim == 1:
        array = array[:, None]
    if not spec.shape.is_compatible_with(array.shape):
        raise UserError(
            f"{where} must give the shape {spec.shape}. Received: {array.shape}"
        )
    return array


def _ragged(where, column: pa.Array, spec) -> tuple[np.ndarray, np.ndarray]:
    if not _is_list(column.type) or column.null_count:
        raise UserError(f"{where} must hold lists, and no nulls.")
    counts = column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
    # Two requests of different widths are two shapes to the server: the next power
    # of two makes them few.
    width = 1 << max(int(counts.max(initial=0)) - 1, 0).bit_length()
    flat = _values(where, column.flatten(), spec)
    fill = b"" if spec.dtype == tf.string else 0
    array = np.full((len(column), width), fill, flat.dtype)
    array[np.arange(width) < counts[:, None]] = flat
    return array, counts


def _values(where: str, column: pa.Array, spec: tf.TensorSpec) -> np.ndarray:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        raise UserError(f"{where} has nulls.")
    if spec.dtype == tf.string:
        return _strings(where, column)
    wanted = np.dtype(spec.dtype.as_numpy_dtype)
    numbers = _numbers(where, column, spec.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        array = numbers.astype(wanted)
    # Down to a narrower float is rounding; anything else must come back as it was.
    if spec.dtype.is_floating:
        lost = np.isfinite(numbers) & ~np.isfinite(array)
    else:
        lost = array != numbers
    if lost.any():
        raise UserError(
            f"{where} has values that are no {wanted}: {numbers[lost.argmax()]}"
        )
    return array


def _strings(where: str, column: pa.Array) -> np.ndarray:
    if str(column.type) == _UUID:
        values = map(str, column.to_pylist())
    elif str(column.type).split("[")[0] in _TEXTS:
        values = column.to_pylist()
    else:
        raise UserError(f"{where} must hold strings. Received: {column.type}")
    # A comprehension: numpy would cut strings off at their trailing zeros.
    strings = [tf.compat.as_bytes(value) for value in values]
    array = np.empty(len(strings), object)
    array[:] = strings
    return array


def _numbers(where: str, column: pa.Array, dtype: tf.DType) -> np.ndarray:
    """The numbers as numpy has them, before they become `dtype`."""
    if pa.types.is_decimal(column.type):
        # What an integer is must not pass through a float.
        whole = pa.uint64() if dtype == tf.uint64 else pa.int64()
        kind = pa.float64() if dtype.is_floating else whole
        try:
            column = column.cast(kind)
        except pa.ArrowException as error:
            text = f"{where} has values that are no {kind}"
            raise UserError(f"{text}: {str(error).splitlines()[0]}") from error
    numbers = column.to_numpy(zero_copy_only=False)
    if numbers.dtype.kind not in "biuf":
        raise UserError(f"{where} must hold numbers. Received: {column.type}")
    return numbers


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
    )
