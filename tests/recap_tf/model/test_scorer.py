"""A view of a model with calibrators: what it changes, and what it leaves alone."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.model.calibrators import Calibrators, PlattMap
from recap_tf.model.mlp import MLP
from recap_tf.model.preprocessors import Log1pAbs
from recap_tf.model.ranking_model import RankingModel
from recap_tf.model.scorer import with_calibrators

X = {"continuous": tf.constant([[-2.0], [0.0], [5.0]])}
HALF = Calibrators({"like": PlattMap(0.0, 0.0)}, {"like": "fit"})


@pytest.fixture
def model():
    return RankingModel(
        tasks=["like", "reply"],
        preprocessor=Log1pAbs(),
        backbone=MLP([4]),
        tower=lambda: MLP([1]),
        score_weights={"like": 2.0, "reply": 1.0},
    )


def test_a_view_calibrates_and_the_model_stays_as_it_is(model):
    before = model(X)
    view = with_calibrators(model, HALF)
    outputs, after = view(X), model(X)
    reply = before["calibrated_probabilities"][:, 1]
    calibrated = outputs["calibrated_probabilities"]
    np.testing.assert_array_equal(calibrated[:, 0], [0.5] * 3)
    np.testing.assert_array_equal(calibrated[:, 1], reply)
    np.testing.assert_allclose(outputs["score"], 1.0 + reply, rtol=1e-6)
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])


def test_all_else_is_the_models(model):
    view = with_calibrators(model, HALF)
    model(X)
    assert view.calibrators is HALF and model.calibrators is None
    assert view.tasks == ["like", "reply"] and view.towers is model.towers
    assert [v.ref() for v in view.variables] == [v.ref() for v in model.variables]
    with pytest.raises(AttributeError, match="tower_of_babel"):
        _ = view.tower_of_babel


def test_calibrators_cannot_be_set(model):
    with pytest.raises(AttributeError, match="calibrators"):
        model.calibrators = HALF


def test_without_calibrators_the_model_is_itself(model):
    assert with_calibrators(model, None) is model
