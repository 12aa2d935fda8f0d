"""SavedModels of every make, served from one config file over real sockets."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from served import Code, answer, fails, predicting, request, rest, running, save_any
from tensorflow.core.protobuf.saver_pb2 import SaverDef
from tensorflow_serving.apis import predict_pb2

from serving.models.saved_model import load_saved_model
from serving.models.version_files import VersionFiles

v1 = tf.compat.v1


def _save_tf1(folder, write_version: int = SaverDef.V2) -> None:
    """A graph with a variable, a table that an op fills, and two signatures."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], "x")
        weights = v1.get_variable("w", initializer=[[2.0], [3.0]], use_resource=False)
        y = tf.matmul(x, weights)
        words = v1.placeholder(tf.string, [None], "words")
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a", "b"], [1, 2]), -1
        )
        ids = table.lookup(words)
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "serving_default": signature({"x": x}, {"y": y}),
                "look_up": signature({"words": words}, {"ids": ids}),
            },
            main_op=v1.tables_initializer(),
            saver=v1.train.Saver(write_version=write_version),
        )
        builder.save()


def _save_constant(folder) -> None:
    """A graph of TensorFlow 1 without variables: its folder of them is empty."""
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], "x")
        y = tf.matmul(x, tf.constant([[2.0], [3.0]]))
        builder = v1.saved_model.Builder(str(folder))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(
            session, ["serve"], {"serving_default": signature}
        )
        builder.save()


def _save_keras(folder) -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1, name="d")])
    model.layers[-1].set_weights([np.array([[2.0], [3.0]]), np.array([1.0])])
    model.export(str(folder))


def _save_distributed(folder) -> None:
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        module = tf.Module()
        module.w = tf.Variable([[2.0], [3.0]])

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
        def predict(x):
            return {"y": tf.matmul(x, module.w)}

    save_any(folder, module, {"serving_default": predict})


def _save_every_dtype(folder, *more: str) -> None:
    names = "float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool string"
    names = [*names.split(), "float16", "bfloat16", *more]
    specs = {n: tf.TensorSpec([None], tf.dtypes.as_dtype(n), n) for n in names}

    @tf.function(input_signature=[specs])
    def echo(inputs):
        return {f"{name}_out": tf.identity(tensor) for name, tensor in inputs.items()}

    @tf.function(input_signature=[])
    def nothing():
        return {"tasks": tf.constant(["a", "b"])}

    save_any(folder, tf.Module(), {"serving_default": echo, "nothing": nothing})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("makes")
    makes = {
        "tf1": _save_tf1,
        "tf0": lambda folder: _save_tf1(folder, SaverDef.V1),
        "constant": _save_constant,
        "keras": _save_keras,
        "distributed": _save_distributed,
        "reals": _save_every_dtype,
        "dtypes": lambda folder: _save_every_dtype(folder, "complex64"),
    }
    config = ""
    for name, make in makes.items():
        (folder / name).mkdir()
        make(folder / name / "7")
        config += f'config {{ name: "{name}" base_path: "{folder / name}" '
        config += 'model_platform: "tensorflow" }\n'
    (folder / "models.config").write_text(f"model_config_list {{ {config} }}")
    with running(
        model_config_file=str(folder / "models.config"),
        enable_serialization_as_tensor_content=False,
    ) as server:
        yield server


@pytest.fixture
def stub(server):
    with predicting(server.grpc.ports[0]) as stub:
        yield stub


def _ask(name: str, **inputs) -> predict_pb2.PredictRequest:
    asked = request(None, name=name)
    for alias, value in inputs.items():
        asked.inputs[alias].CopyFrom(tf.make_tensor_proto(value))
    return asked


@pytest.mark.parametrize("name", ["tf1", "tf0"])
def test_a_graph_of_tensorflow_1(stub, name):
    response = stub.Predict(_ask(name, x=[[1.0, 1.0], [0.0, 1.0]]))
    assert answer(response) == [5.0, 3.0]
    asked = _ask(name, words=["b", "q"])
    asked.model_spec.signature_name = "look_up"
    response = stub.Predict(asked)
    # The table was filled by the graph's own op.
    assert list(response.outputs["ids"].int_val) == [2, -1]
    assert response.model_spec.signature_name == "look_up"


def test_a_graph_without_variables(stub):
    assert answer(stub.Predict(_ask("constant", x=[[1.0, 1.0]]))) == [5.0]


def test_a_keras_export(stub, server):
    signature = server.catalog.models["keras"].versions[7]._model.signatures
    assert "serving_default" in signature
    ((alias, _),) = signature["serving_default"].inputs.items()
    response = stub.Predict(_ask("keras", **{alias: [[1.0, 1.0]]}))
    ((_, output),) = response.outputs.items()
    assert list(output.float_val) == [6.0]
    status, answered = rest(
        server, "POST", "/v1/models/keras:predict", {"instances": [[1.0, 2.0]]}
    )
    assert (status, answered) == (200, {"predictions": [[9.0]]})


def test_a_model_saved_under_a_strategy(stub):
    response = stub.Predict(_ask("distributed", x=[[1.0, 1.0]]))
    assert answer(response) == [5.0]


VALUES = {
    "float64": [1.5, -2.0],
    "int8": [-128, 127],
    "int16": [-32768, 3],
    "int32": [-(2**31), 5],
    "int64": [-(2**63), 2**63 - 1],
    "uint8": [0, 255],
    "uint16": [0, 65535],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1],
    "bool": [True, False],
    "string": [b"\xff\x00", b"x"],
    "float16": [0.5, 65504.0],
    "bfloat16": [1.0, 2.0],
    "complex64": [1 + 2j, -3j],
}


@pytest.mark.parametrize("as_content", [False, True])
def test_every_dtype_goes_in_and_comes_out(stub, as_content):
    asked = request(None, name="dtypes")
    for name, values in VALUES.items():
        dtype = tf.dtypes.as_dtype(name)
        array = np.array(values, dtype.as_numpy_dtype)
        proto = asked.inputs[name]
        if as_content and name != "string":
            proto.dtype = dtype.as_datatype_enum
            proto.tensor_shape.dim.add(size=2)
            proto.tensor_content = array.tobytes()
        else:
            proto.CopyFrom(tf.make_tensor_proto(array, dtype))
    outputs = stub.Predict(asked).outputs
    for name, values in VALUES.items():
        returned = tf.make_ndarray(outputs[f"{name}_out"])
        assert returned.tolist() == np.array(values, returned.dtype).tolist(), name


def test_complex_outputs_have_no_json(server):
    sent = {
        name: values
        for name, values in VALUES.items()
        if name not in ("string", "complex64")
    }
    sent["string"] = [{"b64": "/wA="}, "x"]
    sent["complex64"] = [1, 2]
    path = "/v1/models/dtypes:predict"
    status, answered = rest(server, "POST", path, {"inputs": sent})
    assert status == 501
    assert "output complex64_out: complex numbers" in answered["error"]


def test_json_of_every_dtype_but_complex(server):
    sent = {n: v for n, v in VALUES.items() if n not in ("string", "complex64")}
    sent["string"] = [{"b64": "/wA="}, "x"]
    path = "/v1/models/reals:predict"
    status, answered = rest(server, "POST", path, {"inputs": sent})
    assert status == 200
    outputs = answered["outputs"]
    for name in set(sent) - {"string"}:
        assert outputs[f"{name}_out"] == sent[name], name


@pytest.mark.parametrize(
    "name, value",
    [
        ("int8", 128),
        ("uint32", -1),
        ("uint64", 2**64),
        ("int64", 10**30),
        ("int32", 1.0),
        ("int32", True),
        ("float64", "1.5"),
        ("float64", 10**400),
        ("bool", 1),
        ("string", 5),
        ("string", {"b64": "*"}),
        ("float16", None),
    ],
)
def test_json_that_does_not_fit_names_the_input(server, name, value):
    sent = {n: v for n, v in VALUES.items() if n not in ("string", "complex64")}
    sent |= {"string": ["a", "b"], "complex64": [1, 2]}
    sent[name] = [sent[name][0], value]
    status, answered = rest(
        server, "POST", "/v1/models/dtypes:predict", {"inputs": sent}
    )
    assert status == 400
    assert f"input {name}" in answered["error"]


def test_a_signature_without_inputs(stub):
    asked = request(None, name="dtypes", signature_name="nothing")
    assert list(stub.Predict(asked).outputs["tasks"].string_val) == [b"a", b"b"]


def test_models_do_not_answer_for_each_other(stub):
    _, message = fails(stub.Predict, _ask("tf1", q=[[1.0, 2.0]]))
    assert message.startswith("Signature input alias: x(feed name: x:0) not found")


class _Many(tf.Module):
    """Seven outputs, and an input that may be left out."""

    def __init__(self):
        super().__init__()
        own = tf.constant([10.0])

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.float32, "a"),
                tf.TensorSpec([None], tf.float32, "b"),
                tf.TensorSpec([1], tf.float32, "c"),
            ]
        )
        def predict(a, b, c=own):
            return {f"y{i}": i * a + b + c for i in range(7)}

        self.predict = predict


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    model = _Many()
    save_any(folder / "1", model, {"serving_default": model.predict})
    return folder


def _many(**inputs: list[float]) -> predict_pb2.PredictRequest:
    asked = request(None)
    for name, values in inputs.items():
        asked.inputs[name].CopyFrom(tf.make_tensor_proto(np.array(values, np.float32)))
    return asked


def test_an_input_with_a_default_may_be_left_out(many):
    with (
        running(model_base_path=str(many)) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        answered = stub.Predict(_many(a=[1.0], b=[2.0]))
        assert answer(answered, "y3") == [15.0]
        answered = stub.Predict(_many(a=[1.0], b=[2.0], c=[0.0]))
        assert answer(answered, "y3") == [5.0]
        # As in TF Serving: with defaults, too few are not a matter of their number.
        for inputs in ({"a": [1.0]}, {"a": [1.0], "z": [1.0]}):
            assert fails(stub.Predict, _many(**inputs)) == (
                Code.INVALID_ARGUMENT,
                "Signature input alias: b(feed name: serving_default_b:0) not found in "
                "request and no default value provided. Inputs expected to be in the "
                "set {a,b,c}.",
            )
        code, message = fails(stub.Predict, _many(a=[1.0], b=[1.0], c=[1.0], d=[1.0]))
        assert code is Code.INVALID_ARGUMENT
        assert message.startswith("input size does not match signature: 4!=3 ")


def test_chosen_outputs_take_bounded_memory(many):
    model = load_saved_model(VersionFiles(str(many / "1")))
    signature = model.signature("serving_default")
    ones = {name: np.ones([1], np.float32) for name in "abc"}
    for count in (1, 2, 3, 4):
        for chosen in itertools.permutations(sorted(signature.outputs), count):
            outputs_run = model.run(signature, ones, chosen)
            assert list(outputs_run) == list(chosen)
            assert all(outputs_run[name] == 2 + int(name[1]) for name in chosen)
    made = [c for c in model._callables if c.outputs]
    assert len(made) <= 65
    model.close()
