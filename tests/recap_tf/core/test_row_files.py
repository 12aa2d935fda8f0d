import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recap_tf.core import row_files
from recap_tf.core.command import UserError
from recap_tf.core.row_files import find_tables, open_table


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.tsv"])
def test_csv_is_told_by_its_content(tmp_path, name):
    text = "zip,n,x,word\n02139,1,.5,a\n,2,1e3,NA\n"
    text = text.replace(",", "\t") if name == "a.tsv" else text
    data = gzip.compress(text.encode()) if name.endswith("gz") else text
    table = open_table(write(tmp_path / name, data))
    assert table.kinds == {
        "zip": "text",
        "n": "integer",
        "x": "number",
        "word": "text",
    }
    assert table.read().to_pydict()["zip"] == ["02139", None]
    assert table.read().to_pydict()["word"] == ["a", None]


def test_parquet_types(tmp_path):
    columns = {
        "i": pa.array([1, None]),
        "f": pa.array([1.0, float("nan")]),
        "s": pa.array(["a", "b"]).dictionary_encode(),
        "v": pa.array([[1.0], None]),
        "t": pa.array([0, 1], pa.timestamp("ms")),
        "b": pa.array([True, False]),
        "o": pa.array([{"a": 1}, None]),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    table = open_table(str(tmp_path / "a.parquet"))
    kinds = ["integer", "number", "text", "vector", "time", "boolean", "other"]
    assert list(table.kinds.values()) == kinds
    assert table.rows == 2 and table.rows_are_exact
    assert table.read()["f"].null_count == 1


def test_chunks_say_where_they_begin(tmp_path, monkeypatch):
    monkeypatch.setattr(row_files, "CHUNK_ROWS", 2)
    pq.write_table(pa.table({"x": list(range(5))}), tmp_path / "a.parquet")
    chunks = list(open_table(str(tmp_path / "a.parquet")).chunks(["x"]))
    assert [(first, len(rows)) for first, rows in chunks] == [(1, 2), (3, 2), (5, 1)]


def test_folders_and_globs(tmp_path):
    for name in ("b.csv", "a.csv", "readme.md"):
        write(tmp_path / name, "x\n1\n")
    names = [table.path.rsplit("/", 1)[1] for table in find_tables([str(tmp_path)])]
    assert names == ["a.csv", "b.csv"]
    assert len(find_tables([f"{tmp_path}/*.csv", f"{tmp_path}/a.csv"])) == 2


@pytest.mark.parametrize(
    "name, data, message",
    [
        ("a.parquet", b"", "is empty"),
        ("a.parquet", b"no parquet", "neither parquet nor CSV"),
        ("a.parquet", b"PAR1 cut off in the middle", "cannot be read: "),
        ("a.csv", b"a\0b", "neither parquet nor CSV"),
        ("a.csv", b"a,b\n1,2\n1,2,3\n", "cannot be read: .*Expected 2 columns, got 3"),
        ("a.csv", b"a,a\n1,2\n", "two columns named 'a'"),
    ],
)
def test_unreadable_files(tmp_path, name, data, message):
    with pytest.raises(UserError, match=f"{name}.*{message}"):
        open_table(write(tmp_path / name, data)).read()


def test_nothing_found(tmp_path):
    with pytest.raises(UserError, match=r"--input .*\*\.parquet matches no file"):
        find_tables([f"{tmp_path}/*.parquet"])
    with pytest.raises(UserError, match="matches no file"):
        find_tables([str(tmp_path)])


def test_missing_column_names_the_nearest(tmp_path):
    table = open_table(write(tmp_path / "a.csv", "user_id,item_id\n1,2\n"))
    with pytest.raises(UserError, match=r"no column 'user'\. Nearest: 'user_id'"):
        table.require(["item_id", "user"])
    with pytest.raises(UserError, match=r"It has: 'user_id', 'item_id'\."):
        table.require(["zzz"])


def test_a_file_without_a_header_line(tmp_path):
    path = write(tmp_path / "a.tsv", "1\tx\n1\ty\n")
    table = open_table(path, ["n", "word"])
    assert table.kinds == {"n": "integer", "word": "text"}
    assert table.read().to_pydict() == {"n": ["1", "1"], "word": ["x", "y"]}
    with pytest.raises(UserError, match="has 2 columns; to name them takes as many"):
        open_table(path, ["n"])


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_files_on_other_file_systems(tmp_path, name):
    if name == "a.csv":
        write(tmp_path / name, "x\n1\n2\n")
    else:
        pq.write_table(pa.table({"x": ["1", "2"]}), tmp_path / name)
    (table,) = find_tables([f"file://{tmp_path}/{name}"])
    assert table.read().to_pydict() == {"x": ["1", "2"]}


def test_bytes_are_text_unless_they_are_no_utf8(tmp_path):
    path = str(tmp_path / "a.parquet")
    columns = {"word": [b"caf\xc3\xa9", None], "image": [b"\xff\xd8", b"\xff\xe0"]}
    pq.write_table(pa.table(columns), path)
    table = open_table(path)
    assert table.kinds == {"word": "text", "image": "other"}
    assert "'image' holds" in table.unreadable["image"]
    # What cannot be read as text is still there as it is.
    assert table.read().to_pydict() == columns | {"word": ["café", None]}


@pytest.mark.parametrize("ids, fits", [([1, 2**63 - 1], True), ([1, 2**63], False)])
def test_whole_numbers_that_int64_does_not_hold(tmp_path, ids, fits):
    path = str(tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": pa.array(ids, pa.uint64())}), path)
    text = write(tmp_path / "a.csv", "id\n" + "\n".join(map(str, ids)) + "\n")
    for table in map(open_table, (path, text)):
        assert table.kinds == {"id": "integer"} and table.fits_int64("id") is fits
