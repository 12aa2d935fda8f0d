"""What `rank` takes: the viewer's features once, the candidates' for each of them."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.exporting.inputs import RankInputs, padded_specs

SPECS = {
    "user": tf.TensorSpec([None, 2], tf.float32),
    "x": tf.TensorSpec([None, 5], tf.float32),
    "post": tf.TensorSpec([None, 1], tf.string),
}


def test_the_viewer_s_rows_and_columns_are_sent_once_and_repeated_in_their_places():
    inputs = RankInputs(SPECS, ["user"], {"x": [(1, 2), (3, 5)]})
    shapes = {name: tuple(spec.shape) for name, spec in inputs.specs.items()}
    assert shapes == {
        "user": (1, 2),
        "x_viewer": (1, 3),
        "x": (None, 2),
        "post": (None, 1),
    }
    full = inputs.repeated(
        {
            "user": tf.constant([[7.0, 8.0]]),
            "x_viewer": tf.constant([[1.0, 3.0, 4.0]]),
            "x": tf.constant([[0.0, 2.0], [10.0, 12.0]]),
            "post": tf.constant([["a"], ["b"]]),
        }
    )
    np.testing.assert_array_equal(full["user"], [[7, 8], [7, 8]])
    np.testing.assert_array_equal(full["x"], [[0, 1, 2, 3, 4], [10, 1, 12, 3, 4]])
    assert full["post"].numpy().tolist() == [[b"a"], [b"b"]]


def test_split_is_the_inverse_for_one_viewer():
    inputs = RankInputs(SPECS, ["user"], {"x": [(0, 2), (4, 5)]})
    rows = {
        "user": np.float32([[7, 8]] * 3),
        "x": np.float32([[0, 1, 20, 30, 4], [0, 1, 21, 31, 4], [0, 1, 22, 32, 4]]),
        "post": np.array([[b"a"], [b"b"], [b"c"]], object),
    }
    split = inputs.split(rows)
    assert split["x_viewer"].tolist() == [[0, 1, 4]]
    assert split["x"].tolist() == [[20, 30], [21, 31], [22, 32]]
    full = inputs.repeated({name: tf.constant(v) for name, v in split.items()})
    for name, value in rows.items():
        np.testing.assert_array_equal(full[name], value)


def test_lists_of_the_viewer_s_are_repeated_with_their_lengths():
    ids = {"ids": tf.SparseTensorSpec([None, None], tf.int64), "x": SPECS["x"]}
    inputs = RankInputs(padded_specs(ids), ["ids"], {})
    assert tuple(inputs.specs["ids"].shape) == (1, None)
    full = inputs.repeated(
        {
            "ids": tf.constant([[5, 6]], tf.int64),
            "ids_length": tf.constant([2], tf.int64),
            "x": tf.zeros([3, 5]),
        }
    )
    assert full["ids"].numpy().tolist() == [[5, 6]] * 3
    assert full["ids_length"].numpy().tolist() == [2, 2, 2]


COLUMNS = r"recap.export.viewer_columns\['x'\]"


@pytest.mark.parametrize(
    "features, columns, message",
    [
        (["usr"], {}, r"viewer_features names the feature 'usr'.*mean 'user'\?"),
        ([], {"y": [(0, 1)]}, r"viewer_columns names the feature 'y', which the model"),
        (["x"], {"x": [(0, 1)]}, f"{COLUMNS}: all of 'x' is in recap.export.viewer_f"),
        ([], {"x": [(0, 6)]}, rf"{COLUMNS} must be ascending.* its 5 .*\(0, 6\)\]"),
        ([], {"x": [(2, 3), (1, 2)]}, f"{COLUMNS} must be ascending ranges"),
        ([], {"x": [(0, 3), (2, 4)]}, "columns that do not overlap. Received:"),
        ([], {"x": [(2, 2)]}, f"{COLUMNS} must be ascending ranges"),
        ([], {"x": [(0, 5)]}, f"{COLUMNS} must be some of its 5 columns, not all; use"),
        ([], {"x": []}, f"{COLUMNS} must be some of its 5 columns, not none"),
        (["user", "x", "post"], {}, "must leave a feature to the candidates. Received"),
    ],
)
def test_settings_must_fit_the_features(features, columns, message):
    with pytest.raises(UserError, match=message):
        RankInputs(SPECS, features, columns)


def test_columns_of_a_list_and_taken_names_are_refused():
    ids = {"x": tf.TensorSpec([None, None], tf.int64), "y": SPECS["x"]}
    with pytest.raises(UserError, match=f"{COLUMNS} must be a feature of fixed length"):
        RankInputs(ids, [], {"x": [(0, 1)]})
    taken = {"x": SPECS["x"], "x_viewer": SPECS["x"]}
    with pytest.raises(UserError, match="Feature 'x_viewer' must be called something"):
        RankInputs(taken, [], {"x": [(0, 1)]})
