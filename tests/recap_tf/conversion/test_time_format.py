"""Times of another form than ISO 8601: --time-format says which."""

import json

import pytest

from recap_tf import convert, engagement_edges
from recap_tf.core.command import UserError

# Sorted as days before months, and not as months before days.
DAYS = ["02/01/2024", "03/01/2024", "01/02/2024", "02/02/2024"]


@pytest.fixture
def log(tmp_path):
    rows = [f"{day},u{i % 2},{i},{i * 0.5},{i % 2}" for i, day in enumerate(DAYS)]
    (tmp_path / "log.csv").write_text(
        "day,user,item,x,click\n" + "\n".join(rows) + "\n"
    )
    return tmp_path


def flags(log, *more):
    return [
        *("--input", str(log / "log.csv"), "--labels", "click", "--ids", "user"),
        *(
            "--numeric",
            "x",
            "--exclude",
            "item",
            "--history",
            "user",
            "--time",
            "day",
            "--min-count",
            "1",
        ),
        *("--out", str(log / "out"), *more),
    ]


def test_rows_are_sorted_and_chosen_by_the_form(log, capsys):
    where = ["--where", "day>=01/02/2024"]
    convert.main(flags(log, "--time-format", "%d/%m/%Y", *where))
    assert "train: 2 rows" in capsys.readouterr().out
    assert json.loads((log / "out" / "columns.json").read_text())


def test_rows_that_another_form_does_not_sort_are_refused(log):
    with pytest.raises(UserError, match=r"row 3: day is .* earlier than"):
        convert.main(flags(log, "--time-format", "%m/%d/%Y"))


def test_a_form_is_asked_for_where_none_is_known(log):
    with pytest.raises(UserError, match=r"'02/01/2024'.*--time-format %d/%m/%Y"):
        convert.main(flags(log))


def test_a_form_that_is_none_is_refused(log):
    with pytest.raises(UserError, match=r"--time-format '%d/%q'"):
        convert.main(flags(log, "--time-format", "%d/%q"))


def test_edges_end_where_the_form_says(log, capsys):
    engagement_edges.main(
        [
            *("--input", str(log / "log.csv"), "--labels", "click"),
            *("--nodes", "user,item", "--out", str(log / "edges.parquet")),
            *("--where", "day<01/02/2024", "--time-format", "%d/%m/%Y"),
        ]
    )
    assert "click: 1 edges" in capsys.readouterr().out
