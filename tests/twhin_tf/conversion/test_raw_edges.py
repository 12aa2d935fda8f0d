"""Edges are read from parquet and text files; unfit ones are refused in one line."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversions import EDGES, convert, named, out_flag

from recap_tf.core.command import UserError
from twhin_tf.vocabulary import main


@pytest.mark.parametrize("kind", ["csv", "tsv.gz", "no header"])
def test_text_files_are_read_with_and_without_a_header(tmp_path, kind):
    mark = "," if kind == "csv" else "\t"
    lines = [mark.join(edge) for edge in EDGES]
    flags = ["--columns", "a,b,c"]
    if kind == "no header":
        flags.append("--no-header")
    else:
        lines.insert(0, mark.join("abc"))
    text = ("\n".join(lines) + "\n").encode()
    path = tmp_path / "edges.txt"
    path.write_bytes(gzip.compress(text) if kind == "tsv.gz" else text)
    main(["--edges", str(path), *out_flag(tmp_path), *flags])
    assert sorted(named(tmp_path / "graph")) == sorted(EDGES)


def test_whole_numbers_stay_numbers(tmp_path):
    edges = [(2**40, 7, 5), (-1, 7, 5)]
    folder = convert(tmp_path, edges, "--types", "7=user:item")
    assert sorted(named(folder)) == [(-1, "7", 5), (2**40, "7", 5)]
    (tmp_path / "e.csv").write_text("user,item\n5,x\n6,y\n")
    flags = ["--columns", "user,item", "--types", "buy=user:item", "--overwrite"]
    main(["--edges", str(tmp_path / "e.csv"), *out_flag(tmp_path), *flags])
    assert sorted(named(folder)) == [(5, "buy", "x"), (6, "buy", "y")]


@pytest.mark.parametrize(
    "columns, message",
    [
        ([[], [], []], "has no rows"),
        ([["a", None], ["r", "r"], ["b", "c"]], "row 2: column 'head' has a missing"),
        ([["a", "b"], ["r", None], ["b", "c"]], "row 2: column 'relation' has a miss"),
        ([[1.5, 2.0], ["r", "r"], ["b", "c"]], "'head' must hold whole numbers or te"),
        ([["a"], [[1.0]], ["b"]], "'relation' must hold .* Received: vector"),
    ],
)
def test_columns_that_cannot_be_are_refused(tmp_path, columns, message):
    table = pa.table(list(map(pa.array, columns)), ["head", "relation", "tail"])
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(UserError, match=message):
        main(["--edges", str(tmp_path / "e.parquet"), *out_flag(tmp_path)])


def test_numbers_that_turn_out_to_be_texts_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("recap_tf.core.row_files._HEAD_BYTES", 20)
    (tmp_path / "e.csv").write_text("head,tail\n" + "1,2\n" * 9 + "1,x\n")
    flags = ["--columns", "head,tail"]
    with pytest.raises(UserError, match=r"row 10: column 'tail' must hold .*'x'"):
        main(["--edges", str(tmp_path / "e.csv"), *out_flag(tmp_path), *flags])


def test_a_first_line_that_is_an_edge_needs_no_header(tmp_path):
    (tmp_path / "e.tsv").write_text("a\tr\tb\n")
    with pytest.raises(UserError, match=r"has no column 'head'.*give --no-header"):
        main(["--edges", str(tmp_path / "e.tsv"), *out_flag(tmp_path)])
    flags = ["--no-header", "--columns", "a,b"]
    with pytest.raises(UserError, match="has 3 columns; to name them takes as many"):
        main(["--edges", str(tmp_path / "e.tsv"), *out_flag(tmp_path), *flags])
