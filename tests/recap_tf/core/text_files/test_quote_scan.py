"""Where quoted fields lie, against a reading letter by letter."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recap_tf.core.text_files.quote_scan import are_whole_rows, record_end, scan_quotes

COMMA = ord(",")


def scan(text: str):
    return scan_quotes(np.frombuffer(text.encode(), np.uint8), COMMA)


def letter_by_letter(text: str):
    """(opens, closes, open_at, strays, literals) by the rules, one letter at a time."""
    opens, closes, strays, literals = [], [], [], 0
    place, begins = 0, True
    while place < len(text):
        if text[place] != '"':
            begins = text[place] in ",\n\r"
            place += 1
        elif not begins:
            literals += 1
            place += 1
        else:
            end = place + 1
            while end < len(text):
                if text[end] != '"':
                    end += 1
                elif text[end + 1 : end + 2] == '"':
                    end += 2
                else:
                    break
            if end >= len(text):
                return opens, closes, place, strays, literals
            opens.append(place)
            closes.append(end)
            if end + 1 < len(text) and text[end + 1] not in ",\n\r":
                strays.append(end)
            place, begins = end + 1, False
    return opens, closes, None, strays, literals


@given(st.text('",\n\ra', max_size=40))
@example('"')
@example('""')
@example('a""')
@example('"","""",""""""')
def test_as_letter_by_letter(text):
    quotes = scan(text)
    found = [quotes.opens.tolist(), quotes.closes.tolist(), quotes.open_at]
    assert (*found, list(quotes.strays), quotes.literals) == letter_by_letter(text)


@given(st.text('",\na', max_size=40))
def test_a_record_ends_at_the_last_line_end_outside_of_fields(text):
    quotes = scan(text)
    inside = np.zeros(len(text) + 1, bool)
    for opened, closed in zip(quotes.opens, quotes.closes, strict=True):
        inside[opened:closed] = True
    if quotes.open_at is not None:
        inside[quotes.open_at :] = True
    ends = [i + 1 for i, letter in enumerate(text) if letter == "\n" and not inside[i]]
    end = record_end(bytearray(text.encode()), len(text), quotes, b"\n")
    assert end == max(ends, default=0)


def test_fields_with_line_breaks_and_strays():
    text = 'a,"b\nc"\n"d","e"f\n"g\n"h,"i\nj"\n'
    quotes = scan(text)
    places = np.flatnonzero(np.frombuffer(text.encode(), np.uint8) == ord("\n"))
    fields = [text[o + 1 : c] for o, c in zip(quotes.opens, quotes.closes, strict=True)]
    assert fields == ["b\nc", "d", "e", "g\n", "i\nj"]
    assert quotes.with_line_breaks(places).tolist() == [0, 3, 4]
    assert quotes.stray_fields().tolist() == [2, 3]
    assert quotes.holds(text.index("c")) == 0
    assert quotes.holds(text.index("f")) is None


@pytest.mark.parametrize(
    "lines, columns, expected",
    [
        ([b'1,"best of,2', b"3,q,4", b'5,x",6'], 3, True),
        ([b'1,"a text', b'of two lines",2'], 3, False),
        ([b'1,"a, text', b"of three", b'lines",2'], 3, False),
        ([b'"one', b'column"'], 1, False),
    ],
)
def test_swallowed_rows_and_texts_of_lines(lines, columns, expected):
    assert are_whole_rows(lines, b",", columns) is expected
