import pyarrow as pa
import pytest

from recap_tf.conversion.expressions import parse_expression
from recap_tf.conversion.label_expressions import parse_labels, split_list
from recap_tf.core.command import UserError

TABLE = pa.table(
    {
        "income": [" 50000+.", "50000+.", "- 50000.", None],
        "rating": [5, 4, 1, None],
        "score": [0.5, 1.5, 2.5, None],
        "grade": ["7th and 8th grade", "College (BA)", "College (MA)", None],
        "text_number": ["10", "9", "100", None],
        "flag": [True, False, True, None],
        "long": [2**60 + 1, 2**60, 3, None],
    }
)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("income== 50000+.", [1, 1, 0, -1]),
        ("income=50000+.", [1, 1, 0, -1]),
        ("income=='50000+.'", [0, 1, 0, -1]),
        ("income!=- 50000.", [1, 1, 0, -1]),
        ("rating>=4", [1, 1, 0, -1]),
        ("rating < 4.5", [0, 1, 1, -1]),
        ("rating in (1|5)", [1, 0, 1, -1]),
        ("rating not in (1|5)", [0, 1, 0, -1]),
        ("score<=1.5", [1, 1, 0, -1]),
        ("grade in (College (BA)|College (MA))", [0, 1, 1, -1]),
        ("grade==7th and 8th grade", [1, 0, 0, -1]),
        ("grade==7th and 8th grade and rating>4", [1, 0, 0, -1]),
        ("rating>=4 and rating<5", [0, 1, 0, -1]),
        ("text_number>=10", [1, 0, 1, -1]),
        ("flag==true", [1, 0, 1, -1]),
        ("long==1152921504606846977", [1, 0, 0, -1]),
    ],
)
def test_expression_holds(text, expected):
    assert parse_expression(text).holds(TABLE).tolist() == expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("rating", "'rating' is no condition"),
        (">=4", "is no condition"),
        ("rating>=", "lacks a value"),
        ("grade in (a|b", "closing parenthesis"),
        ("rating>=many", "'many' is no such value"),
        ("income>=5", r"Column 'income' holds '50000\+.', which"),
    ],
)
def test_bad_expression(text, message):
    with pytest.raises(UserError, match=message):
        parse_expression(text).holds(TABLE)


def test_labels_are_named_after_their_expressions():
    labels = parse_labels(["is_click,rating>=4", "rich:income== 50000+.,a in (b, c|d)"])
    assert [(label.name, label.text) for label in labels] == [
        ("is_click", "is_click"),
        ("rating_ge_4", "rating>=4"),
        ("rich", "income== 50000+."),
        ("a_in_b_c_d", "a in (b, c|d)"),
    ]


def test_two_labels_of_one_name_are_refused():
    with pytest.raises(UserError, match="two labels named 'rating_eq_4'"):
        parse_labels(["rating==4,rating=4"])


@pytest.mark.parametrize(
    "text, parts",
    [
        ("a,b", ["a", "b"]),
        ("a=='x, y',b", ["a=='x, y'", "b"]),
        ("a==don't know,b", ["a==don't know", "b"]),
        ("a in (x, y|z),b", ["a in (x, y|z)", "b"]),
        ("a,,", ["a"]),
        ("", []),
    ],
)
def test_split_list(text, parts):
    assert split_list(text) == parts
