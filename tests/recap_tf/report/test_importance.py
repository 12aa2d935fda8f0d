"""Permutation importance: the planted column is found, noise is not; its error."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from recap_tf.conversion.columns import BinaryColumn, Columns, IdColumn
from recap_tf.conversion.numeric_statistics import NumericColumn
from recap_tf.data.feature_steps import TruncateAndSlice
from recap_tf.data.record_batches import Records
from recap_tf.data.schema import Feature, write_schema
from recap_tf.report.feature_groups import FeatureGroup, column_groups, whole_features
from recap_tf.report.importance import PermutationImportance, placements
from recap_tf.report.row_sample import RowSample, as_tensors


def test_placements_average_to_the_auroc():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 20, 300) / 20  # with ties
    positive, weights = rng.random(300) < 0.3, rng.random(300)
    placed = placements(scores, positive, weights)
    expected = roc_auc_score(positive, scores, sample_weight=weights)
    for own in (True, False):
        mine = positive == own
        mean = np.average(placed[mine], weights=weights[mine])
        assert mean == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    "scores, positive", [([1.0, 2.0], [True, True]), ([np.nan, 1.0], [True, False])]
)
def test_placements_without_an_auroc_are_no_numbers(scores, positive):
    placed = placements(np.array(scores), np.array(positive), np.ones(2))
    assert np.isnan(placed).all()


def _importance(examples=3000, seed=0, repeats=3):
    """Scores are x0 + the sum of `bag`; x1 is in the input, but says nothing."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(examples, 3)).astype(np.float32)
    bag = np.empty(examples, object)
    for i in range(examples):
        bag[i] = rng.normal(size=rng.integers(0, 4)).astype(np.float32)
    strength = x[:, 0] + np.array([values.sum() for values in bag])
    likes = rng.random(examples) < 1 / (1 + np.exp(-2 * strength))
    labels = np.stack([likes, np.zeros(examples, bool)], axis=1).astype(int)

    def predict(features):
        summed = tf.sparse.reduce_sum(features["bag"], axis=1)
        score = features["x"][:, 0] + 0.01 * features["x"][:, 1] + summed
        return tf.stack([score, score], axis=1)

    features = {"x": x, "bag": bag}
    permutation = PermutationImportance(
        predict,
        features,
        labels,
        np.ones(labels.shape, np.float32),
        repeats=repeats,
        batch_size=1000,
        seed=seed,
    )
    groups = [FeatureGroup(str(i), "", {"x": [i]}) for i in range(3)]
    groups += [
        FeatureGroup("bag", "", {"bag": None}),
        FeatureGroup("both", "", {"x": [0], "bag": None}),
    ]
    return {one.group.name: one for one in permutation.measure(groups)}


def test_what_the_model_lives_on_is_found_and_noise_is_not():
    found = _importance()
    assert (
        found["0"].drops[0] > 0.08 and found["0"].drops[0] > 10 * found["0"].errors[0]
    )
    assert found["bag"].drops[0] > 0.08
    assert abs(found["1"].drops[0]) < 4 * found["1"].errors[0] + 1e-3
    assert 0 < found["1"].errors[0] < 1e-3
    # Permuted together, all that the score is made of is lost.
    assert found["both"].drops[0] > max(found["0"].drops[0], found["bag"].drops[0])
    # A column that the model does not look at changes nothing whatsoever.
    assert found["2"].drops[0] == 0 and found["2"].errors[0] == 0
    assert found["2"].none_at_all and not found["1"].none_at_all


def test_a_task_without_positives_has_no_importance():
    found = _importance(examples=200)
    assert np.isnan(found["0"].drops[1]) and np.isnan(found["0"].errors[1])


def test_the_standard_error_is_what_the_drop_varies_by():
    drops, errors = [], []
    for seed in range(40):
        found = _importance(examples=300, seed=seed, repeats=2)["0"]
        drops.append(found.drops[0])
        errors.append(found.errors[0])
    assert np.mean(errors) == pytest.approx(np.std(drops), rel=0.35)


def test_a_sample_is_uniform_and_keeps_rows_together():
    batches = []
    for start in range(0, 400, 50):
        rows = tf.range(start, start + 50)
        sparse = tf.sparse.from_dense(tf.stack([rows, 0 * rows], axis=1) + 1)
        batches.append({"rows": rows, "sparse": sparse})
    picked = np.zeros(400)
    for seed in range(200):
        sample = RowSample(40, seed)
        for batch in batches:
            sample.add(batch if seed == 0 else {"rows": batch["rows"]})
        kept = sample.rows()
        assert len(kept["rows"]) == len(set(kept["rows"])) == 40
        picked[kept["rows"]] += 1
        if seed == 0:
            assert [row[0] - 1 for row in kept["sparse"]] == kept["rows"].tolist()
    assert sample.seen == 400
    # 20 of 200 expected, each within five standard deviations.
    assert np.abs(picked - 20).max() < 5 * np.sqrt(200 * 0.1 * 0.9)
    assert abs(picked[:50].mean() - picked[-50:].mean()) < 3


def test_a_sample_of_few_rows_is_all_of_them_and_of_none_is_empty():
    for size, expected in ((10, [0, 1, 2]), (0, None)):
        sample = RowSample(size)
        sample.add({"x": tf.range(3)})
        kept = sample.rows().get("x")
        assert (None if kept is None else kept.tolist()) == expected
        assert sample.seen == 3


def test_sparse_and_bytes_rows_come_back_as_they_went():
    sparse = tf.sparse.from_dense([[1, 2], [0, 0], [3, 0]])
    words = tf.constant([["a"], ["b"], ["c"]])
    sample = RowSample(3)
    sample.add({"words": words, "sparse": sparse})
    back = as_tensors(sample.rows())
    assert back["words"].numpy().tolist() == [[b"a"], [b"b"], [b"c"]]
    assert tf.sparse.to_dense(back["sparse"]).numpy().tolist() == [
        [1, 2],
        [0, 0],
        [3, 0],
    ]


@pytest.fixture
def records(tmp_path):
    features = [
        Feature("continuous", "float_list", 6),
        Feature("binary", "int64_list", 2),
    ]
    features += [Feature("discrete", "int64_list", 1), Feature("v", "float_list", 4)]
    write_schema(str(tmp_path / "schema.json"), features)
    names = {one.name: one.name for one in features}
    return lambda **settings: Records(
        schema=str(tmp_path / "schema.json"), files="none", features=names, **settings
    )


def _features(continuous: int = 6):
    widths = {"continuous": continuous, "binary": 2, "discrete": 1, "v": 4}
    return {name: np.zeros((5, width)) for name, width in widths.items()}


def test_columns_made_of_one_column_are_one_group(records):
    rest = dict.fromkeys(
        ("missing", "zeros", "infinite", "min", "max", "mean", "std"), 0
    )
    columns = Columns(
        rows=5,
        continuous=tuple(
            NumericColumn(name=name, **rest, log_mean=0, log_std=0) for name in "abcdef"
        ),
        binary=tuple(BinaryColumn(name=f"{c} missing", column=c, ones=0) for c in "be"),
        discrete=(IdColumn(name="a", size=3, rare=0, missing=0),),
    )
    groups = column_groups(_features(), records(), columns, 100)
    found = {one.name: one.columns for one in groups}
    assert list(found) == list("abcdef")
    assert found["a"] == {"continuous": [0], "discrete": [0]}
    assert found["b"] == {"continuous": [1], "binary": [0]}
    assert found["c"] == {"continuous": [2]}


def test_columns_without_names_are_numbered_as_in_the_records(records, tmp_path):
    mask = tmp_path / "mask.npy"
    np.save(mask, np.array([0, 1, 0, 1, 1]))
    kept = TruncateAndSlice(continuous_truncation=5, continuous_mask=str(mask))
    groups = column_groups(_features(3), records(preprocess=[kept]), None, 100)
    found = {one.name: one.columns for one in groups}
    assert found == {
        "continuous[1]": {"continuous": [0]},
        "continuous[3]": {"continuous": [1]},
        "continuous[4]": {"continuous": [2]},
        "binary[0]": {"binary": [0]},
        "binary[1]": {"binary": [1]},
    }


def test_a_wide_feature_is_permuted_in_runs(records):
    groups = column_groups(_features(), records(), None, 3)
    runs = [one for one in groups if "continuous" in one.columns]
    assert [one.columns["continuous"] for one in runs] == [[0, 1], [2, 3], [4, 5]]
    assert runs[0].name == "continuous[0 to 1]"


def test_every_feature_is_a_group(records):
    groups = whole_features(_features())
    assert {one.name: one.columns for one in groups}["v"] == {"v": None}
