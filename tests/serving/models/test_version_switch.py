"""Which version is served while others come and go, with loads that cost nothing."""

import threading

from served import wait_for
from tensorflow_serving.apis import model_pb2

from serving.models import lifecycle, served_model
from serving.models.catalog import Catalog
from serving.models.lifecycle import Lifecycle
from serving.models.served_model import ModelConfig

LOADING, AVAILABLE, END = 20, 30, 50


class _Loads:
    """Stands for a `Loader`; its models are nothing."""

    def __init__(self, load=lambda name, path: None):
        self._load = load

    def load(self, name: str, path: str) -> object:
        self._load(name, path)
        return object()

    def prepare(self, name: str, model: object) -> None: ...

    def unload(self, name: str, model: object) -> None: ...

    def forget(self, name: str) -> None: ...


def test_what_a_poll_found_is_not_served_under_another_config(monkeypatch):
    reading, go_on = threading.Event(), threading.Event()

    def find(path: str) -> dict[int, str]:
        if path == "/old" and threading.current_thread().name == "poll":
            reading.set()
            go_on.wait(30)
        return {1: f"{path}/1"} if path == "/new" else {2: f"{path}/2"}

    monkeypatch.setattr(lifecycle, "find_versions", find)
    catalog = Catalog()
    served = Lifecycle(catalog, _Loads())
    served.configure([ModelConfig(name="m", base_path="/old")])
    poll = threading.Thread(target=served.poll, name="poll")
    poll.start()
    reading.wait(30)
    new = ModelConfig(name="m", base_path="/new")
    reload = threading.Thread(target=served.configure, args=([new],))
    reload.start()
    # It ends and version 2 is gone by then, unless it waits for the poll.
    go_on.wait(1)
    go_on.set()
    poll.join()
    reload.join()

    def there() -> list[int]:
        statuses = catalog.statuses(model_pb2.ModelSpec(name="m"))
        return [status.version for status in statuses if status.state != END]

    wait_for(lambda: there() == [1], seconds=10)
    served.close()


def test_of_the_versions_that_are_gone_the_last_ones_are_remembered(monkeypatch):
    folders = {}
    monkeypatch.setattr(served_model, "_MOST_ENDED", 2)
    monkeypatch.setattr(lifecycle, "find_versions", lambda _: dict(folders))
    catalog = Catalog()
    served = Lifecycle(catalog, _Loads())

    def there() -> dict[int, int]:
        known = catalog.statuses(model_pb2.ModelSpec(name="m"))
        return {status.version: status.state for status in known}

    config = [ModelConfig(name="m", base_path="/m")]
    for number in range(1, 7):
        folders[number] = f"/m/{number}"
        served.configure(config)
        wait_for(lambda n=number: there().get(n - 1, END) == END)
    served.configure(config)
    assert there() == {4: END, 5: END, 6: AVAILABLE}
    served.close()


def test_a_session_is_made_ahead_when_no_old_version_may_leave_its_own(monkeypatch):
    folders, ahead = {1: "/m/1"}, []
    monkeypatch.setattr(lifecycle, "find_versions", lambda _: dict(folders))
    loads = _Loads()
    loads.load = lambda name, path: path
    loads.prepare = lambda name, model: ahead.append(model)
    catalog = Catalog()
    served = Lifecycle(catalog, loads)
    config = [ModelConfig(name="m", base_path="/m")]
    served.configure(config)
    wait_for(lambda: ahead == ["/m/1"])
    spec = model_pb2.ModelSpec(name="m")
    with catalog.using(spec):
        folders[2] = "/m/2"
        served.configure(config)
        with catalog.using(spec) as (model, _):
            assert model == "/m/2"
        assert ahead == ["/m/1"]
    # It may have been of another graph.
    wait_for(lambda: "/m/2" in ahead)
    served.close()


class _SlowLoads:
    """Stands for a model's base path with versions that load when they are let go."""

    def __init__(self, monkeypatch):
        self.folders, self.loaded = {}, []
        self._doors = {number: threading.Event() for number in range(1, 9)}
        monkeypatch.setattr(lifecycle, "find_versions", lambda _: dict(self.folders))
        self.catalog = Catalog()
        self.served = Lifecycle(self.catalog, _Loads(self._load))

    def add(self, number: int, *, wait: bool = False) -> None:
        self.folders[number] = f"/m/{number}"
        if wait:
            self.let_go(number)
            self.served.configure([ModelConfig(name="m", base_path="/m")])
        else:
            self.served.poll()

    def let_go(self, number: int) -> None:
        self._doors[number].set()

    def there(self) -> dict[int, int]:
        known = self.catalog.statuses(model_pb2.ModelSpec(name="m"))
        return {status.version: status.state for status in known}

    def _load(self, name, path):
        number = int(path[3:])
        self._doors[number].wait(20)
        self.loaded.append(number)


def test_a_version_that_is_overtaken_while_it_waits_is_not_loaded(monkeypatch):
    slow = _SlowLoads(monkeypatch)
    slow.add(1, wait=True)
    slow.add(2)
    wait_for(lambda: slow.there()[2] == LOADING)
    slow.add(3)
    slow.add(4)
    for number in (2, 3, 4):
        slow.let_go(number)
    wait_for(lambda: slow.there() == {1: END, 2: END, 3: END, 4: AVAILABLE})
    assert slow.loaded == [1, 2, 4]
    slow.served.close()


def test_of_the_old_versions_only_the_newest_waits_for_the_new_one(monkeypatch):
    slow = _SlowLoads(monkeypatch)
    slow.add(1, wait=True)
    slow.add(2)
    wait_for(lambda: slow.there()[2] == LOADING)
    slow.add(3)
    slow.let_go(2)
    wait_for(lambda: slow.there() == {1: END, 2: AVAILABLE, 3: LOADING})
    slow.let_go(3)
    wait_for(lambda: slow.there() == {1: END, 2: END, 3: AVAILABLE})
    slow.served.close()
