"""The files of a version, looked at before it is loaded."""

import functools
import math
from collections.abc import Collection

import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from serving.errors import ServingError
from serving.models import same_graph
from serving.status_codes import Code
from serving.tensorflow_errors import tensorflow_errors


class VersionFiles:
    """The files of a version.

    Args:
        path: the version's folder.
        tags: which meta graph of the SavedModel is meant.
    """

    def __init__(self, path: str, tags: Collection[str] = ("serve",)):
        self.path = path
        self.variables = f"{path}/variables/variables"
        self._model = _read(f"{path}/saved_model.pb")
        self.tags = set(tags)

    @property
    def meta_graph(self) -> meta_graph_pb2.MetaGraphDef | None:
        """The meta graph of the tags; None if there is none, or no file to read."""
        for meta_graph in self._model.meta_graphs:
            if set(meta_graph.meta_info_def.tags) == self.tags:
                return meta_graph
        return None

    @functools.cached_property
    def fingerprint(self) -> bytes | None:
        """A hash, equal for versions that differ in variables only; None: unknown."""
        if self.meta_graph is None or not same_graph.is_refillable(self.meta_graph):
            return None
        return same_graph.fingerprint(self.meta_graph)

    def check(self) -> None:
        """Raises unless the variables' files hold as many bytes as their index says.

        The version that fails most often is one that is still being copied. To find it
        out by loading it would make its graph first, each time it is tried: that holds
        the interpreter for a tenth of a second, and requests wait for it.

        Raises:
            ServingError: NOT_FOUND, there are none, or what TensorFlow says of the
                index; DATA_LOSS, they are too short.
        """
        if not any(graph.HasField("saver_def") for graph in self._model.meta_graphs):
            return
        with tensorflow_errors():
            index = tf.train.load_checkpoint(self.variables)
            if not tf.io.gfile.exists(f"{self.variables}.index"):
                return  # Of the format before TensorFlow 1.0.
            dtypes = index.get_variable_to_dtype_map()
            expected = sum(
                math.prod(shape) * dtypes[name].size  # 0 for text, of any length.
                for name, shape in index.get_variable_to_shape_map().items()
            )
            shards = tf.io.gfile.glob(f"{self.variables}.data-?????-of-?????")
            size = sum(tf.io.gfile.stat(shard).length for shard in shards)
        if size < expected:
            raise ServingError(
                Code.DATA_LOSS,
                f"{self.variables}.data-* have {size} bytes; expected at least "
                f"{expected}",
            )


def _read(path: str) -> saved_model_pb2.SavedModel:
    """The file's message; an empty one if it cannot be read: loading it says why."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return saved_model_pb2.SavedModel.FromString(file.read())
    except (tf.errors.OpError, message.DecodeError):
        return saved_model_pb2.SavedModel()
