import numpy as np
import pyarrow as pa
import pytest

from recap_tf.conversion.history import (
    SMOOTHING,
    History,
    HistorySettings,
    RunningCounts,
    read_history,
)


def run(history, keys, times, labels):
    table = pa.table(keys)
    return history.features(table, np.array(times), np.array(labels)[:, None])


SETTINGS = HistorySettings("time", ("user",), ("click",))


def test_counts_what_was_before():
    features = run(
        History(SETTINGS),
        {"user": ["a", "b", "a", "a", "b"]},
        [1, 2, 3, 4, 5],
        [1, 0, 1, 0, 1],
    )
    assert SETTINGS.features == [
        "user.past_impressions",
        "user.past_click",
        "user.past_click_rate",
    ]
    assert features[:, 0].tolist() == [0, 0, 1, 2, 1]
    assert features[:, 1].tolist() == [0, 0, 1, 2, 0]
    # The fourth row: 2 clicks of 2; of all three rows before, 2 clicked.
    rate = (2 + 1) / (3 + 2)
    expected = (2 + SMOOTHING * rate) / (2 + SMOOTHING)
    np.testing.assert_allclose(features[3, 2], expected)


def test_rows_of_one_time_do_not_see_each_other():
    features = run(History(SETTINGS), {"user": ["a"] * 4}, [1, 2, 2, 3], [1, 1, 1, 1])
    assert features[:, 0].tolist() == [0, 1, 1, 3]


def test_pairs_of_columns_are_keys():
    settings = HistorySettings("time", ("user+item",), ("click",))
    keys = {"user": ["a", "a", "a", None, None], "item": [1, 2, 1, 1, 1]}
    features = run(History(settings), keys, range(5), [1] * 5)
    assert features[:, 0].tolist() == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_chunks_and_saving_do_not_change_the_counts(tmp_path, size):
    random = np.random.default_rng(0)
    users = random.integers(0, 4, 40).astype(str)
    times = np.sort(random.integers(0, 15, 40))
    labels = random.integers(0, 2, 40)
    whole = run(History(SETTINGS), {"user": users}, times, labels)
    history, parts = History(SETTINGS), []
    for start in range(0, 40, size):
        part = slice(start, start + size)
        parts.append(run(history, {"user": users[part]}, times[part], labels[part]))
        history.save(str(tmp_path / "state"))
        history = read_history(SETTINGS, str(tmp_path / "state"))
    np.testing.assert_allclose(np.concatenate(parts), whole)
    brute = [
        ((users == user) & (times < time)).sum()
        for user, time in zip(users, times, strict=True)
    ]
    assert whole[:, 0].tolist() == brute


def test_counters_of_earlier_days_know_other_spellings():
    counts = RunningCounts(labels=1)
    rows = counts.rows_of(["\x1f7.0", "\x1f7", "\x1fTrue"])
    counts.before(rows, np.array([1, 2, 3]), np.array([[1], [0], [1]]))
    again = RunningCounts.restored(counts.table(), 3)
    rows = again.rows_of(["\x1f7", "\x1ftrue"])
    before = again.before(rows, np.array([4, 4]), np.zeros((2, 1)))
    assert before.tolist() == [[2, 1], [1, 1]]
