import glob
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from recap_tf.conversion.columns import read_columns
from recap_tf.convert import main
from recap_tf.core.command import UserError
from recap_tf.data.schema import read_schema


@pytest.fixture
def log(tmp_path):
    """log(name, **columns) -> path of a parquet or CSV file."""

    def write(name, **columns):
        path = str(tmp_path / name)
        table = pa.table(columns)
        if name.endswith(".parquet"):
            pq.write_table(table, path)
        else:
            pa.csv.write_csv(table, path)
        return path

    return write


def records(folder, split="train"):
    """The split's records as {feature: list of values}, in order."""
    found = []
    for path in sorted(glob.glob(f"{folder}/{split}-*.tfrecord.gz")):
        for record in tf.data.TFRecordDataset(path, "GZIP").as_numpy_iterator():
            features = tf.train.Example.FromString(record).features.feature
            found.append(
                {
                    name: list(getattr(value, value.WhichOneof("kind")).value)
                    for name, value in features.items()
                }
            )
    return found


def column(folder, feature, split="train"):
    return [record[feature] for record in records(folder, split)]


def convert(*args):
    main([str(arg) for arg in args])


IMPRESSIONS = {
    "user": ["ann", "bob", "ann", "eve", None, "ann"],
    "country": ["de", "de", "fr", "fr", "de", "de"],
    "age": [30.0, None, 30.0, 7.0, 9.0, 30.0],
    "price": [5, 0, 1, 3, 2, 8],
    "clicked": [1, 0, 0, 1, 0, 1],
    "liked": [0, 0, 1, 0, 0, 0],
}


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_converts_rows_to_the_records_of_the_schema(log, tmp_path, suffix):
    path, out = log(f"log.{suffix}", **IMPRESSIONS), tmp_path / "data"
    convert(
        *("--input", path, "--out", out, "--labels", "clicked,liked"),
        *("--ids", "user,country", "--numeric", "age,price", "--min-count", "2"),
    )
    # ann 1 (3 times); bob, eve and the missing one occur once: rare. de 1, fr 2.
    assert records(out)[0] == {
        "continuous": [30.0, 5.0],
        "binary": [0],
        "discrete": [1, 1],
        "clicked": [1],
        "liked": [0],
    }
    assert column(out, "discrete") == [[1, 1], [0, 1], [1, 2], [0, 2], [0, 1], [1, 1]]
    assert column(out, "continuous")[1] == [0.0, 0.0]
    assert column(out, "binary") == [[0], [1], [0], [0], [0], [0]]
    schema = read_schema(str(out / "schema.json"))
    assert {name: (f.dtype, f.length) for name, f in schema.items()} == {
        "continuous": ("float_list", 2),
        "binary": ("int64_list", 1),
        "discrete": ("int64_list", 2),
        "clicked": ("int64_list", 1),
        "liked": ("int64_list", 1),
    }


def test_columns_file_holds_the_statistics(log, tmp_path):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"
    convert(
        *("--input", path, "--out", out, "--labels", "clicked,rich:price>=5"),
        *("--ids", "user", "--numeric", "age", "--group", "user", "--min-count", 1),
    )
    columns = json.loads((out / "columns.json").read_text())
    assert columns["rows"] == 6
    (age,) = columns["continuous"]
    logs = np.log1p([30.0, 0.0, 30.0, 7.0, 9.0, 30.0])
    assert {key: age[key] for key in ("missing", "zeros", "min", "max")} == {
        "missing": 1,
        "zeros": 0,
        "min": 7.0,
        "max": 30.0,
    }
    np.testing.assert_allclose(age["mean"], 106 / 5)
    np.testing.assert_allclose(age["std"], np.std([30, 30, 7, 9, 30]))
    np.testing.assert_allclose(age["log_mean"], logs.mean())
    np.testing.assert_allclose(age["log_std"], logs.std())
    assert columns["binary"] == [{"name": "age.missing", "column": "age", "ones": 1}]
    (user,) = columns["discrete"]
    assert user == {"name": "user", "size": 5, "rare": 0, "missing": 1}
    assert columns["group"] == "user"
    assert [label["positives"] for label in columns["labels"]] == [3, 2]
    assert read_columns(str(out / "columns.json")).continuous[0].max == 30.0


def test_vocabulary_is_written_with_counts(log, tmp_path):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"
    convert("--input", path, "--out", out, "--labels=clicked", "--min-count", 1)
    table = pq.read_table(out / "vocabulary" / "user.parquet").to_pydict()
    assert table["value"][0] == "ann"
    assert set(table["value"]) == {"ann", "bob", "eve", None}
    assert table["id"] == [1, 2, 3, 4]
    assert table["count"] == [3, 1, 1, 1]


def test_infers_what_columns_are_and_says_so(log, tmp_path, capsys):
    rows = 70
    path = log(
        "log.parquet",
        item_id=list(range(rows)),
        weekday=[i % 7 for i in range(rows)],
        duration=list(range(rows)),
        score=[i / 7 for i in range(rows)],
        city=["a", "b"] * (rows // 2),
        secret=["x"] * rows,
        clicked=[0, 1] * (rows // 2),
    )
    convert(
        *("--input", path, "--out", tmp_path / "data", "--labels", "clicked"),
        *("--exclude", "secret"),
    )
    columns = read_columns(str(tmp_path / "data" / "columns.json"))
    assert [c.name for c in columns.discrete] == ["item_id", "weekday", "city"]
    assert [c.name for c in columns.continuous] == ["duration", "score"]
    printed = capsys.readouterr().out
    assert "ids, inferred [3]: item_id (1), weekday (8), city (3)" in printed
    assert "numeric, inferred [2]: duration, score" in printed
    assert "no features [2]: secret (--exclude), clicked (makes a label)" in printed
    assert "no value of item_id is frequent" in printed


def test_a_column_can_be_an_id_and_a_number(log, tmp_path):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"
    convert(
        *("--input", path, "--out", out, "--labels", "clicked", "--min-count", 1),
        *("--ids", "price", "--numeric", "price"),
    )
    assert column(out, "continuous")[:2] == [[5.0], [0.0]]
    assert "binary" not in read_schema(str(out / "schema.json"))


def test_second_file_is_converted_with_the_vocabulary_of_the_first(log, tmp_path):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"
    convert(
        *("--input", path, "--out", out, "--labels", "clicked,liked"),
        *("--ids", "country", "--numeric", "age,price", "--min-count", 2),
    )
    before = (out / "columns.json").read_text()
    second = log(
        "second.csv",
        country=["fr", "it", None],
        age=[None, 1.5, 2.0],
        price=[None, 2, 3],
        clicked=[0, 1, 1],
        liked=[1, 0, 0],
        unused=["a", "b", "c"],
    )
    convert("--input", second, "--schema", out / "schema.json")
    assert column(out, "discrete", "validation") == [[2], [0], [0]]
    assert column(out, "continuous", "validation") == [[0, 0], [1.5, 2], [2, 3]]
    assert column(out, "binary", "validation") == [[1], [0], [0]]
    assert column(out, "clicked", "validation") == [[0], [1], [1]]
    assert (out / "columns.json").read_text() == before


def test_config_names_what_there_is(log, tmp_path):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"
    convert(
        *("--input", path, "--out", out, "--labels", "clicked,liked"),
        *("--ids", "", "--numeric", "price"),
    )
    config = (out / "ranker.gin").read_text()
    assert 'include "recap_tf/tabular.gin"' in config
    assert '"clicked",\n    "liked",' in config
    assert '"continuous": "continuous"' in config
    assert '"{here}/train-*.tfrecord.gz"' in config
    assert "discrete" not in config and "SmallEmbeddings" not in config
    assert "RankingModel.small_embeddings = None" in config
    assert "recap.train.steps = 100" in config
    assert "binary" not in config and "validation/" not in config
    convert("--input", path, "--schema", out / "schema.json")
    assert '"{here}/validation-*.tfrecord.gz"' in (out / "ranker.gin").read_text()


def test_edited_config_is_left_alone(log, tmp_path, capsys):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"
    convert("--input", path, "--out", out, "--labels", "clicked")
    edited = (out / "ranker.gin").read_text() + "recap.train.steps = 7\n"
    (out / "ranker.gin").write_text(edited)
    convert("--input", path, "--schema", out / "schema.json")
    assert (out / "ranker.gin").read_text() == edited
    assert "was edited" in capsys.readouterr().out


def test_last_rows_become_the_validation_split(log, tmp_path):
    rows = 20
    path = log(
        "log.parquet",
        city=["a"] * 18 + ["b", "a"],
        price=list(range(rows)),
        clicked=[0, 1] * 10,
    )
    out = tmp_path / "data"
    convert(
        *("--input", path, "--out", out, "--labels", "clicked", "--numeric", "price"),
        *("--ids", "city", "--validation-share", 0.1),
    )
    assert len(records(out)) == 18
    assert column(out, "continuous", "validation") == [[18.0], [19.0]]
    # b was not seen in training.
    assert column(out, "discrete", "validation") == [[0], [1]]
    assert read_columns(str(out / "columns.json")).continuous[0].max == 17.0


def test_rows_keep_their_order_over_shards(log, tmp_path):
    path = log("log.parquet", x=list(range(10)), clicked=[0, 1] * 5)
    convert(
        *("--input", path, "--out", tmp_path / "data", "--labels", "clicked"),
        *("--numeric", "x", "--shards", 3),
    )
    assert len(glob.glob(f"{tmp_path}/data/train-0000?-of-00003.tfrecord.gz")) == 3
    assert column(tmp_path / "data", "continuous") == [[float(i)] for i in range(10)]


def test_several_files_globs_and_a_condition(log, tmp_path):
    log("part-1.parquet", x=[1, 2], day=[1, 2], clicked=[0, 1])
    log("part-2.csv", x=[3, 4], day=[2, 3], clicked=[1, 0])
    convert(
        *("--input", tmp_path / "part-*", "--out", tmp_path / "data"),
        *("--labels", "clicked", "--numeric", "x", "--where", "day>=2 and day<3"),
    )
    assert column(tmp_path / "data", "continuous") == [[2.0], [3.0]]


def test_embeddings_and_group(log, tmp_path):
    path = log(
        "log.parquet",
        user_id=["7", "ann", None],
        vector=pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32())),
        clicked=[0, 1, 1],
    )
    out = tmp_path / "data"
    convert(
        *("--input", path, "--out", out, "--labels", "clicked"),
        *("--embeddings", "user_embedding=vector", "--group", "user_id"),
    )
    assert column(out, "user_embedding") == [[1, 2], [0, 0], [3, 4]]
    ids = [ids[0] for ids in column(out, "meta.user_id")]
    assert ids[0] == 7 and ids[2] == -1
    # The first 8 bytes of BLAKE2b of "ann", little-endian: the same everywhere.
    assert ids[1] == -6488803333072012659
    columns = json.loads((out / "columns.json").read_text())
    assert columns["embeddings"] == [
        {"name": "user_embedding", "column": "vector", "width": 2, "missing": 1}
    ]


def test_side_table_is_joined(log, tmp_path, capsys):
    path = log("log.parquet", user=[1, 2, 3, 1], x=[1, 1, 1, 1], clicked=[0, 1, 0, 1])
    users = log("users.parquet", id=[2, 1], x=[20.0, 10.0])
    out = tmp_path / "data"
    arguments = ("--labels", "clicked", "--numeric", "user.x")
    convert("--input", path, "--out", out, *arguments, "--join", f"{users}:user=id")
    assert column(out, "continuous") == [[10.0], [20.0], [0.0], [10.0]]
    assert column(out, "binary") == [[0], [0], [1], [0]]
    assert "25.00% of the rows' keys missing" in capsys.readouterr().out
    # The side table is remembered.
    convert("--input", path, "--schema", out / "schema.json")
    assert column(out, "continuous", "validation") == column(out, "continuous")


def test_history_goes_on_in_the_next_file(log, tmp_path):
    train = log("train.parquet", user=[1, 2, 1], time=[10, 11, 12], clicked=[1, 0, 0])
    valid = log("valid.parquet", user=[1, 1, 2], time=[12, 13, 14], clicked=[1, 1, 1])
    test = log("test.parquet", user=[1], time=[15], clicked=[0])
    out = tmp_path / "data"
    convert(
        *("--input", train, "--out", out, "--labels", "clicked"),
        *("--history", "user", "--time", "time", "--ids", "", "--numeric", ""),
    )
    # Impressions and clicks before; the third number is the smoothed rate.
    assert [row[:2] for row in column(out, "continuous")] == [[0, 0], [0, 0], [1, 1]]
    schema = out / "schema.json"
    convert("--input", valid, "--schema", schema)
    # The row at time 12 must not see training's row of the same time.
    expected = [[1, 1], [3, 2], [1, 0]]
    assert [row[:2] for row in column(out, "continuous", "validation")] == expected
    convert("--input", test, "--schema", schema, "--split-name", "test")
    assert [row[:2] for row in column(out, "continuous", "test")] == [[4, 3]]
    # Again, from the end of training and not from its own end.
    convert("--input", valid, "--schema", schema, "--overwrite")
    assert [row[:2] for row in column(out, "continuous", "validation")] == expected


def test_existing_data_is_not_overwritten_unless_asked(log, tmp_path, capsys):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"
    arguments = ("--input", path, "--out", out, "--labels", "clicked")
    convert(*arguments, "--validation-share", 0.5)
    with pytest.raises(UserError, match=r"schema.json exists already"):
        convert(*arguments)
    with pytest.raises(UserError, match="holds validation records already"):
        convert("--input", path, "--schema", out / "schema.json")
    convert(*arguments, "--overwrite", "--shards", 2)
    assert len(glob.glob(f"{out}/train-*")) == 2
    assert not glob.glob(f"{out}/validation-*")
    assert "Removed the validation records" in capsys.readouterr().out


def test_an_expression_that_never_holds_is_told(log, tmp_path, capsys):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"
    convert("--input", path, "--out", out, "--labels", "price>100,age>=8")
    printed = capsys.readouterr().out
    assert "price_gt_100 (price>100): 0 positives" in printed
    assert "warning: it never holds" in printed
    assert "warning: 1 rows lack a value it needs" in printed


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--labels", "clickd"], r"no column 'clickd'. Nearest: 'clicked'"),
        (["--labels", "clicked", "--ids", "usr"], "no column 'usr'. Nearest: 'user'"),
        (
            ["--labels", "price"],
            r"log.parquet, row 1: label column 'price' must be 0 or 1. Received: 5",
        ),
        (
            ["--labels", "price>=5", "--numeric", "price"],
            "--numeric names 'price', of which --labels makes a label",
        ),
        (
            ["--labels", "clicked", "--numeric", "user"],
            r"row 1: column 'user' is 'ann', which is no number",
        ),
        (
            ["--labels", "clicked", "--embeddings", "user_embedding=price"],
            "--embeddings names 'price', which holds integer values",
        ),
        (
            ["--labels", "clicked", "--embeddings", "user_vector=vectors"],
            "the ranker knows the embeddings user_embedding",
        ),
        (
            ["--labels", "clicked", "--embeddings", "user_embedding=vectors"],
            r"row 3: column 'vectors' has 1 values instead of 2",
        ),
        (["--labels", "clicked", "--where", "price>99"], "no rows that meet --where"),
        (["--labels", "clicked,liked", "--ids", "liked"], "--ids names 'liked'"),
        (["--labels", "continuous:price>2"], "is the name of another feature"),
        (["--labels", "clicked", "--history", "user"], "--history needs --time"),
        (
            ["--labels", "clicked", "--history", "user", "--time", "price"],
            r"row 2: price is 0, earlier than 5 before it",
        ),
        (["--labels", "clicked", "--ids", "user", "--exclude", "user"], "leaves out"),
        (["--labels", "clicked", "--ids", "", "--numeric", ""], "No column is left"),
        (["--labels", "clicked", "--shards", "0"], "--shards must be at least 1"),
        (["--labels", "clicked", "--validation-share", "1"], "--validation-share"),
        (["--labels", "clicked", "--split-name", "a/b"], "--split-name"),
        ([], "--labels and --out must be given"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_arguments_leave_nothing_behind(log, tmp_path, arguments, message):
    vectors = pa.array([[1.0, 2.0], [3.0, 4.0], [5.0], None, None, None])
    path = log("log.parquet", **IMPRESSIONS, vectors=vectors)
    with pytest.raises(UserError, match=message):
        convert("--input", path, "--out", tmp_path / "data", *arguments)
    assert not (tmp_path / "data").exists()


def test_missing_column_in_the_second_file_names_both(log, tmp_path):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"
    convert("--input", path, "--out", out, "--labels", "clicked")
    there = sorted(out.rglob("*"))
    second = log("second.parquet", user=["a"], contry=["de"], age=[1.0], clicked=[1])
    with pytest.raises(
        UserError, match=r"second.parquet has no column 'country'.*cont"
    ):
        convert("--input", second, "--schema", out / "schema.json")
    with pytest.raises(UserError, match="--ids comes from"):
        convert("--input", path, "--schema", out / "schema.json", "--ids", "user")
    assert sorted(out.rglob("*")) == there


def test_rows_before_the_end_of_the_history_are_refused(log, tmp_path):
    path = log("log.parquet", user=[1, 2], time=[10, 11], clicked=[1, 0])
    out = tmp_path / "data"
    convert(
        *("--input", path, "--out", out, "--labels", "clicked"),
        *("--history", "user", "--time", "time"),
    )
    with pytest.raises(UserError, match="time is 10, which is before the end"):
        convert("--input", path, "--schema", out / "schema.json")


def test_a_failure_while_writing_leaves_nothing_behind(log, tmp_path, monkeypatch):
    path, out = log("log.parquet", **IMPRESSIONS), tmp_path / "data"

    def full(*_):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr("recap_tf.conversion.row_records.serialize_examples", full)
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        convert("--input", path, "--out", out, "--labels", "clicked")
    assert not out.exists()
