"""What JSON values become and come from, over a real socket: every kind of value."""

import pytest
import tensorflow as tf
from served import rest, running, save_any

PREDICT = "/v1/models/m:predict"


class _Kinds(tf.Module):
    """Signatures whose values, features and shapes JSON has to find a form for."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def text(self, x):
        return {"word": tf.strings.join(["ü", tf.as_string(x, precision=0)])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def same(self, x):
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def unequal(self, x):
        return {"y": tf.identity(x), "sum": tf.reduce_sum(x)[None]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def scalar(self, x):
        return {"sum": tf.reduce_sum(x)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, "a"),
            tf.TensorSpec([None], tf.float32, "b"),
        ]
    )
    def two(self, a, b):
        return {"y": a - b}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs):
        """n + 10 times the length of s + 100 f."""
        spec = {
            "n": tf.io.FixedLenFeature([], tf.int64),
            "s": tf.io.FixedLenFeature([], tf.string),
            "f": tf.io.FixedLenFeature([], tf.float32, 7.0),
        }
        given = tf.io.parse_example(inputs, spec)
        length = 10.0 * tf.cast(tf.strings.length(given["s"]), tf.float32)
        return {"outputs": tf.cast(given["n"], tf.float32) + length + 100 * given["f"]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs):
        return {"scores": self.regress(inputs)["outputs"][:, None]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify_words(self, inputs):
        spec = {"s": tf.io.FixedLenFeature([1], tf.string)}
        return {"classes": tf.io.parse_example(inputs, spec)["s"]}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("json")
    (folder / "m").mkdir()
    model = _Kinds()
    names = ["text", "same", "unequal", "scalar", "two"]
    names += ["regress", "classify", "classify_words"]
    save_any(folder / "m" / "3", model, {name: getattr(model, name) for name in names})
    config = folder / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{folder / "m"}" '
        'version_labels { key: "stable" value: 3 } } }'
    )
    with running(model_config_file=str(config)) as server:
        yield server


def test_strings_are_text_unless_their_output_says_bytes(server):
    body = {"signature_name": "text", "instances": [1.0, 2.0]}
    assert rest(server, "POST", PREDICT, body) == (200, {"predictions": ["ü1", "ü2"]})


@pytest.mark.parametrize("number", ["0.1", "1e-07", "16777216.0", "3.4028235e+38"])
def test_floats_are_the_shortest_decimals_that_are_read_as_the_same(server, number):
    # 0.1 as a float32 is 0.10000000149011612 in full.
    body = f'{{"signature_name": "same", "inputs": [{number}]}}'
    status, answered = rest(server, "POST", PREDICT, body)
    assert (status, answered) == (200, {"outputs": [float(number)]})


@pytest.mark.parametrize(
    "signature, outputs, sizes",
    [
        ("unequal", {"y": [1.0, 2.0], "sum": [3.0]}, ["'y': (2,)", "'sum': (1,)"]),
        ("scalar", 3.0, ["'sum': ()"]),
    ],
)
def test_outputs_without_rows_have_column_form_alone(server, signature, outputs, sizes):
    body = {"signature_name": signature, "inputs": [1.0, 2.0]}
    assert rest(server, "POST", PREDICT, body) == (200, {"outputs": outputs})
    body = {"signature_name": signature, "instances": [1.0, 2.0]}
    status, answered = rest(server, "POST", PREDICT, body)
    assert status == 400
    assert (
        "Outputs of different batch sizes have no row form; ask w" in answered["error"]
    )
    assert all(size in answered["error"] for size in sizes)


@pytest.mark.parametrize("form", ["instances", "inputs"])
def test_several_inputs_need_their_names(server, form):
    body = {"signature_name": "two", form: [1.0]}
    assert rest(server, "POST", PREDICT, body) == (
        400,
        {
            "error": "The signature has the inputs ['a', 'b']: values must be given "
            "by name"
        },
    )
    named = [{"a": 3.0, "b": 1.0}] if form == "instances" else {"a": [3.0], "b": [1.0]}
    status, answered = rest(server, "POST", PREDICT, body | {form: named})
    assert (status, *answered.values()) == (200, [2.0])


@pytest.mark.parametrize("version", ["", "/versions/3", "/labels/stable"])
def test_features_are_integers_floats_and_strings(server, version):
    examples = [
        {"n": 1, "s": "ab", "f": 0.5},
        # Two letters' bytes, given as such, and lists of one value.
        {"n": [2], "s": [{"b64": "//8="}], "f": [1.5]},
        # Without values it is left out, and the model's default is taken.
        {"n": 3, "s": "", "f": []},
    ]
    path = f"/v1/models/m{version}"
    body = {"signature_name": "regress", "examples": examples}
    answered = rest(server, "POST", f"{path}:regress", body)
    assert answered == (200, {"results": [71.0, 172.0, 703.0]})
    body = {"signature_name": "classify", "examples": examples[:1]}
    answered = rest(server, "POST", f"{path}:classify", body)
    assert answered == (200, {"results": [[["", 71.0]]]})


def test_labels_that_are_no_text_are_answered_all_the_same(server):
    body = {
        "signature_name": "classify_words",
        "examples": [{"s": "ü"}, {"s": {"b64": "YWL/"}}],
    }
    answered = rest(server, "POST", "/v1/models/m:classify", body)
    assert answered == (200, {"results": [[["ü", 0.0]], [["ab\ufffd", 0.0]]]})


def test_a_label_stands_in_every_path(server):
    for path in ("", "/metadata"):
        status, answered = rest(server, "GET", f"/v1/models/m/labels/stable{path}")
        assert (status, answered) == rest(
            server, "GET", f"/v1/models/m/versions/3{path}"
        )
        assert status == 200
        assert rest(server, "GET", f"/v1/models/m/labels/X{path}") == (
            400,
            {"error": "Unrecognized servable version label: X"},
        )
