"""Servers that the tests of a session share; each is started when first asked for."""

import dataclasses
import pathlib
import shutil

import pytest
from half_plus import save_half_plus, save_meeting, save_odd
from served import request, save, wait_for
from served_outside import Reloads, model_config, model_configs, serving

ALL = "model_version_policy { all {} }"


@dataclasses.dataclass(frozen=True)
class Exports:
    """Versions to serve: copies of a few exports, below a folder of a test's own."""

    folder: pathlib.Path

    def copy(self, export: str, version: str | pathlib.Path) -> pathlib.Path:
        """Makes the folder `version` a copy of `export`, at once; its base path."""
        version = pathlib.Path(version)
        version.parent.mkdir(parents=True, exist_ok=True)
        aside = version.with_name(f"aside-{version.name}")
        shutil.copytree(self.folder / export, aside)
        aside.rename(version)
        return version.parent

    def junk(self, version: pathlib.Path) -> pathlib.Path:
        """Makes the folder `version` one that cannot be loaded; its base path."""
        version.mkdir(parents=True)
        (version / "saved_model.pb").write_text("junk")
        return version.parent


@pytest.fixture(scope="session")
def exports(tmp_path_factory) -> Exports:
    folder = tmp_path_factory.mktemp("exports")
    save_half_plus(folder / "two", 2.0)
    save_half_plus(folder / "two_tf2", 2.0, named=False)
    save_half_plus(folder / "three", 3.0)
    save_odd(folder / "odd")
    save_meeting(folder / "meeting")
    save(folder / "warmed", 2.0, warmup=[request(), request()])
    return Exports(folder)


@pytest.fixture(scope="session")
def monitoring(tmp_path_factory) -> pathlib.Path:
    """A file for --monitoring_config_file."""
    file = tmp_path_factory.mktemp("monitoring") / "monitoring.config"
    file.write_text("prometheus_config { enable: true }")
    return file


@pytest.fixture(scope="session")
def server(exports, monitoring, tmp_path_factory):
    """All models; nothing of it changes."""
    folder = tmp_path_factory.mktemp("server")
    two = folder / "two"
    for version in ("123", "124"):
        exports.copy("two", two / version)
    for name in ("+4", " 5", "-3"):
        (two / name).mkdir()
    for version, export in (("0", "three"), ("1", "two")):
        exports.copy(export, folder / "zero" / version)
    labels = 'version_labels { key: "stable" value: 123 } '
    config = folder / "models.config"
    config.write_text(
        model_configs(
            model_config("half_plus_two", two, f"{ALL} {labels}"),
            model_config("tf2", exports.copy("two_tf2", folder / "tf2" / "1")),
            model_config("half_plus_three", exports.copy("three", folder / "3" / "1")),
            model_config("odd", exports.copy("odd", folder / "odd" / "1")),
            model_config("warmed", exports.copy("warmed", folder / "warmed" / "1")),
            model_config(
                "zero",
                folder / "zero",
                f'{ALL} version_labels {{ key: "old" value: 0 }}',
            ),
            model_config("a/b", two, ALL),
            model_config("c:d", two, ALL),
        )
    )
    with serving(
        model_config_file=config,
        monitoring_config_file=monitoring,
        enable_grpc_healthcheck_service=True,
        grpc_socket_path=folder / "socket",
        grpc_channel_arguments="grpc.max_connection_age_ms=2000000",
        file_system_poll_wait_seconds=0,
    ) as server:
        server.socket = folder / "socket"
        yield server


@pytest.fixture(scope="session")
def batching(exports, monitoring, tmp_path_factory):
    """Requests are put together, at most 64 rows; browsers elsewhere are let in."""
    folder = tmp_path_factory.mktemp("batching")
    (folder / "models.config").write_text(
        model_configs(
            model_config("half_plus_two", exports.copy("two", folder / "two" / "1")),
            model_config("odd", exports.copy("odd", folder / "odd" / "1")),
            model_config("meeting", exports.copy("meeting", folder / "meeting" / "1")),
        )
    )
    (folder / "batching.config").write_text(
        "max_batch_size { value: 64 } batch_timeout_micros { value: 1000 } "
        "enable_large_batch_splitting { value: true }"
    )
    with serving(
        model_config_file=folder / "models.config",
        monitoring_config_file=monitoring,
        enable_batching=True,
        batching_parameters_file=folder / "batching.config",
        rest_api_enable_cors_support=True,
        file_system_poll_wait_seconds=0,
    ) as server:
        yield server


@pytest.fixture(scope="session")
def _reloading(exports, monitoring, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reloading")
    base = exports.copy("two", folder / "two" / "1")
    home = model_config("half_plus_two", base)
    logged = model_config("half_plus_two", base, "logging_config {}")
    (folder / "models.config").write_text(model_configs(logged))
    with serving(
        model_config_file=folder / "models.config",
        monitoring_config_file=monitoring,
        file_system_poll_wait_seconds=1,
        max_num_load_retries=0,
    ) as server:
        server.file = folder / "models.config"
        yield server, home


@pytest.fixture
def reloads(_reloading, tmp_path):
    server, home = _reloading
    reloads = Reloads(server, tmp_path, home)
    yield reloads
    reloads.load()
    wait_for(lambda: server.states("half_plus_two") == {1: 30})
