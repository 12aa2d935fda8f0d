"""How files of text are written, read off their beginnings."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recap_tf.core.command import UserError
from recap_tf.core.text_files.text_dialect import (
    MISSING_IN_EDGES,
    MISSING_IN_LOGS,
    TextSettings,
    detect_dialect,
)


def detect(text: str, quoting: str = "auto", whole: bool = True, path: str = "log"):
    settings = TextSettings(quoting=quoting)
    return detect_dialect(text.encode(), settings, whole=whole, path=path)


@pytest.mark.parametrize(
    "text, delimiter",
    [
        ("a,b;c,d\n", ","),
        ("a\tb,c\td\n", "\t"),
        ("a;b;c\n1,5;2;3\n", ";"),
        ("a\n1\n", ","),
        # A title in the first row of a file without a header.
        ("me\tlikes\tx, y, z, and so on\nme\tlikes\tx\n", "\t"),
        (f"{'x' * 200_000}\tlikes\ty\nme\tlikes\tx\n", "\t"),
        # No delimiter is in each row as often: quoted fields.
        ('a,b;c,d\n1,"x,y",2\n', ","),
        # Marks protect what they enclose.
        ('"a,b,c"\t"d"\n', "\t"),
        ('"a\tb"', "\t"),
    ],
    ids=lambda text: repr(text[:20]),
)
def test_delimiter(text, delimiter):
    assert detect(text).delimiter == delimiter


def test_the_name_of_a_file_may_say_its_delimiter():
    text = "me\tlikes\tx, y, z, and so on\n"
    assert detect(text).delimiter == ","
    assert detect(text, path="edges.tsv").delimiter == "\t"
    assert detect(text, path="edges.tsv.gz").delimiter == "\t"
    assert detect("a,b\n", path="edges.tsv").delimiter == ","


@pytest.mark.parametrize(
    "text, new_line",
    [
        ("a,b\n1,2\n", b"\n"),
        ("a,b\r\n1,2\r\n", b"\n"),
        ("a,b\r1,2\r", b"\r"),
        ("a", b"\n"),
    ],
)
def test_line_ends(text, new_line):
    assert detect(text).new_line == new_line


PLAIN = "".join(f"user{i}\t{i}\n" for i in range(30))
QUOTED = {
    "csv without marks": "a,b\n1,2\n",
    "csv with quoted fields": 'a,b\n1,"Heroes"\n',
    "csv with a delimiter in a field": 'a,b\n1,"x,y"\n2,"z, ""q"""\n',
    "csv with lines in fields": 'a,b,c\n1,"x\ny",2\n3,4,5\n',
    "csv, a mark does not fit, most do": '"a","b"\n' + '"1","2"\n' * 9 + '"3","A" is\n',
    "csv, a mark does not fit, lines differ": 'a,b\n1,"x,y"\n2,"A" is\n',
    "tsv, all fields": '"a"\t"b"\n"1"\t"Heroes"\n',
    "tsv, one column": 'a\tb\n1\t"Heroes"\n2\t"x"\n',
    "tsv, one column, some empty": 'a\tb\n1\t"Heroes"\n2\t\n3\t"x"\n',
    "tsv, only what must be": 'a\tb\n1\t"""Heroes"""\n2\tx\n',
    "tsv, a tab in a field": 'a\tb\n1\t"x\ty"\n2\tx\n',
    "tsv, lines in a field": 'a\tb\n1\t"x\ny\nz"\n2\tx\n',
}
NOT_QUOTED = {
    "tsv without marks": PLAIN,
    "tsv, titles with their marks": f'{PLAIN}user1\t"Heroes"\nuser2\t"Low"\n',
    "tsv, inches": f'{PLAIN}user1\t"12 inch\n{PLAIN}user2\t"7 inch\n',
    "tsv, marks within fields": f'{PLAIN}user1\tthe "best" of\n',
    "tsv, a mark in the first row": f'"Weird Al\t7\n{PLAIN}',
    "csv, inches": 'a,b\n1,"12 inch\n2,x\n3,"7 inch\n4,y\n',
    "csv, never closed": 'a,b\n1,"12 inch\n2,x\n3,y\n',
    "csv, closed by chance": 'a,b,c\n1,"best of,2\n3,q,4\n5,x",6\n',
    "csv, goes on": 'a,b\n1,"A" is for alibi\n2,x\n',
}


@pytest.mark.parametrize("text", QUOTED.values(), ids=QUOTED)
def test_quoted_files(text):
    assert detect(text).quoted


@pytest.mark.parametrize("text", NOT_QUOTED.values(), ids=NOT_QUOTED)
def test_files_whose_marks_are_letters(text):
    dialect = detect(text)
    assert not dialect.quoted
    assert not dialect.line_breaks


def test_line_breaks_within_fields_are_known_from_the_head():
    assert detect(QUOTED["csv with lines in fields"]).line_breaks
    assert not detect(QUOTED["csv with quoted fields"]).line_breaks


def test_a_head_that_ends_within_a_field():
    text = 'a,b,c\n1,"x, y",2\n2,"a text\nof many\nlines, and mo'
    assert detect(text, whole=False).quoted
    # A mark that is never closed swallows rows that are rows by themselves.
    text = 'a,b,c\n1,x,2\n2,"a text,3\n' + "3,x,4\n" * 50 + "4,x"
    assert not detect(text, whole=False).quoted


def test_what_the_user_says_goes_first():
    assert not detect(QUOTED["tsv, all fields"], "none").quoted
    dialect = detect(NOT_QUOTED["csv, inches"], "fields")
    assert dialect.quoted and dialect.line_breaks


@given(
    st.lists(st.tuples(*[st.text('a" ,x', min_size=1)] * 3), min_size=1),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
)
def test_what_a_writer_of_csv_quotes_is_quoted(rows, quoting):
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator="\n").writerows(rows)
    assert detect(text.getvalue()).quoted


@given(
    st.lists(st.tuples(*[st.text('a" ,x\t', min_size=1)] * 3), min_size=1),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_a_writer_of_tsv_quotes_is_quoted(rows, quoting):
    text = io.StringIO()
    csv.writer(text, delimiter="\t", quoting=quoting).writerows(rows)
    quoted = detect(text.getvalue(), path="edges.tsv").quoted
    assert quoted == ('"' in text.getvalue())


def test_settings_are_checked():
    with pytest.raises(
        ValueError, match=r"--quoting must be one of \['auto', 'none', "
    ):
        TextSettings(quoting="maybe")
    with pytest.raises(ValueError, match="--longest-field must be at least 1"):
        TextSettings(longest_field=0)
    assert "NA" in MISSING_IN_LOGS and MISSING_IN_EDGES == ("",)


def test_another_encoding_is_named():
    with pytest.raises(UserError, match=r"log.csv is in UTF-16; save it as UTF-8"):
        detect_dialect(
            "a,b".encode("utf-16"), TextSettings(), whole=True, path="log.csv"
        )
