"""Small models of the kind that TF Serving's own tests serve, and odd ones."""

import pathlib

import tensorflow as tf
from served import save_any

_TEXTS = tf.TensorSpec([None], tf.string, "inputs")


def _floats(*shape: int | None, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(shape, tf.float32, name)


class HalfPlus(tf.Module):
    """y = x / 2 + b, of tensors `x` and of examples that hold an `x`."""

    def __init__(self, b: float):
        super().__init__()
        self.a, self.b = tf.Variable(0.5), tf.Variable(b)

    @tf.function(input_signature=[_floats(None, 1, name="x")])
    def predict(self, x):
        return {"y": self.a * x + self.b}

    @tf.function(input_signature=[_TEXTS])
    def regress(self, inputs):
        return {"outputs": self.a * _parsed(inputs, "x") + self.b}

    @tf.function(input_signature=[_TEXTS])
    def regress_x2(self, inputs):
        return {"outputs": self.a * _parsed(inputs, "x2") + self.b + 1.0}

    @tf.function(input_signature=[_TEXTS])
    def classify(self, inputs):
        return {"scores": self.a * _parsed(inputs, "x") + self.b}


def _parsed(examples: tf.Tensor, name: str) -> tf.Tensor:
    spec = {name: tf.io.FixedLenFeature([1], tf.float32, [0.0])}
    return tf.io.parse_example(examples, spec)[name]


def save_half_plus(folder: pathlib.Path, b: float, *, named: bool = True) -> None:
    """Saves a `HalfPlus` as the version `folder`.

    Args:
        named: classify and regress signatures say so in their method_name, as exports
            of TensorFlow 1 do; else all say predict, as tf.saved_model.save leaves it.
    """
    model = HalfPlus(b)
    signatures = {
        "serving_default": model.predict,
        "regress_x_to_y": model.regress,
        "regress_x2_to_y3": model.regress_x2,
        "classify_x_to_y": model.classify,
    }
    if named:
        save_any(folder, model, signatures)
    else:
        tf.saved_model.save(model, str(folder), signatures)


class Odd(tf.Module):
    """Signatures of all kinds that clients and servers disagree about."""

    def __init__(self):
        super().__init__()
        self.weights = tf.Variable([[1.0], [2.0], [3.0]])

    @tf.function(input_signature=[_floats(None, 3, name="x")])
    def product(self, x):
        return {"y": tf.matmul(x, self.weights)}

    @tf.function(input_signature=[_floats(None, name="x")])
    def same(self, x):
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[_floats(None, None, name="x")])
    def same_rows(self, x):
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[_floats(name="x")])
    def scalar(self, x):
        return {"y": 2.0 * x}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def text(self, text):
        return {"text_bytes": tf.identity(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.uint8, "n")])
    def uint8(self, n):
        return {"m": tf.identity(n)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.half, "x")])
    def half(self, x):
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[_floats(None, name="x")])
    def complex(self, x):
        return {"y": tf.complex(x, x)}

    @tf.function(input_signature=[_TEXTS])
    def integers(self, inputs):
        spec = {"x": tf.io.VarLenFeature(tf.int64)}
        values = tf.io.parse_example(inputs, spec)["x"]
        return {"outputs": tf.cast(tf.sparse.reduce_sum(values, 1), tf.float32)}

    @tf.function(input_signature=[_TEXTS])
    def floats(self, inputs):
        spec = {"x": tf.io.VarLenFeature(tf.float32)}
        values = tf.io.parse_example(inputs, spec)["x"]
        return {"outputs": tf.reshape(tf.sparse.reduce_sum(values, 1), [-1])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def other_names(self, examples):
        x = _parsed(examples, "x")
        return {"outputs": x, "more": x, "most": x}

    @tf.function(input_signature=[_TEXTS, _floats(None, name="more")])
    def two_inputs(self, inputs, more):
        return {"outputs": _parsed(inputs, "x")[:, 0] + more}

    @tf.function(input_signature=[_TEXTS])
    def no_values(self, inputs):
        return {"other": _parsed(inputs, "x")}


def _with_default() -> tf.types.experimental.PolymorphicFunction:
    ten = tf.constant([10.0])

    @tf.function(
        input_signature=[_floats(None, name="a"), tf.TensorSpec([1], tf.float32, "b")]
    )
    def add(a, b=ten):
        return {"y": a + b}

    return add


def save_odd(folder: pathlib.Path) -> None:
    """Saves an `Odd` as the version `folder`."""
    model = Odd()
    # b of `add` is 10 where a request leaves it out.
    model.add = _with_default()
    signatures = {
        "serving_default": model.product,
        "same": model.same,
        "same_rows": model.same_rows,
        "scalar": model.scalar,
        "text": model.text,
        "uint8": model.uint8,
        "half": model.half,
        "complex": model.complex,
        "add": model.add,
        "regress_integers": model.integers,
        "regress_floats": model.floats,
        "regress_other_names": model.other_names,
        "regress_two_inputs": model.two_inputs,
        "regress_no_values": model.no_values,
        "classify_no_values": model.no_values,
    }
    save_any(folder, model, signatures)


class Meeting(tf.Module):
    """Answers when others are there too: shows what runs at the same time."""

    def __init__(self, seconds: float):
        super().__init__()
        self.seconds, self.arrived = seconds, tf.Variable(0)

    @tf.function(input_signature=[_floats(None, 1, name="x")])
    def count(self, x):
        """present = callers so far, when they are x or the time is over."""
        self.arrived.assign_add(1)
        end = tf.timestamp() + self.seconds
        wanted = tf.cast(x[0, 0], tf.int32)
        present = tf.constant(0)
        while present < wanted and tf.timestamp() < end:
            present = self.arrived.read_value()
        return {"present": tf.fill([tf.shape(x)[0]], present)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([1], tf.string, "own"),
            tf.TensorSpec([1], tf.string, "other"),
        ]
    )
    def meet(self, own, other):
        """Writes the file `own`; fails unless somebody writes `other` in time."""
        tf.io.write_file(own[0], "here")
        end = tf.timestamp() + self.seconds
        there = tf.constant(False)
        while not there and tf.timestamp() < end:
            there = tf.size(tf.io.matching_files(other[0])) > 0
        tf.debugging.assert_equal(there, True, "nobody else is loaded at this time")
        return {"there": tf.reshape(there, [1])}


def save_meeting(folder: pathlib.Path, seconds: float = 10.0) -> None:
    """Saves a `Meeting` as the version `folder`."""
    model = Meeting(seconds)
    signatures = {"serving_default": model.count, "meet": model.meet}
    save_any(folder, model, signatures)
