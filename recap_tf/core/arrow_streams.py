"""Files on any file system TensorFlow knows, as pyarrow reads and writes them."""

import contextlib
import io
from collections.abc import Iterator

import pyarrow as pa
import tensorflow as tf

from recap_tf.core.command import UserError


@contextlib.contextmanager
def readable(path: str) -> Iterator[None]:
    """Turns what pyarrow and TensorFlow raise on a bad file into one clear line."""
    try:
        yield
    except (tf.errors.NotFoundError, FileNotFoundError) as error:
        raise UserError(f"{path} does not exist.") from error
    except (pa.ArrowException, tf.errors.OpError, OSError, UnicodeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} cannot be read: {reason}") from error


def open_source(path: str) -> pa.NativeFile:
    """Opens a file for reading."""
    if "://" in path:
        return pa.PythonFile(_RemoteFile(path), mode="r")
    return pa.OSFile(path)


class _RemoteFile(io.RawIOBase):
    """A file on any file system TensorFlow knows, as Python's own files are."""

    def __init__(self, path: str):
        self._file = tf.io.gfile.GFile(path, "rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def size(self) -> int:
        return self._file.size()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class Sink(io.RawIOBase):
    """A file that TensorFlow has open for writing, as Python's own files are."""

    def __init__(self, file: tf.io.gfile.GFile):
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self._file.write(bytes(data))
        return len(data)
