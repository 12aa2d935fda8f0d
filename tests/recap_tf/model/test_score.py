"""The weighted score of a model's calibrated probabilities."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.model.mlp import MLP
from recap_tf.model.preprocessors import Log1pAbs
from recap_tf.model.ranking_model import RankingModel
from recap_tf.model.score import check_score_weights, weighted_score


def test_weighted_score_by_hand():
    probabilities = tf.constant([[0.5, 0.1], [0.0, 1.0]])
    found = weighted_score(probabilities, tf.constant([2.0, -369.0]))
    np.testing.assert_allclose(found, [1 - 36.9, -369.0], rtol=1e-6)
    per_row = weighted_score(probabilities, tf.constant([[1.0, 0.0], [0.0, 3.0]]))
    np.testing.assert_allclose(per_row, [0.5, 3.0])


def test_rows_of_weights_do_not_multiply_rows_of_probabilities():
    with pytest.raises(tf.errors.InvalidArgumentError):
        weighted_score(tf.ones([1, 2]), tf.ones([3, 2]))


def test_weights_must_be_finite_and_of_known_tasks():
    with pytest.raises(ValueError, match="S names the task 'share', which is not in"):
        check_score_weights("S", {"share": 1.0}, ["like"])
    with pytest.raises(ValueError, match=r"S\['like'\] must be a finite number. Rec"):
        check_score_weights("S", {"like": float("nan")}, ["like"])


def _outputs(**settings):
    model = RankingModel(
        ["like", "reply", "report"],
        preprocessor=Log1pAbs(),
        tower=lambda: MLP([1]),
        sharing="share_none",
        **settings,
    )
    return model({"continuous": tf.constant([[1.0], [-4.0]])}, training=False)


def test_the_model_scores_calibrated_probabilities_and_unlisted_tasks_weigh_nothing():
    outputs = _outputs(
        score_weights={"report": -10.0, "like": 0.5}, calibration_ratios={"like": 0.1}
    )
    calibrated = outputs["calibrated_probabilities"].numpy()
    assert (calibrated[:, 0] < outputs["probabilities"].numpy()[:, 0]).all()
    expected = 0.5 * calibrated[:, 0] - 10.0 * calibrated[:, 2]
    np.testing.assert_allclose(outputs["score"], expected, rtol=1e-6)
    assert outputs["score"].dtype == tf.float32


def test_no_weights_no_score():
    assert set(_outputs()) == {"logits", "probabilities", "calibrated_probabilities"}
