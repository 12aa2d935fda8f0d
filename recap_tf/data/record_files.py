"""The record files that a data set consists of, and whether they are whole."""

import dataclasses
import datetime
import posixpath
import zlib
from collections.abc import Sequence

import gin
import numpy as np
import tensorflow as tf

from recap_tf.core.checks import check_range
from recap_tf.core.command import say

_GZIP_MAGIC = b"\x1f\x8b"
_BATCH = 32
FRAME_BYTES = 16  # around each record: its length and two checksums
_FORMATS = {3: "%Y/%m/%d", 4: "%Y/%m/%d/%H"}
_STEPS = {3: datetime.timedelta(days=1), 4: datetime.timedelta(hours=1)}
_UNITS = {3: "days", 4: "hours"}


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class DatedFolders:
    """The last `length` days or hours of a log: root/YYYY/MM/DD[/HH]/*.gz.

    Args:
        root: the folder above the years.
        end: the last day "YYYY/MM/DD" or hour "YYYY/MM/DD/HH", inclusive; its form
            says which of the two is meant.
        length: days or hours, counted back from `end`.
        missing: how many of them may be missing or empty.
    """

    root: str
    end: str
    length: int
    missing: int = 0

    def __post_init__(self):
        for name, least in (("length", 1), ("missing", 0)):
            check_range(f"DatedFolders.{name}", getattr(self, name), at_least=least)
        self._end()

    def _end(self) -> datetime.datetime:
        pattern = _FORMATS.get(len(self.end.split("/")))
        try:
            return datetime.datetime.strptime(self.end, pattern or "")
        except ValueError:
            raise ValueError(
                "DatedFolders.end must be YYYY/MM/DD or YYYY/MM/DD/HH. "
                f"Received: {self.end!r}"
            ) from None

    def moments(self, beyond: int = 0) -> list[datetime.datetime]:
        """When each day or hour begins, oldest first, and so many more after `end`."""
        step = _STEPS[len(self.end.split("/"))]
        backs = reversed(range(-beyond, self.length))
        return [self._end() - back * step for back in backs]

    def folder(self, moment: datetime.datetime) -> str:
        """The folder of the day or hour that begins at `moment`."""
        form = _FORMATS[len(self.end.split("/"))]
        return posixpath.join(self.root, moment.strftime(form))

    def paths(self) -> list[str]:
        """The files, oldest folder first.

        Raises:
            ValueError: more folders than `missing` are missing or empty, or all are.
        """
        paths, absent = [], []
        for folder in map(self.folder, self.moments()):
            files = sorted(tf.io.gfile.glob(posixpath.join(folder, "*.gz")))
            paths += files
            if not files:
                absent.append(folder)
        if len(absent) > self.missing:
            unit = _UNITS[len(self.end.split("/"))]
            raise ValueError(
                f"DatedFolders: {len(absent)} of {self.length} {unit} below "
                f"{self.root} are missing or empty, {self.missing} tolerated. The "
                f"first is {absent[0]}."
            )
        if not paths:
            raise ValueError(
                f"DatedFolders: all of the {self.length} folders below {self.root} are "
                f"missing or empty. The last is {absent[-1]}."
            )
        return paths


def list_files(pattern: str) -> list[str]:
    """The files that match a glob, sorted.

    Raises:
        ValueError: there are none.
    """
    try:
        paths = sorted(tf.io.gfile.glob(pattern))
    except tf.errors.UnimplementedError as error:
        scheme = pattern.split("://")[0]
        raise ValueError(
            f"Records.files = {pattern!r}: TensorFlow has no file system for "
            f"{scheme}://. s3, hdfs and az come with: pip install 'recap-tf[io]'"
        ) from error
    if not paths:
        raise ValueError(f"Records.files = {pattern!r} matches no file.")
    return paths


def compression(path: str) -> str:
    """TensorFlow's name of a record file's compression, by its first bytes."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return "GZIP" if file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC else ""


def open_records(path: tf.Tensor | str, compression: tf.Tensor | str):
    """A file's records as they come, up to any damage."""
    # TensorFlow's default is slower, and it says on stderr that it is the default.
    return tf.data.TFRecordDataset(path, compression, buffer_size=1 << 20)


def read_whole(
    path: tf.Tensor, compression: tf.Tensor, *, strict: bool
) -> tf.data.Dataset:
    """The records of one file, with a check at its end that nothing was missing.

    TensorFlow takes a file that was cut off for one that ends there.

    Args:
        path: scalar.
        compression: scalar, see `compression`.
        strict: damage is an error, after the records before it; otherwise a line on
            stderr. Both name the file and how far it was read.
    """
    # An empty batch marks the end; unpacking the batches drops it. Batches, because a
    # function call per record would cost more than the reading.
    end = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string))
    batches = (
        open_records(path, compression).ignore_errors().batch(_BATCH).concatenate(end)
    )

    def check(read, batch):
        count, size = read
        number = tf.size(batch, tf.int64)
        more = tf.reduce_sum(tf.cast(tf.strings.length(batch), tf.int64))
        tf.cond(
            number > 0,
            lambda: True,
            lambda: tf.numpy_function(
                _check_strictly if strict else _check, [path, count, size], tf.bool
            ),
        )
        return (count + number, size + more + FRAME_BYTES * number), batch

    zero = tf.constant(0, tf.int64)
    return batches.scan((zero, zero), check).unbatch()


def _check_strictly(path: bytes, count: int, size: int) -> np.bool_:
    if damage := _damage(path.decode(), count, size):
        raise ValueError(damage)
    return np.bool_(True)


def _check(path: bytes, count: int, size: int) -> np.bool_:
    if damage := _damage(path.decode(), count, size):
        say(f"\nwarning: {damage} The rest was left out.")
    return np.bool_(True)


def _damage(path: str, count: int, size: int) -> str | None:
    missing = missing_end(path, size)
    return missing and f"{path}: damaged after {count} records ({missing})."


def missing_end(path: str, size: int) -> str | None:
    """Why a file that was read to its end is not whole, or None.

    TensorFlow takes a gzip stream that stops between two records, and a plain file
    that stops within a record's length, for complete.
    """
    with tf.io.gfile.GFile(path, "rb") as file:
        total = file.size()
        if not total:
            return "the file is empty"
        if compression(path) != "GZIP":
            return None if size == total else f"{total - size} bytes are left over"
        file.seek(max(total - 4, 0))
        # The trailer of a gzip stream: its unpacked length modulo 2^32.
        if int.from_bytes(file.read(4), "little") == size % 2**32 and total >= 18:
            return None
        return _unpacking_fault(file, size)


def _unpacking_fault(file: tf.io.gfile.GFile, size: int) -> str | None:
    """Unpacks the whole file, which may be several gzip streams in a row."""
    file.seek(0)
    unpack = zlib.decompressobj(wbits=31)
    unpacked = 0
    try:
        while block := file.read(1 << 20):
            while block:
                unpacked += len(unpack.decompress(block))
                block = unpack.unused_data
                if unpack.eof and block:
                    unpack = zlib.decompressobj(wbits=31)
    except zlib.error as error:
        return f"gzip: {error}"
    if not unpack.eof:
        return "the gzip stream is cut off"
    return None if unpacked == size else f"{unpacked - size} bytes are left over"


def shard(paths: Sequence[str], index: int, count: int) -> list[str]:
    """Every `count`-th path: what input pipeline `index` of `count` reads.

    Raises:
        ValueError: there are fewer files than pipelines.
    """
    if len(paths) < count:
        raise ValueError(
            f"{len(paths)} files cannot be shared out to {count} input pipelines; "
            "write the data set to at least that many files."
        )
    return list(paths[index::count])
