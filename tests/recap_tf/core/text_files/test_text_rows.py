"""Rows of CSV and TSV files: whole, typed, late surprises, and what is refused."""

import contextlib
import csv
import gzip
import io

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recap_tf.core.command import UserError
from recap_tf.core.text_files.text_blocks import ahead, whole_records
from recap_tf.core.text_files.text_dialect import (
    MISSING_IN_EDGES,
    TextDialect,
    TextSettings,
)
from recap_tf.core.text_files.text_rows import TextRows

# More than the first megabyte: whatever follows is not seen when kinds are guessed.
LONG = "".join(f"{i},{i % 7}.5,x{i}\n" for i in range(80_000))


def rows_of(text: str, settings: TextSettings | None = None, **options) -> TextRows:
    data = text.encode()
    settings = settings or TextSettings()
    return TextRows("log.csv", lambda: io.BytesIO(data), settings, **options)


def values(rows: TextRows, name: str) -> list:
    parts = [table[name].to_pylist() for _, table in rows.chunks([name])]
    return [value for part in parts for value in part]


def test_a_small_table_by_hand():
    rows = rows_of(
        "id,code,price,is_new,at,note\n"
        '1,007,1.50,True,2024-03-01,"a, ""b"""\n'
        "\n"
        "2,042,NA,false,2024-03-01T12:00:00+02:00,\n"
    )
    assert rows.kinds == {
        "id": "integer",
        "code": "text",
        "price": "number",
        "is_new": "boolean",
        "at": "time",
        "note": "text",
    }
    ((first, table),) = rows.chunks(["note", "id", "price", "code", "note"])
    assert first == 1
    assert table.to_pydict() == {
        "note": ['a, "b"', None],
        "id": [1, 2],
        "price": [1.5, None],
        "code": ["007", "042"],
    }
    ((_, table),) = rows.chunks(["price", "id"], as_text=["price"])
    assert table.to_pydict() == {"price": ["1.50", None], "id": [1, 2]}
    table = rows.read(as_text=["price"])
    assert table.column_names == rows.names
    assert table["price"].to_pylist() == ["1.50", None]
    assert [str(value) for value in table["at"].to_pylist()] == [
        "2024-03-01 00:00:00",
        "2024-03-01 10:00:00",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\r1,x\r2,y\r",
        "a,b\r\n1,x\r\n2,y\r\n",
        "\ufeffa,b\n1,x\n2,y",
        "\n\na\tb\n\n1\tx\n\n2\ty\n\n",
        '"a";"b"\n"1";"x"\n"2";"y"\n',
    ],
    ids=["macintosh", "windows", "mark and no last end", "empty lines", "all quoted"],
)
def test_forms_of_one_table(text):
    rows = rows_of(text)
    assert rows.read().to_pydict() == {"a": [1, 2], "b": ["x", "y"]}
    assert [first for first, _ in rows.chunks(["a"])] == [1]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_streams_of_arrow(tmp_path, pack):
    path = str(tmp_path / "log")
    with open(path, "wb") as file:
        file.write(pack(f"id,price,name\n{LONG}".encode()))

    def stream():
        file = pa.OSFile(path)
        return file if pack is bytes else pa.CompressedInputStream(file, "gzip")

    rows = TextRows(path, stream, TextSettings())
    assert values(rows, "id") == list(range(80_000))
    assert rows.row_bytes == pytest.approx(len(LONG) / 80_000, rel=0.1)


def test_files_without_a_header():
    rows = rows_of("7\tlikes\tx\n", names=["head", "relation", "tail"])
    assert rows.read().to_pydict() == {
        "head": [7],
        "relation": ["likes"],
        "tail": ["x"],
    }
    with pytest.raises(UserError, match=r"log.csv has 3 columns; to name them"):
        rows_of("7\tlikes\tx\n", names=["head", "tail"])


def test_a_header_without_rows():
    rows = rows_of("a,b\n")
    assert rows.kinds == {"a": "text", "b": "text"}
    assert list(rows.chunks(["a"])) == []
    assert rows.read().to_pydict() == {"a": [], "b": []}
    assert rows.row_bytes is None


@pytest.mark.parametrize(
    "missing, expected",
    [
        (TextSettings().missing, [None, None, None, None, "None", "gene"]),
        (MISSING_IN_EDGES, ["NA", "nan", "null", None, "None", "gene"]),
        ((), ["NA", "nan", "null", "", "None", "gene"]),
    ],
    ids=["logs", "edges", "nothing"],
)
def test_what_is_missing_is_a_setting(missing, expected):
    text = "a,b\nNA,1\nnan,1\nnull,1\n,1\nNone,1\ngene,1\n"
    assert values(rows_of(text, TextSettings(missing=missing)), "a") == expected


@pytest.mark.parametrize(
    "last, kind",
    [
        ("guest-6", "text"),
        ("00007", "text"),
        ("0x1F", "text"),
        (str(2**63), "text"),
        ("", "integer"),
        ("NA", "integer"),
        ("-5", "integer"),
    ],
)
def test_a_column_that_turns_out_otherwise_after_the_head(last, kind):
    rows = rows_of(f"id,price,name\n{LONG}{last},1,x\n")
    assert rows.kinds["id"] == "integer"
    spelt = [str(value) for value in range(80_000)]
    ids = values(rows, "id")
    assert [str(value) for value in ids[:80_000]] == spelt
    assert rows.kinds["id"] == kind
    missing = last in ("", "NA")
    assert ids[80_000] == (None if missing else last if kind == "text" else int(last))
    # The next reading knows.
    assert {type(value) for value in values(rows, "id")} <= {
        str if kind == "text" else int,
        type(None),
    }


def test_kinds_can_be_settled_before_rows_are_used():
    rows = rows_of(f"id,price,name\n{LONG}00007,much,x\n")
    assert rows.settle(["name", "price"])["price"] == "text"
    assert rows.kinds["id"] == "integer"
    assert rows.settle(["id"])["id"] == "text"
    assert values(rows, "id")[:2] == ["0", "1"]


def test_a_whole_table_has_one_type_per_column():
    table = rows_of(f"id,price,name\n{LONG}00007,much,x\n").read()
    assert table.schema.types == [pa.string()] * 3
    assert table["id"][-1].as_py() == "00007"
    assert table["price"][0].as_py() == "0.5"


def test_texts_with_line_breaks_beyond_the_head():
    text = "line one,\nline two, of, many\nand three"
    rows = rows_of(f'id,price,name\n{LONG}7,1.5,"{text}"\n8,2.5,"a\nb"\n')
    names = values(rows, "name")
    assert len(names) == 80_002
    assert names[-2:] == [text, "a\nb"]


def test_text_of_lines_longer_than_blocks():
    posts = [f"post {i}\n" * 40_000 for i in range(30)]
    data = io.StringIO()
    csv.writer(data).writerows([["id", "post"], *enumerate(posts)])
    assert values(rows_of(data.getvalue()), "post") == posts


SWALLOWED = '7,"best of,x\n8,2,y\n9,z",x\n'
REFUSED = {
    "rows within a field": (
        f"id,price,name\n{LONG}{SWALLOWED}",
        'log.csv, row 80001: the field "best of,x... spans lines that are rows by ',
    ),
    "a field that goes on": (
        f'id,price,name\n{LONG}7,"12 inch,x\n8,1,y\n9,"7 inch,z\n',
        'log.csv, row 80001: the field "12 inch,x... spans lines and goes on behind',
    ),
    "never closed": (
        f'id,price,name\n{LONG}7,"12 inch,x\n{LONG}',
        'log.csv, row 80001: the field "12 inch,x... is not closed within ',
    ),
    "fewer fields": (
        f"id,price,name\n{LONG}7,8\n",
        "row 80001 has 2 fields, not 3: '7,8'",
    ),
    "more fields": (
        "a,b\n1,2\n\n1,2,3\n",
        "log.csv, row 2 has 3 fields, not 2: '1,2,3'",
    ),
    "a long field": (
        f"id,price,name\n{LONG}7,1,{'x' * 3_000_000}\n",
        "row 80001: column 'name' holds 3,000,000 bytes, more than --longest-field 1,",
    ),
    "a long first line": ("x" * 2_000_000, "its first line does not end within 1,048"),
    "two names": ("a,b,a\n1,2,3\n", "log.csv has two columns named 'a'"),
    "nothing": ("\n\n", "log.csv has no rows"),
}


@pytest.mark.parametrize("text, words", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_names_file_and_row(text, words):
    with pytest.raises(UserError) as error:
        rows = rows_of(text)
        for _ in rows.chunks(rows.names):
            pass
    assert words in str(error.value)
    assert len(str(error.value)) < 400


def test_bytes_that_are_no_utf8():
    for data, words in (
        (b"a,b\n1,x\n2,\xe9\n", r"row 2: column 'b' is no UTF-8 text: b'\\xe9'"),
        (b"a,\xe9\n1,x\n", "the first line is no UTF-8 text. Save the file as UTF-8"),
    ):
        with pytest.raises(UserError, match=words):
            TextRows("log.csv", lambda data=data: io.BytesIO(data), TextSettings())


def test_a_mark_that_took_no_line_away_is_told_once():
    told = []
    text = '"a","b"\n' + '"1","x"\n' * 20 + '"2","A" is\n"3","B" is\n'
    rows = rows_of(text, warn=told.append)
    assert values(rows, "b")[-2:] == ["A is", "B is"]
    assert len(told) == 1
    assert 'log.csv, row 21: the field "A" is... goes on behind its closing' in told[0]
    rows = rows_of(text, TextSettings(quoting="none"), warn=told.append)
    assert values(rows, '"b"')[-1] == '"B" is'
    rows = rows_of(f"id,price,name\n{LONG}{SWALLOWED}", TextSettings(quoting="none"))
    assert values(rows, "name")[-1] == "x"
    rows = rows_of(f"id,price,name\n{LONG}{SWALLOWED}", TextSettings(quoting="fields"))
    assert len(values(rows, "name")) == 80_001
    assert len(told) == 1


def test_a_reader_may_stop_early():
    closed = []

    class Stream(io.BytesIO):
        def close(self):
            closed.append(True)
            super().close()

    data = f"id,price,name\n{LONG * 10}".encode()
    rows = TextRows("log.csv", lambda: Stream(data), TextSettings())
    chunks = rows.chunks(["id"])
    next(chunks)
    chunks.close()
    assert len(closed) == 3


FIELDS = st.text('ab",\n', max_size=6)


@given(st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=20), st.integers(1, 60))
def test_blocks_of_any_size_hold_whole_records(table, size):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    data = text.getvalue().encode()
    blocks = whole_records(io.BytesIO(data), TextDialect(delimiter=","), size, 1000)
    pieces = [bytes(block) for block, _ in blocks]
    assert b"".join(pieces) == data
    read = [row for piece in pieces for row in csv.reader(io.StringIO(piece.decode()))]
    assert read == [list(row) for row in table]


@given(st.lists(st.text("ab,\t", min_size=1, max_size=9)), st.integers(1, 20))
def test_blocks_without_marks_end_with_lines(lines, size):
    data = "".join(f"{line}\r" for line in lines).encode()
    dialect = TextDialect(delimiter="\t", new_line=b"\r", quoted=False)
    pieces = [bytes(b) for b, _ in whole_records(io.BytesIO(data), dialect, size, 50)]
    assert b"".join(pieces) == data
    assert all(piece.endswith(b"\r") for piece in pieces)


def test_what_is_made_ahead_comes_in_order_with_its_errors():
    def items():
        yield from (1, 2)
        raise ValueError("three")

    seen = []
    with pytest.raises(ValueError, match="three"):
        for item in ahead(items()):
            seen.append(item)
    assert seen == [1, 2]
    assert list(ahead(iter([]))) == []
    with contextlib.closing(ahead(iter([1, 2, 3]))) as numbers:
        assert next(numbers) == 1
