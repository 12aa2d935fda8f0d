"""Memory that was freed, and Python's looking for garbage."""

import gc

import pytest
from served import running, save

from serving import freed_memory
from serving.models import loader
from serving.models.saved_model import load_saved_model


def test_garbage_is_looked_for_again_when_the_last_load_has_ended():
    assert gc.isenabled()
    with freed_memory.uncollected():
        with freed_memory.uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(ValueError), freed_memory.uncollected():
        raise ValueError
    assert gc.isenabled()


def test_no_garbage_is_looked_for_while_a_version_loads(tmp_path, monkeypatch):
    enabled = []

    def load(*arguments, **settings):
        enabled.append(gc.isenabled())
        return load_saved_model(*arguments, **settings)

    monkeypatch.setattr(loader, "load_saved_model", load)
    save(tmp_path / "m" / "1", 1.0)
    with running(model_base_path=str(tmp_path / "m")):
        assert enabled == [False]
        assert gc.isenabled()
