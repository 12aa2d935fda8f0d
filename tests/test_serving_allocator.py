"""Memory that was freed, and Python's looking for garbage."""

import gc

import pytest

from serving import allocator


def test_garbage_is_looked_for_again_when_the_last_load_has_ended():
    assert gc.isenabled()
    with allocator.uncollected():
        with allocator.uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError), allocator.uncollected():
        raise ValueError
    assert gc.isenabled()
