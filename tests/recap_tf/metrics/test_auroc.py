import itertools
import re
import warnings

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.auroc import AUROC


@pytest.mark.parametrize(
    "labels, scores, expected",
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 1),
        ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4], 0),
        ([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], 3 / 4),
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 1 / 2),
        ([0, 1, 1], [0.3, 0.3, 0.9], 3 / 4),
        ([0, 1, 0, 1], [1e-30, 2e-30, 3e-30, 4e-30], 3 / 4),
        ([0, 1, 0, 1], [-40.0, -np.inf, 3.0, np.inf], 1 / 2),
        ([0, 1], [0.0, -0.0], 1 / 2),
    ],
    ids=[
        "perfect",
        "reversed",
        "one pair wrong",
        "all tied",
        "one tie",
        "tiny probabilities",
        "infinite logits",
        "signed zeros",
    ],
)
def test_auroc_by_hand(labels, scores, expected):
    auroc = AUROC()
    auroc.update_state(labels, np.array(scores, np.float32))
    assert float(auroc.result()) == pytest.approx(expected, abs=1e-12)


def test_weights_multiply_the_pairs():
    # Pairs won: 3 * 2 of (3 + 1) * 2 * (the negative's weight, which cancels).
    auroc = AUROC()
    auroc.update_state([1, 1, 0], [0.9, 0.1, 0.5], [3.0, 1.0, 2.0])
    assert float(auroc.result()) == pytest.approx(3 / 4)


def test_agreement_with_sklearn_on_weights_and_ties_over_batches_of_many_sizes():
    rng = np.random.default_rng(19)
    examples, tasks = 100_000, 2
    labels = rng.uniform(size=[examples, tasks]) < [0.01, 0.4]
    scores = rng.normal(size=[examples, tasks]) + labels
    scores[:, 1] = scores[:, 1].round(1)
    scores = scores.astype(np.float32)
    weights = rng.exponential(size=[examples, tasks]).astype(np.float32)
    auroc = AUROC(tasks=tasks)

    @tf.function(reduce_retracing=True)
    def step(*batch):
        auroc.update_state(*batch)

    cuts = np.sort(rng.integers(0, examples, 20))
    batches = [np.split(array, cuts) for array in (labels, scores, weights)]
    for batch in zip(*batches, strict=True):
        step(*map(tf.constant, batch))
    expected = [
        sklearn.metrics.roc_auc_score(
            labels[:, task], scores[:, task], sample_weight=weights[:, task]
        )
        for task in range(tasks)
    ]
    np.testing.assert_allclose(auroc.result(), expected, rtol=0, atol=1e-6)


def test_close_float64_scores_are_no_ties():
    scores = np.array([0.5, 0.5 + 1e-15])
    exact, halved = AUROC(), AUROC(dtype="float32")
    for auroc in (exact, halved):
        auroc.update_state([0, 1], scores)
    assert exact.result() == 1
    assert halved.result() == 0.5


def test_weight_zero_leaves_an_example_out_even_with_nan():
    auroc = AUROC(tasks=2)
    labels = [[0, 0], [1, 1], [1, 0], [0, 1]]
    scores = [[0.1, 0.1], [0.2, 0.2], [np.nan, 0.9], [0.9, np.nan]]
    weights = [[1.0, 1.0], [1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    auroc.update_state(labels, scores, weights)
    np.testing.assert_allclose(auroc.result(), [1, 0.5])
    assert int(auroc.size) == 3


def test_a_nan_score_gives_nan_for_its_task():
    auroc = AUROC(tasks=2)
    auroc.update_state([[0, 0], [1, 1], [1, 1]], [[0, 0], [1, 1], [1, np.nan]])
    np.testing.assert_array_equal(auroc.result(), [1, np.nan])


def test_label_threshold():
    auroc = AUROC(label_threshold=3)
    auroc.update_state([1, 3, 4, 5], [0.1, 0.3, 0.2, 0.9])
    assert auroc.result() == 3 / 4


def test_a_missing_class_warns_and_names_the_column():
    auroc = AUROC(tasks=3)
    auroc.update_state([[0, 0, 1], [0, 1, 1]], [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]])
    message = r"^auroc has no value: .*in column \[0, 2\]$"
    with pytest.warns(RuntimeWarning, match=message):
        value = auroc.result()
    np.testing.assert_array_equal(value, [np.nan, 1, np.nan])


def test_a_missing_class_is_an_error_if_wished():
    auroc = AUROC(missing_class="error")
    auroc.update_state([1, 1], [0.1, 0.2])
    message = "^auroc has no value: no positive or no negative example$"
    with pytest.raises(ValueError, match=message):
        auroc.result()


def test_a_missing_class_inside_a_function(capfd):
    warned, failed = AUROC(tasks=1), AUROC(tasks=1, missing_class="error")
    assert np.isnan(tf.function(warned.result)())
    assert "auroc has no value" in capfd.readouterr().err
    with pytest.raises(tf.errors.InvalidArgumentError, match="auroc has no value"):
        tf.function(failed.result)()


def test_with_both_classes_nothing_is_said():
    auroc = AUROC(missing_class="error")
    auroc.update_state([0, 1], [0.1, 0.2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert auroc.result() == 1


def test_merging_in_any_order_equals_seeing_all():
    rng = np.random.default_rng(23)
    shards, whole = [AUROC(tasks=2) for _ in range(4)], AUROC(tasks=2)
    for size, shard in zip([5, 0, 30, 11], shards, strict=True):
        batch = (
            rng.integers(0, 2, [size, 2]),
            rng.integers(0, 9, [size, 2]),
            rng.uniform(size=[size, 2]),
        )
        shard.update_state(*batch)
        whole.update_state(*batch)
    for order in itertools.permutations(shards):
        merged = AUROC(tasks=2)
        merged.merge_state(order)
        np.testing.assert_allclose(merged.result(), whole.result(), rtol=1e-12)


def test_reset_starts_anew_and_frees_the_scores():
    auroc = AUROC()
    auroc.update_state([0, 1], [0.2, 0.1])
    auroc.reset_state()
    assert auroc.scores.read_value().shape == (0, 1)
    auroc.update_state([0, 1], [0.1, 0.2])
    assert auroc.result() == 1


def test_what_was_seen_survives_a_checkpoint(tmp_path):
    saved, restored = AUROC(), AUROC()
    saved.update_state([0, 1, 0], [0.1, 0.2, 0.3])
    path = tf.train.Checkpoint(metric=saved).save(str(tmp_path / "metric"))
    tf.train.Checkpoint(metric=restored).restore(path).assert_consumed()
    for auroc in (saved, restored):
        auroc.update_state([1], [0.4])
    assert restored.result() == saved.result() == 3 / 4


def test_config_round_trip():
    auroc = AUROC(2, label_threshold=3, missing_class="error", name="m")
    copy = keras.metrics.deserialize(keras.metrics.serialize(auroc))
    assert type(copy) is AUROC
    assert copy.get_config() == auroc.get_config()
    assert (copy.tasks, copy.label_threshold, copy.missing_class) == (2, 3, "error")


def test_an_unknown_choice_is_named():
    message = r"missing_class must be one of \['warn', 'error'\]. Received: 'ignore'"
    with pytest.raises(ValueError, match=message):
        AUROC(missing_class="ignore")


def test_golden_auroc_after_each_batch(golden):
    arrays = golden("metrics_rce_auroc")
    pattern = re.compile(r"(\w+)/auroc/(weighted|unweighted)/after_each_batch")
    matches = [match for match in map(pattern.fullmatch, arrays) if match]
    assert matches
    for match in matches:
        case, weighting = match.groups()
        auroc = AUROC()
        for batch, expected in enumerate(arrays[match[0]]):
            weight = arrays[f"{case}/weights"][batch]
            auroc.update_state(
                arrays[f"{case}/labels"][batch],
                arrays[f"{case}/predictions"][batch],
                weight if weighting == "weighted" else None,
            )
            np.testing.assert_allclose(
                auroc.result(), expected, rtol=0, atol=1e-6, err_msg=match[0]
            )
        exact = arrays[f"{case}/auroc/{weighting}/float64_pairwise"]
        np.testing.assert_allclose(auroc.result(), exact, rtol=0, atol=1e-6)


def test_golden_auroc_of_single_sets(golden):
    arrays = golden("metrics_rce_auroc")
    pattern = re.compile(r"(\w+)/auroc")
    matches = [match for match in map(pattern.fullmatch, arrays) if match]
    assert matches
    for match in matches:
        auroc = AUROC()
        if f"{match[1]}/labels" in arrays:
            labels = arrays[f"{match[1]}/labels"]
            auroc.update_state(labels, arrays[f"{match[1]}/predictions"])
        else:
            # The golden set without positives comes without its inputs.
            auroc.update_state([0, 0, 0], [0.2, 0.5, 0.7])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            value = auroc.result()
        np.testing.assert_allclose(
            value, arrays[match[0]], rtol=0, atol=1e-6, err_msg=match[0]
        )


def test_golden_metrics_are_all_compared(golden):
    compared = re.compile(
        r"\w+/(predictions|labels|weights|logits|rce|auroc"
        r"|n?rce(_from_logits)?/\w+/label_smoothing_[\d.]+/after_each_batch"
        r"|auroc/\w+/(after_each_batch|float64_pairwise)"
        r"|n?rce_forward_batch_values)"
    )
    keys = golden("metrics_rce_auroc")
    assert [key for key in keys if not compared.fullmatch(key)] == []
