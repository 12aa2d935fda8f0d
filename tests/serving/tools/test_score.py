"""Files scored over a real socket, and what is wrong with files said in a line."""

import decimal
import gzip
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from served import running

from serving import score
from serving.client import CallError
from serving.command import UserError
from serving.tools import recording, rows


def _example(values) -> bytes:
    feature = tf.train.Feature(float_list=tf.train.FloatList(value=values))
    features = tf.train.Features(feature={"x": feature})
    return tf.train.Example(features=features).SerializeToString()


def _write_examples(path, rows, compression="") -> None:
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for row in rows:
            writer.write(_example(row))


def _run(server, *flags) -> int:
    return score.main([f"--server={server}", "--model=small", *map(str, flags)])


ROWS = np.arange(33, dtype=np.float32).reshape(11, 3)
SCORES = (ROWS @ np.array([1, 2, 3], np.float32)).tolist()


def test_examples_are_scored_in_their_order(small_server, tmp_path, capfd):
    _write_examples(tmp_path / "a.tfrecord", ROWS[:6])
    _write_examples(tmp_path / "b.tfrecord", ROWS[6:], "GZIP")
    out, log = tmp_path / "new" / "out.parquet", tmp_path / "log.tfrecord.gz"
    pattern = tmp_path / "*.tfrecord"
    flags = ["--batch=4", "--in-flight=1", f"--record={log}"]
    assert _run(small_server, f"--examples={pattern}", f"--out={out}", *flags) == 0
    table = pq.read_table(out)
    assert table["score"].to_pylist() == SCORES
    assert table["parts"][1].as_py() == [3, 8, 15]
    said, progress = capfd.readouterr()
    assert f"Scored 11 rows with version 2 of 'small' into {out}" in said
    assert "11/11" in progress
    assert not list(tmp_path.glob("**/*partial*"))
    calls = list(recording.read_requests([str(log)]))
    assert [len(call.request.inputs["examples"].string_val) for call in calls] == [
        4,
        4,
        3,
    ]
    assert calls[0].response.outputs["score"].float_val[1] == SCORES[1]
    # A version that comes meanwhile must not score the rest.
    assert {call.request.model_spec.version.value for call in calls} == {2}


def test_parquet_columns_are_inputs_and_can_be_kept(small_server, tmp_path):
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(
        pa.table(
            {
                "ids": pa.array([[1, 2, 3], [], [5]], pa.list_(pa.int32())),
                "name": ["one", "two", "three"],
                "key": [7, 8, 9],
            }
        ),
        source,
    )
    flags = [f"--parquet={source}", f"--out={out}", "--signature=ragged", "--batch=2"]
    assert _run(small_server, *flags, "--keep=key", "--version=1") == 0
    table = pq.read_table(out)
    assert table.column_names == ["key", "name", "total"]
    assert table["total"].to_pylist() == [6, 0, 5]
    assert table["name"].to_pylist() == [b"one", b"two", b"three"]
    assert table["key"].to_pylist() == [7, 8, 9]


def test_lists_of_one_length_are_rows(small_server, tmp_path):
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"x": ROWS.tolist()}), source)
    assert (
        _run(small_server, f"--parquet={source}", f"--out={out}", "--outputs=score")
        == 0
    )
    assert pq.read_table(out).to_pydict() == {"score": SCORES}


class _Kinds(tf.Module):
    """Gives back what it is given: texts, floats, integers."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def text(self, text):
        return {"out": tf.identity(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def floats(self, x):
        return {"out": tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "n")])
    def integers(self, n):
        return {"out": tf.identity(n)}


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    base = tmp_path_factory.mktemp("kinds")
    model = _Kinds()
    signatures = {"text": model.text, "floats": model.floats, "n": model.integers}
    for version in ("0", "1"):
        tf.saved_model.save(model, str(base / version), signatures)
    with running(model_base_path=str(base), model_name="small") as server:
        yield f"localhost:{server.grpc.ports[0]}"


NAMES = ["user:1", "user:2\0", "user:1"]
UUID = uuid.UUID(int=7)
TENTH = [decimal.Decimal("0.1"), decimal.Decimal("-7.0")]
LARGE = [decimal.Decimal(2**62 + 1), decimal.Decimal(-3)]


@pytest.mark.parametrize(
    "name, column, expected",
    [
        ("text", pa.array(NAMES, pa.large_string()), NAMES),
        ("text", pa.array(NAMES, pa.string_view()), NAMES),
        ("text", pa.array(NAMES).dictionary_encode(), NAMES),
        ("text", pa.array(NAMES, pa.large_string()).dictionary_encode(), NAMES),
        ("text", pa.array([n.encode() for n in NAMES], pa.large_binary()), NAMES),
        ("text", pa.array([n.encode() for n in NAMES], pa.binary_view()), NAMES),
        ("text", pa.array([b"ab", b"cd"], pa.binary(2)), ["ab", "cd"]),
        ("text", pa.array([UUID.bytes], pa.uuid()), [str(UUID)]),
        ("floats", pa.array(TENTH), [np.float32(0.1), -7.0]),
        ("floats", pa.array(TENTH).dictionary_encode(), [np.float32(0.1), -7.0]),
        ("floats", pa.array([1e-300, -1e38]), [0.0, np.float32(-1e38)]),
        ("floats", pa.array([np.inf, -np.inf]), [np.inf, -np.inf]),
        ("n", pa.array(LARGE, pa.decimal128(38, 0)), [2**62 + 1, -3]),
        ("n", pa.array(LARGE, pa.decimal256(60, 2)), [2**62 + 1, -3]),
        ("n", pa.array([5, 5], pa.uint64()), [5, 5]),
        ("n", pa.array([True, False]), [1, 0]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_columns_of_every_type_are_read(kinds, tmp_path, name, column, expected):
    alias = {"text": "text", "floats": "x", "n": "n"}[name]
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({alias: column}), source)
    flags = [f"--parquet={source}", f"--out={out}", f"--signature={name}"]
    assert _run(kinds, *flags) == 0
    scored = pq.read_table(out)["out"].to_pylist()
    if name == "text":
        scored = [text.decode() for text in scored]
    assert scored == expected


@pytest.mark.parametrize(
    "name, columns, text",
    [
        ("floats", {"x": pa.array([1.0, 1e300])}, "'x' has values that are no float32"),
        ("floats", {"x": pa.array([1.0, -1e300])}, r"no float32: -1e\+300"),
        ("floats", {"x": pa.array([3], pa.duration("s"))}, "numbers. Received: dura"),
        (
            "n",
            {"n": pa.array([2**63], pa.uint64())},
            "are no int64: 9223372036854775808",
        ),
        ("n", {"n": pa.array([decimal.Decimal("1.5")])}, "values that are no int64"),
        ("n", {"n": pa.array([decimal.Decimal(2**63)])}, "values that are no int64"),
        ("n", {"n": pa.array([None, "1"]).dictionary_encode()}, "'n' has nulls"),
        ("text", {"text": pa.array([decimal.Decimal(1)])}, "strings. Received: decim"),
        ("text", [("text", ["a"]), ("text", ["b"])], "has 2 columns named 'text', whi"),
    ],
)
def test_values_that_an_input_cannot_hold_are_refused(
    kinds, tmp_path, name, columns, text
):
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    names = [n for n, _ in columns] if isinstance(columns, list) else list(columns)
    arrays = [c for _, c in columns] if isinstance(columns, list) else columns.values()
    pq.write_table(pa.Table.from_arrays(list(map(pa.array, arrays)), names), source)
    flags = [f"--parquet={source}", f"--out={out}", f"--signature={name}"]
    with pytest.raises(UserError, match=text):
        _run(kinds, *flags)
    assert not out.exists()


def test_a_version_0_that_is_not_served_is_refused(kinds, tmp_path):
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"n": [1]}), source)
    flags = [f"--parquet={source}", f"--out={out}", "--signature=n"]
    with pytest.raises(UserError, match="--version 0 of --model 'small' is not served"):
        _run(kinds, *flags, "--version=0")
    assert not out.exists()


@pytest.mark.parametrize(
    "columns, signature, text",
    [
        ({"y": [1.0]}, "serving_default", "has no column 'x', which is an input"),
        ({"x": [1.0]}, "serving_default", r"'x' must give the shape \(None, 3\). Rec"),
        ({"x": [[1.0], [1.0, 2.0]]}, "serving_default", "lists of 1 to 2 values, and"),
        ({"x": [[1.0, None, 2.0]]}, "serving_default", "column 'x' has nulls"),
        ({"x": [["a", "b", "c"]]}, "serving_default", "must hold numbers. Received: s"),
        ({"ids": [1], "name": ["a"]}, "ragged", "'ids' must hold lists, and no nulls"),
        ({"ids": [[1.5]], "name": ["a"]}, "ragged", "has values that are no int64"),
        ({"ids": [[1]], "name": [3]}, "ragged", "must hold strings. Received: int64"),
        ({"x": [[1.0]]}, "other", "--signature 'other' must be one of .'ragged', "),
        ({"x": []}, "serving_default", "There are no rows in"),
    ],
)
def test_what_parquet_files_are_refused_for(
    small_server, tmp_path, columns, signature, text
):
    source, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table(columns), source)
    flags = [f"--parquet={source}", f"--out={out}", f"--signature={signature}"]
    with pytest.raises(UserError, match=text):
        _run(small_server, *flags)
    assert not out.exists()
    assert not list(tmp_path.glob("*partial*"))


def test_a_damaged_file_is_named_and_leaves_nothing(small_server, tmp_path):
    _write_examples(tmp_path / "whole", ROWS, "GZIP")
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:40])
    flags = [f"--examples={tmp_path / 'cut'}", f"--out={tmp_path / 'out'}"]
    with pytest.raises(UserError, match="cut is not a sound TFRecord file"):
        _run(small_server, *flags)
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "cut"}


def test_an_error_of_the_server_ends_the_command(small_server, tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "bad")) as writer:
        for record in [_example(ROWS[0])] * 20 + [b"no example"] * 20:
            writer.write(record)
    flags = [f"--examples={tmp_path / 'bad'}", f"--out={tmp_path / 'out'}"]
    with pytest.raises(CallError, match=r"INVALID_ARGUMENT: .*example"):
        _run(small_server, *flags, "--batch=5", "--in-flight=4")
    assert {path.name for path in tmp_path.iterdir()} == {"bad"}


def test_flags_that_are_refused(small_server, tmp_path):
    path = tmp_path / "in"
    _write_examples(path, ROWS)
    given = [f"--examples={path}", f"--out={tmp_path / 'out'}"]
    for flag, text in {
        "--batch=0": r"--batch must be positive\. Received: 0",
        "--in-flight=-1": r"--in-flight must be positive\. Received: -1",
        "--keep=a": "--keep names columns of --parquet",
        "--signature=ragged": "'ragged' must have one input, of serialized tf.Examples",
    }.items():
        with pytest.raises(UserError, match=text):
            _run(small_server, *given, flag)
    for flag in ("--examples=nothing", "--examples=", "--parquet="):
        with pytest.raises(UserError, match=f"{flag.split('=')[1]!r} matches no file"):
            _run(small_server, flag, f"--out={tmp_path / 'out'}")


def test_a_log_that_is_none_is_refused(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "log")) as writer:
        writer.write(b"\xff\xff")
    with pytest.raises(UserError, match=r"Record 0 of .*log is not a PredictionLog"):
        list(recording.read_requests([str(tmp_path / "log")]))


def test_gzip_is_known_by_content(tmp_path):
    _write_examples(tmp_path / "plain", ROWS)
    plain = (tmp_path / "plain").read_bytes()
    (tmp_path / "packed").write_bytes(gzip.compress(plain))
    for name in ("plain", "packed"):
        assert len(list(rows.records([str(tmp_path / name)]))) == len(ROWS)
        assert rows.record_bytes([str(tmp_path / name)]) == len(plain)
