"""Losses of edges and negatives, by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from twhin_tf.model.losses import LogisticLoss, NegativeScores, SoftmaxLoss

POSITIVES = tf.constant([1.0, -1.0])
SCORES = tf.constant([[0.0, 2.0], [1.0, -2.0]])
KEEP = tf.constant([[True, False], [True, True]])


def softplus(x):
    return math.log1p(math.exp(x))


def test_logistic_loss_gives_negatives_the_weight_of_edges():
    negatives = [NegativeScores(SCORES, KEEP, POSITIVES)]
    of_edges = softplus(-1.0) + softplus(1.0)
    of_negatives = softplus(0.0) + softplus(1.0) + softplus(-2.0)
    expected = (of_edges + 2 / 3 * of_negatives) / (2 + 3)
    found = LogisticLoss()(POSITIVES, negatives, None)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_logistic_loss_bears_extreme_scores():
    scores = tf.Variable([[-200.0, 60.0, 0.0]])
    with tf.GradientTape() as tape:
        negatives = [NegativeScores(scores, None, POSITIVES[:1])]
        loss = LogisticLoss()(POSITIVES[:1], negatives, None)
    gradient = tape.gradient(loss, scores)
    np.testing.assert_allclose(gradient[0] * 12, [0.0, 1.0, 0.5], atol=1e-6)
    expected = (softplus(-1.0) + (60.0 + softplus(0.0)) / 3) / 4
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_gradients_of_the_logistic_loss_are_those_of_its_formula():
    scores = [tf.Variable([1.0, -1.0]), tf.Variable(SCORES), tf.Variable(2.0 * SCORES)]
    weights = tf.constant([2.0, 0.5])

    def formula(positives, first, second):
        kept = tf.cast(KEEP, tf.float32)
        of_negatives = tf.reduce_sum(kept * tf.math.softplus(first), axis=1)
        of_negatives += tf.reduce_sum(tf.math.softplus(second), axis=1)
        by_edge = tf.math.softplus(-positives) + 2 / 7 * of_negatives
        return tf.reduce_sum(weights * by_edge) / (2 + 7)

    def ours(positives, first, second):
        negatives = [
            NegativeScores(first, KEEP, positives),
            NegativeScores(second, None, positives),
        ]
        return LogisticLoss()(positives, negatives, weights)

    found = []
    for loss in (formula, ours):
        with tf.GradientTape() as tape:
            total = 3.0 * loss(*scores)
        found.append([total, *tape.gradient(total, scores)])
    for theirs, mine in zip(*found, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5)


def test_no_negatives_left_is_a_loss_of_edges_alone():
    negatives = [NegativeScores(SCORES, tf.zeros_like(KEEP), POSITIVES)]
    expected = (softplus(-1.0) + softplus(1.0)) / 2
    found = LogisticLoss()(POSITIVES, negatives, None)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_softmax_loss():
    e = math.exp
    negatives = [NegativeScores(SCORES, KEEP, POSITIVES)]
    first = -math.log(e(1) / (e(1) + e(0)))
    second = -math.log(e(-1) / (e(-1) + e(1) + e(-2)))
    found = SoftmaxLoss()(POSITIVES, negatives, None)
    np.testing.assert_allclose(found, (first + second) / 2, rtol=1e-6)
    weighted = SoftmaxLoss()(POSITIVES, negatives, tf.constant([3.0, 0.0]))
    np.testing.assert_allclose(weighted, 3 * first / 2, rtol=1e-6)


def test_softmax_over_all_nodes_counts_the_edge_once():
    e = math.exp
    columns = tf.constant([1, -1])
    negatives = [NegativeScores(SCORES, None, POSITIVES, columns)]
    expected = -math.log(e(2) / (e(0) + e(2))) / 2
    found = SoftmaxLoss()(POSITIVES, negatives, None)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_label_smoothing_is_cross_entropy_with_the_smoothed_label():
    negatives = [NegativeScores(SCORES, KEEP, POSITIVES)]
    found = SoftmaxLoss(label_smoothing=0.3)(POSITIVES, negatives, None)
    total = 0.0
    for scores in ([1.0, 0.0], [-1.0, 1.0, -2.0]):
        logs = np.array(scores) - np.log(np.exp(scores).sum())
        label = np.full(len(scores), 0.3 / len(scores))
        label[0] += 0.7
        total -= float(label @ logs)
    np.testing.assert_allclose(found, total / 2, rtol=1e-6)
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\). Rec"):
        SoftmaxLoss(label_smoothing=1.0)
