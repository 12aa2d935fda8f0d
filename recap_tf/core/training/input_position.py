"""The input's position: saved beside a checkpoint, restored when a run is resumed.

CHECKPOINT/position.index, position.data-*    of the only worker; of several, none
"""

import posixpath
from collections.abc import Callable, Iterator

import tensorflow as tf

_FILE = "position"


def write_position(path: str, iterator: Iterator) -> None:
    """Writes where `iterator` is now into the checkpoint in folder `path`."""
    tf.train.Checkpoint(position=iterator).write(posixpath.join(path, _FILE))


def restore_position(path: str, iterator: Iterator) -> bool:
    """Moves `iterator` to where the input was; False if that was not stored.

    Args:
        path: the checkpoint's folder.
        iterator: of the data set that was read.
    """
    prefix = posixpath.join(path, _FILE)
    if not tf.io.gfile.exists(f"{prefix}.index"):
        return False
    status = tf.train.Checkpoint(position=iterator).read(prefix)
    # TensorFlow would warn that its own counter of saves is not asked for.
    status.assert_existing_objects_matched().expect_partial()
    return True


class ResumableInput:
    """Batches that a resumed run goes on reading where it left off.

    Args:
        read: seed -> the batches in the order of that seed, from the first on.
        seed: of the order.
        restorable: whether a position can be saved: not with several replicas, nor
            with a tf.data service.

    Attributes:
        position: what a checkpoint saves to go on from here; None where it cannot.
    """

    def __init__(self, read: Callable[[int], Iterator], seed: int, restorable: bool):
        self._read, self._seed, self._restorable = read, seed, restorable
        self.position: Iterator | None = None

    def start(self, step: int, resumed: str | None) -> Iterator:
        """The batches after `step` updates.

        Args:
            step: 0 for a new run.
            resumed: the folder of the checkpoint that a run goes on from; None for a
                new run.
        """
        if self._restorable:
            iterator = self._read(self._seed)
            if resumed is None or restore_position(resumed, iterator):
                self.position = iterator
                return iterator
        # Where the position was not saved, a resumed run shuffles anew, lest it see
        # the first batches again in the same order.
        return self._read(self._seed + step)
