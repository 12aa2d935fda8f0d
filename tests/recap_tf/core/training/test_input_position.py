"""The input goes on where a checkpoint left it."""

import pytest
import tensorflow as tf

from recap_tf.core.training.input_position import (
    ResumableInput,
    restore_position,
    write_position,
)


def read(seed):
    return iter(tf.data.Dataset.range(20).shuffle(20, seed=seed))


def take(iterator, count):
    return [int(next(iterator)) for _ in range(count)]


def saved(folder, after: int):
    """Takes so many and saves; all twenty in the order of seed 1."""
    batches = ResumableInput(read, 1, restorable=True)
    iterator = batches.start(0, None)
    first = take(iterator, after)
    write_position(str(folder), batches.position)
    return first + take(iterator, 20 - after)


def test_a_resumed_input_goes_on_where_it_was(tmp_path):
    whole = saved(tmp_path, after=7)
    batches = ResumableInput(read, 1, restorable=True)
    iterator = batches.start(7, str(tmp_path))
    assert batches.position is iterator
    assert take(iterator, 13) == whole[7:]


def test_without_a_stored_position_the_order_is_another(tmp_path):
    whole = saved(tmp_path / "elsewhere", after=7)
    batches = ResumableInput(read, 1, restorable=True)
    iterator = batches.start(7, str(tmp_path))
    assert take(iterator, 20) == take(read(1 + 7), 20) != whole
    # Not that of the iterator that could not be restored: it is at the start.
    assert batches.position is None


@pytest.mark.parametrize("resumed", [True, False])
def test_what_cannot_be_restored_has_no_position(tmp_path, resumed):
    saved(tmp_path, after=7)
    batches = ResumableInput(read, 1, restorable=False)
    iterator = batches.start(7 * resumed, str(tmp_path) if resumed else None)
    assert take(iterator, 20) == take(read(1 + 7 * resumed), 20)
    assert batches.position is None


def test_a_checkpoint_without_a_position_moves_nothing(tmp_path):
    iterator = read(1)
    assert not restore_position(str(tmp_path), iterator)
    assert take(iterator, 20) == take(read(1), 20)
