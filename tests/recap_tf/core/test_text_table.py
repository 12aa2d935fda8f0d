import pytest

from recap_tf.core.text_table import aligned


@pytest.mark.parametrize(
    "left, expected",
    [(1, "set  rce\na     12"), (2, "set  rce\na    12 "), (0, "set  rce\n  a   12")],
)
def test_words_are_flush_left_and_numbers_right(left, expected):
    assert aligned([["set", "rce"], ["a", "12"]], left) == expected
