import numpy as np

from recap_tf.metrics.example_count import ExampleCount, PositiveCount


def test_nothing_seen_counts_zero():
    np.testing.assert_array_equal(ExampleCount(tasks=2).result(), [0, 0])
    assert PositiveCount().result() == 0


def test_a_count_over_everything():
    examples, positives = ExampleCount(), PositiveCount()
    for count in (examples, positives):
        count.update_state([[1, 0, 1], [0, 0, 1]])
    assert examples.result() == 6
    assert positives.result() == 3


def test_counts_take_an_example_in_or_out_but_do_not_weigh_it():
    examples, positives = ExampleCount(tasks=2), PositiveCount(tasks=2)
    labels, weights = [[1, 1], [0, 1], [1, 0]], [[100.0, 1.0], [0.5, 0.0], [0.0, 2.0]]
    for _ in range(2):
        examples.update_state(labels, sample_weight=weights)
        positives.update_state(labels, sample_weight=weights)
    np.testing.assert_array_equal(examples.result(), [4, 4])
    np.testing.assert_array_equal(positives.result(), [2, 2])


def test_the_error_of_a_count_is_its_root():
    count = ExampleCount(tasks=2)
    count.update_state([[1, 1]] * 9, sample_weight=[[5.0, 0.0]] * 9)
    np.testing.assert_array_equal(count.standard_error(), [3, np.nan])
