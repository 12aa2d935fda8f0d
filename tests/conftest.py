"""What every test needs: the golden numbers and a quiet, repeatable TensorFlow."""

import os
import pathlib
import re
import socket

import recap_tf  # noqa: F401  (chooses Keras 2, so before TensorFlow)

# isort: split
import gin
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from tensorflow.python.framework import config as tensorflow_config

from recap_tf.data.tasks import identifier
from recap_tf.model.mask_net import MaskBlock, MaskNet
from recap_tf.model.mlp import MLP
from recap_tf.model.preprocessors import Preprocessor
from recap_tf.model.ranking_model import RankingModel

GOLDEN = pathlib.Path(
    os.environ.get("RECAP_GOLDEN_DIR") or pathlib.Path(__file__).parent / "golden"
)


@pytest.fixture(autouse=True)
def no_config():
    """What a test loads, and what that sets, must not reach the next one."""
    yield
    gin.clear_config()
    keras.mixed_precision.set_global_policy("float32")
    # There is no public way back; the server's batching refuses to be deterministic.
    tensorflow_config.disable_op_determinism()


@pytest.fixture(autouse=True)
def fixed_seed():
    keras.utils.set_random_seed(17)


@pytest.fixture
def golden():
    """golden("mlp") -> the arrays of mlp.npz; golden.path(f) -> a file beside them."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    load.path = lambda file: str(GOLDEN / file)
    return load


@pytest.fixture
def reference_weights():
    """reference_weights(layer, prefix) -> {name in the golden files: our variable}."""
    return _reference_weights


@pytest.fixture
def assign_weights():
    """assign_weights(layer, arrays, prefix): gives a built layer the golden weights."""

    def assign(layer, arrays: dict[str, np.ndarray], prefix: str) -> None:
        names = [name for name in arrays if name.startswith(prefix)]
        # Calibration ratios are settings of ours, not weights.
        names = [name for name in names if "calibrator[" not in name]
        ours = _reference_weights(layer)
        assert {name.removeprefix(prefix) for name in names} == set(ours)
        for name in names:
            variable = ours[name.removeprefix(prefix)]
            variable.assign(as_ours(name, arrays[name]).reshape(variable.shape))

    return assign


def as_ours(name: str, array: np.ndarray) -> np.ndarray:
    """A golden array in our layout: dense weights are stored [output, input]."""
    return array.T if name.endswith("weight_out_in") else array


def _reference_weights(layer, prefix: str = "") -> dict[str, tf.Variable]:
    """Walks our layers with the golden files' names for them."""
    if isinstance(layer, RankingModel):
        found = _children(
            {
                "preprocessor": layer.preprocessor,
                "backbone": layer.backbone,
                **{
                    f"{name}_layer_norm": norm
                    for name, norm in layer.embedding_norms.items()
                },
                **{f"tower[{t}]": layer.towers[identifier(t)] for t in layer.tasks},
                **{
                    f"affine_map[{t}]": layer.affine_maps.get(identifier(t))
                    for t in layer.tasks
                },
            }
        )
    elif isinstance(layer, MaskNet):
        blocks = {f"mask_block_{i}": block for i, block in enumerate(layer.blocks)}
        found = _children(blocks | {"mlp": layer.mlp})
    elif isinstance(layer, MaskBlock):
        found = _children(
            {
                "input_layer_norm": layer.input_layer_norm,
                "mask_dense_0": layer.aggregate,
                "mask_dense_1": layer.expand,
                "hidden_dense": layer.hidden,
                "output_layer_norm": layer.output_layer_norm,
            }
        )
    elif isinstance(layer, MLP):
        found = _children(
            {f"dense_{i}": dense for i, dense in enumerate(layer.dense_layers)}
            | {f"batch_norm_{i}": norm for i, norm in enumerate(layer.batch_norms)}
        )
    elif isinstance(layer, Preprocessor):
        found = _children(
            {"batch_norm": layer.batch_norm, "layer_norm": layer.layer_norm}
        )
    else:
        theirs = {
            "kernel": "weight_out_in",
            "scale": "weight_out_in",
            "moving_mean": "running_mean",
            "moving_variance": "running_var",
        }
        found = {}
        for weight in layer.weights:
            own = re.sub(r":\d+$", "", weight.name).rsplit("/", 1)[-1]
            found[theirs.get(own, own)] = weight
    return {f"{prefix}{name}": variable for name, variable in found.items()}


def _children(layers: dict) -> dict[str, tf.Variable]:
    found = {}
    for name, layer in layers.items():
        if layer is not None:
            found |= _reference_weights(layer, f"{name}.")
    return found


class _ServedModel(tf.Module):
    """score = x . (1, 2, 3), of tensors and of examples; ragged adds ids up."""

    def __init__(self, version: int):
        super().__init__()
        self.version = version

    @tf.function(input_signature=[{"x": tf.TensorSpec([None, 3], tf.float32, "x")}])
    def score(self, inputs):
        score = tf.linalg.matvec(inputs["x"], [1.0, 2.0, 3.0])
        return {"score": score, "parts": inputs["x"] * [1.0, 2.0, 3.0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def score_examples(self, examples):
        spec = {"x": tf.io.FixedLenFeature([3], tf.float32)}
        return self.score({"x": tf.io.parse_example(examples, spec)["x"]})

    @tf.function(
        input_signature=[
            {
                "ids": tf.TensorSpec([None, None], tf.int64, "ids"),
                "ids_length": tf.TensorSpec([None], tf.int64, "ids_length"),
                "name": tf.TensorSpec([None, 1], tf.string, "name"),
            }
        ]
    )
    def ragged(self, inputs):
        real = tf.sequence_mask(inputs["ids_length"], tf.shape(inputs["ids"])[1])
        total = tf.reduce_sum(tf.where(real, inputs["ids"], 0), axis=1)
        return {"total": total, "name": inputs["name"][:, 0]}

    @tf.function(input_signature=[{"x": tf.TensorSpec([None, 3], tf.float32, "x")}])
    def which(self, inputs):
        return {"version": tf.fill([tf.shape(inputs["x"])[0]], self.version)}


@pytest.fixture(scope="session")
def served_model(tmp_path_factory):
    """A small served model's folder; versions 1 and 2 agree but for `which`."""
    folder = tmp_path_factory.mktemp("served") / "small"
    for version in (1, 2):
        model = _ServedModel(version)
        signatures = {
            "serving_default": model.score,
            "serve_examples": model.score_examples,
            "ragged": model.ragged,
            "which": model.which,
        }
        tf.saved_model.save(model, str(folder / str(version)), signatures)
    return folder


@pytest.fixture(scope="session")
def small_server(served_model, tmp_path_factory):
    """HOST:PORT of a server of `served_model`, called small; both versions serve."""
    from serving.fronts.flags import Flags
    from serving.model_server import Server

    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(
        "model_config_list { config { name: 'small' model_platform: 'tensorflow' "
        f"base_path: '{served_model}' model_version_policy {{ all {{}} }} "
        "version_labels { key: 'stable' value: 1 } } }"
    )
    with socket.socket() as one:
        one.bind(("localhost", 0))
        port = one.getsockname()[1]
    server = Server(
        Flags(
            port=port,
            model_config_file=str(config),
            allow_version_labels_for_unavailable_models=True,
            # It lives on while other tests replace what looks for versions.
            file_system_poll_wait_seconds=0,
        )
    )
    server.start()
    yield f"localhost:{port}"
    server.stop()
