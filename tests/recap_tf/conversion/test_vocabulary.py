import numpy as np
import pyarrow as pa
import pytest

from recap_tf.conversion.numeric_statistics import NumericStatistics
from recap_tf.conversion.vocabulary import ValueCounts, Vocabulary, read_vocabulary


def fitted(column, min_count=1):
    counts = ValueCounts()
    counts.add(column)
    missing = {None: counts.missing} if counts.missing else {}
    return Vocabulary(counts.counts | missing, min_count)


def test_frequent_values_come_first_and_rare_ones_share_0():
    vocabulary = fitted(pa.array(["b", "a", "b", "c", "a", "b", None, None]), 2)
    assert vocabulary.counts == {"b": 3, None: 2, "a": 2}
    assert vocabulary.size == 4 and vocabulary.rare == 1
    assert vocabulary.ids(pa.array(["b", "c", "z", None, "a"])).tolist() == [
        1,
        0,
        0,
        2,
        3,
    ]


def test_a_missing_value_that_training_lacked_is_unseen():
    assert fitted(pa.array(["a"])).ids(pa.array([None, "a"])).tolist() == [0, 1]


@pytest.mark.parametrize(
    "column",
    [pa.array([7, 8]), pa.array([7.0, 8.0]), pa.array(["7", "8"])],
    ids=["integers", "floats", "texts"],
)
def test_a_number_is_one_value_in_every_type(column):
    vocabulary = fitted(pa.array([8, 7, 7]))
    assert vocabulary.ids(column).tolist() == [1, 2]


def test_vocabulary_survives_writing(tmp_path):
    path = str(tmp_path / "v.parquet")
    for values in (["b", "a", "b", None], []):
        vocabulary = fitted(pa.array(values, pa.string()))
        vocabulary.write(path)
        assert list(read_vocabulary(path).counts.items()) == list(
            vocabulary.counts.items()
        )


def test_counting_stops_at_the_limit():
    counts = ValueCounts(limit=2)
    counts.add(pa.array([1, 2, 1]))
    assert not counts.over_limit
    counts.add(pa.array([3]))
    assert counts.over_limit


def test_statistics_do_not_depend_on_the_chunks():
    random = np.random.default_rng(1)
    values = (1e6 + random.normal(size=(1000, 2))).astype(np.float32)
    values[::7, 0] = np.nan
    values[5, 1] = np.inf
    statistics = NumericStatistics(["a", "b"])
    for part in np.array_split(values, 13):
        statistics.add(part)
    a, b = statistics.columns()
    present = values[~np.isnan(values[:, 0]), 0].astype(np.float64)
    assert a.missing == 143 and b.infinite == 1
    np.testing.assert_allclose(a.mean, present.mean())
    np.testing.assert_allclose(a.std, present.std(), rtol=1e-9)
    logs = np.log1p(np.nan_to_num(values[:, 0].astype(np.float64)))
    np.testing.assert_allclose(a.log_std, logs.std())


def test_a_vocabulary_of_earlier_days_knows_other_spellings():
    # Before values had one text each, CSV files gave 7.0 and True.
    vocabulary = Vocabulary({"7.0": 3, "True": 2, "8": 1})
    assert vocabulary.ids(pa.array(["7.0", "7", "8.0"])).tolist() == [1, 1, 3]
    assert vocabulary.ids(pa.array([7, 8, 9])).tolist() == [1, 3, 0]
    assert vocabulary.ids(pa.array([True, False])).tolist() == [2, 0]
