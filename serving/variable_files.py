"""Whether the files of a version's variables are whole, seen before it is loaded."""

import math

import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import saved_model_pb2

from serving.errors import Code, ServingError, tensorflow_errors


def check_variable_files(path: str) -> None:
    """Raises unless the files hold as many bytes as their index says.

    The version that fails most often is one that is still being copied. To find it out
    by loading it would make its graph first, each time it is tried: that holds the
    interpreter for a tenth of a second, and requests wait for it.

    Args:
        path: the version's folder.

    Raises:
        ServingError: NOT_FOUND, there are none, or what TensorFlow says of the index;
            DATA_LOSS, they are too short.
    """
    if not _restores(f"{path}/saved_model.pb"):
        return
    prefix = f"{path}/variables/variables"
    with tensorflow_errors():
        index = tf.train.load_checkpoint(prefix)
        if not tf.io.gfile.exists(f"{prefix}.index"):
            return  # Of the format before TensorFlow 1.0.
        dtypes = index.get_variable_to_dtype_map()
        expected = sum(
            math.prod(shape) * dtypes[name].size
            for name, shape in index.get_variable_to_shape_map().items()
            if dtypes[name].is_numpy_compatible and dtypes[name] != tf.string
        )
        shards = tf.io.gfile.glob(f"{prefix}.data-?????-of-?????")
        found = sum(tf.io.gfile.stat(shard).length for shard in shards)
    if found < expected:
        raise ServingError(
            Code.DATA_LOSS,
            f"{prefix}.data-* have {found} bytes; expected at least {expected}",
        )


def _restores(path: str) -> bool:
    """Whether the model of that file has variables; no if it cannot be read."""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            model = saved_model_pb2.SavedModel.FromString(file.read())
    except (tf.errors.OpError, message.DecodeError):
        return False  # Loading it says why.
    return any(one.HasField("saver_def") for one in model.meta_graphs)
