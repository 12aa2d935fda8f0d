"""The skew check: what it counts by hand, and against servers and folders."""

import json

import numpy as np
import pytest
import tensorflow as tf

from serving import compare
from serving.client import CallError, Client
from serving.command import UserError
from serving.predict_messages import predict_request
from serving.tools.differences import OutputDifference, ranks
from serving.tools.recording import Recorder


def _added(*pairs) -> OutputDifference:
    difference = OutputDifference()
    for number, (left, right) in enumerate(pairs):
        difference.add(number, np.array(left), np.array(right))
    return difference


def test_differences_by_hand():
    difference = _added(
        ([1.0, 2.0], [1.0, 2.5]), ([[4.0], [0.0], [1.0]], [[4], [1], [0]])
    )
    assert (difference.values, difference.unequal) == (5, 3)
    assert (difference.largest, difference.mean) == (1.0, 0.5)
    assert difference.worst == (1, [1, 0], 0.0, 1.0)
    # The second request's last two rows change places.
    assert (difference.ranked, difference.moved, difference.farthest) == (5, 2, 1)
    assert (difference.rankings, difference.other_first) == (2, 0)


def test_of_equal_differences_the_first_is_told():
    difference = _added(([1.0, 5.0], [2.0, 5.0]), ([7.0], [8.0]))
    assert (difference.largest, difference.worst) == (1.0, (0, [0], 1.0, 2.0))


def test_every_column_is_a_ranking():
    left = [[0.9, 0.1], [0.5, 0.2], [0.1, 0.3]]
    right = [[0.4, 0.1], [0.5, 0.2], [0.1, 0.3]]
    difference = _added((left, right))
    assert (difference.rankings, difference.other_first, difference.moved) == (2, 1, 2)
    assert difference.moved_share == pytest.approx(2 / 6)


def test_ties_share_a_rank():
    assert ranks(np.array([3.0, 5.0, 3.0, 1.0])).tolist() == [1, 0, 1, 3]
    assert _added(([2.0, 2.0, 1.0], [2.0, 2.0, 1.5])).moved == 0


@pytest.mark.parametrize(
    "left, right, largest",
    [
        ([np.nan, np.inf], [np.nan, np.inf], 0.0),
        ([np.nan], [1.0], np.inf),
        ([np.inf], [-np.inf], np.inf),
        ([1.0, 2.0], [1.0], np.inf),
        ([3], [5], 2.0),
        ([], [], 0.0),
        ([True], [False], 1.0),
        (["a"], ["a"], 0.0),
        (["a"], ["b"], np.inf),
        (["a"], [1.0], np.inf),
    ],
)
def test_values_of_every_kind(left, right, largest):
    assert _added((left, right)).largest == largest


class _Shifted(tf.Module):
    """The small server's score, with `more` added to rows whose first value is 1."""

    def __init__(self, more):
        super().__init__()
        self.more = more

    @tf.function(input_signature=[{"x": tf.TensorSpec([None, 3], tf.float32, "x")}])
    def score(self, inputs):
        x = inputs["x"]
        score = tf.linalg.matvec(x, [1.0, 2.0, 3.0])
        more = tf.where(x[:, 0] == 1, self.more, 0.0)
        return {"score": score + more, "parts": x * [1.0, 2.0, 3.0]}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folder of `more` -> SavedModel."""
    folder = tmp_path_factory.mktemp("shifted")
    for more in (0.0, 0.25, 100.0):
        module = _Shifted(more)
        signatures = {"serving_default": module.score}
        tf.saved_model.save(module, str(folder / str(more)), signatures)
    return folder


@pytest.fixture(scope="module")
def log(small_server, tmp_path_factory):
    """A log of two requests of two rows, with the small server's answers."""
    path = tmp_path_factory.mktemp("log") / "requests.tfrecord.gz"
    with Recorder(str(path)) as recorder, Client(small_server) as client:
        for x in ([[1, 0, 0], [9, 0, 0]], [[0, 0, 1], [0, 2, 0]]):
            request = predict_request("small", {"x": np.array(x, np.float32)})
            recorder.write(request, client.send(request))
    return path


def _run(log, left, right, *flags) -> int:
    return compare.main(
        [f"--requests={log}", f"--left={left}", f"--right={right}", *flags]
    )


def test_a_server_and_the_folder_that_it_serves_agree(
    small_server, served_model, log, capsys
):
    server = f"grpc://{small_server}/small"
    for right in (f"{server}/versions/1", f"{server}/labels/stable", "logged"):
        assert _run(log, server, right, "--tolerance=0") == 0
    assert _run(log, served_model / "2", "logged", "--tolerance=0") == 0
    assert "2 requests compared, 0 failed" in capsys.readouterr().out


def test_versions_and_labels_are_asked_for(small_server, tmp_path, capsys):
    path, x = tmp_path / "log", np.ones([1, 3], np.float32)
    with Recorder(str(path)) as recorder:
        # The recorded version is not asked for: that is the sides' to say.
        recorder.write(predict_request("old", {"x": x}, signature="which", version=9))
    server = f"grpc://{small_server}/small"
    for old in (f"{server}/versions/1", f"{server}/labels/stable"):
        assert _run(path, old, server) == 1
        assert "version: differs by 1, more than 1e-05" in capsys.readouterr().out
        assert _run(path, old, f"{server}/versions/1") == 0


def test_an_output_that_a_folder_lacks_is_a_failure(
    small_server, folders, tmp_path, capsys
):
    path, x = tmp_path / "log", np.ones([1, 3], np.float32)
    with Recorder(str(path)) as recorder:
        recorder.write(predict_request("small", {"x": x}))
        recorder.write(predict_request("small", {"x": x}, outputs=["gone"]))
    server = f"grpc://{small_server}/small"
    assert _run(path, server, folders / "0.0") == 0
    said = "1 requests compared, 1 failed with the same code"
    assert said in capsys.readouterr().out


def test_skew_is_found_and_told(folders, log, tmp_path, capsys):
    path = tmp_path / "found.json"
    assert _run(log, folders / "0.0", folders / "0.25", f"--json={path}") == 1
    said = capsys.readouterr().out
    assert "BEYOND  score: differs by 0.25, more than 1e-05" in said
    assert "score: farthest apart in request 0 at [0]: 1.0 against 1.25" in said
    report = json.loads(path.read_text())
    assert report["outputs"]["score"]["mean"] == 0.0625
    assert report["outputs"]["score"]["moved_share"] == 0
    assert report["outputs"]["parts"]["largest"] == 0
    flags = ["--tolerance=score=0.3", "--rank-tolerance=0"]
    assert _run(log, folders / "0.0", folders / "0.25", *flags) == 0
    # By a hundred: the first request's rows change places.
    flags = ["--tolerance=200", "--rank-tolerance=0.4"]
    assert _run(log, folders / "0.0", folders / "100.0", *flags) == 1
    assert "score: 50.000% of the rows have another rank" in capsys.readouterr().out


def test_examples_are_replayed(small_server, served_model, tmp_path, capsys):
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=[1, 2, 3]))
    features = tf.train.Features(feature={"x": feature})
    example = tf.train.Example(features=features).SerializeToString()
    with tf.io.TFRecordWriter(str(tmp_path / "examples")) as writer:
        for record in (example, example, example, b"no example"):
            writer.write(record)
    flags = [
        f"--examples={tmp_path / 'examples'}",
        f"--left=grpc://{small_server}/small",
        f"--right={served_model / '1'}",
        "--batch=1",
    ]
    assert compare.main(flags) == 0
    said = capsys.readouterr().out
    assert "3 requests compared, 1 failed with the same code on both sides, 0" in said
    assert compare.main([*flags, "--limit=2"]) == 0
    assert "2 requests compared, 0 failed" in capsys.readouterr().out


def test_a_request_that_one_side_fails_is_a_difference(
    small_server, folders, tmp_path, capsys
):
    path = tmp_path / "log"
    with Recorder(str(path)) as recorder:
        x = np.ones([1, 3], np.float32)
        recorder.write(predict_request("small", {"x": x}))
        recorder.write(predict_request("small", {"x": x}, signature="ragged"))
        recorder.write(predict_request("small", {"x": x}, outputs=["score"]))
    left, right = f"grpc://{small_server}/small", folders / "0.0"
    assert _run(path, left, right, "--tolerance=1") == 1
    said = capsys.readouterr().out
    assert "request 1: INVALID_ARGUMENT input size" in said
    assert 'against FAILED_PRECONDITION Serving signature key "ragged" not' in said
    assert "BEYOND  1 requests were not answered alike" in said
    with pytest.raises(UserError, match=r"No request was answered by both sides: requ"):
        _run(path, left, "logged")


@pytest.mark.parametrize(
    "left, flags, text",
    [
        ("grpc://localhost", [], r"Expected grpc://HOST:PORT/MODEL.*Received: 'grpc:/"),
        ("nowhere", [], "'nowhere' is no SavedModel's folder; expected grpc"),
        ("logged", ["--tolerance=x"], "--tolerance must be a number .* Received: 'x'"),
        ("logged", ["--tolerance=-1"], "--tolerance must be a number .* Received: '-1"),
        ("logged", ["--tolerance=q=1"], "--tolerance 'q' must be one of the outputs"),
        ("logged", ["--limit=0"], "--limit must be at least 1. Received: 0"),
        ("logged", ["--batch=0"], "--batch must be at least 1. Received: 0"),
    ],
)
def test_arguments_that_are_refused(log, left, flags, text):
    with pytest.raises(UserError, match=text):
        _run(log, left, "logged", *flags)


def test_a_model_that_is_not_served_is_said_once(small_server, log):
    with pytest.raises(CallError, match=r"NOT_FOUND: .*Latest.other"):
        _run(log, f"grpc://{small_server}/other", "logged")
