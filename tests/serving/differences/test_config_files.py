"""--model_config_file: what it may hold, read once and again."""

import time

import pytest
from differences import row
from served import wait_for
from served_outside import model_config, model_configs, refused, serving

ROW = {"instances": [[1.0]]}
TWO_POLLS = 2.5


@pytest.fixture(scope="module")
def base(exports, tmp_path_factory):
    return exports.copy("two", tmp_path_factory.mktemp("config_files") / "m" / "1")


@pytest.fixture(scope="module")
def good(base) -> str:
    return model_configs(model_config("m", base))


@pytest.fixture(scope="module")
def polled(base, good):
    """A server that looks at `polled.file` every second; its file, an attribute."""
    file = base.parent / "polled.config"
    file.write_text(good)
    with serving(
        model_config_file=file,
        model_config_file_poll_wait_seconds=1,
        file_system_poll_wait_seconds=1,
    ) as server:
        server.file = file
        yield server


def _serves(server, name: str = "m") -> bool:
    return server.post(name, ROW)[0] == 200


def _stays(polled, text: str, good: str) -> bool:
    polled.file.write_text(text)
    end = time.monotonic() + TWO_POLLS
    try:
        while time.monotonic() < end:
            if not _serves(polled):
                return False
            time.sleep(0.1)
        return True
    finally:
        polled.file.write_text(good)
        wait_for(lambda: _serves(polled))


@row("A1", tf_serving="a polled file without model_config_list is refused, and logged")
@pytest.mark.parametrize(
    "text", ["", "# all models are commented out\n", "\n \n"], ids=repr
)
def test_an_empty_file_changes_nothing(polled, good, text):
    before = polled.said()
    assert _stays(polled, text, good)
    # Someone must learn that the file does not count.
    said = polled.said().removeprefix(before)
    assert "config" in said.lower()


@row("A1", tf_serving="a half-written file changes nothing")
def test_a_half_written_file_changes_nothing(polled, good):
    for end in (len(good) - 3, len(good) // 2, len("model_config_list {")):
        assert _stays(polled, good[:end], good), good[:end]


@row("A1", tf_serving="a custom_model_config is fatal", here="it changes nothing")
def test_a_custom_config_changes_nothing(polled, good):
    before = polled.said()
    assert _stays(polled, "custom_model_config {}", good)
    assert "custom_model_config" in polled.said().removeprefix(before)


@row("A1", tf_serving="a file that is gone changes nothing")
def test_a_file_that_is_gone_changes_nothing(polled, good):
    polled.file.unlink()
    time.sleep(TWO_POLLS)
    assert _serves(polled)
    polled.file.write_text(good)


@row("A1", tf_serving="an empty model_config_list that is there unloads all models")
@pytest.mark.parametrize("text", ["model_config_list {}", "model_config_list: <>"])
def test_an_explicit_empty_list_unloads_all_models(polled, good, text):
    polled.file.write_text(text)
    wait_for(lambda: not _serves(polled))
    polled.file.write_text(good)
    wait_for(lambda: _serves(polled))


@row("A1", tf_serving="started with an empty file it serves nothing, and goes on")
def test_an_empty_file_at_first_serves_nothing(tmp_path, good):
    file = tmp_path / "models.config"
    file.touch()
    with serving(
        model_config_file=file, model_config_file_poll_wait_seconds=1
    ) as server:
        assert server.post("m", ROW)[0] == 404
        file.write_text(good)
        wait_for(lambda: _serves(server))


@row("A1", tf_serving="a custom_model_config at the start ends the process")
def test_a_custom_config_at_first_ends_the_start(tmp_path):
    file = tmp_path / "models.config"
    file.write_text("custom_model_config {}")
    code, said = refused(model_config_file=file)
    assert code != 0
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "custom_model_config" in line


@row("A6", tf_serving="beside --model_config_file the other two flags are ignored")
def test_the_config_file_wins_over_the_base_path(tmp_path, good, base):
    file = tmp_path / "models.config"
    file.write_text(good)
    with serving(
        model_config_file=file,
        model_base_path="/models/model",
        model_name="model",
    ) as server:
        assert _serves(server)
        assert server.post("model", ROW)[0] == 404
        (line,) = [
            line for line in server.said().splitlines() if "--model_base_path" in line
        ]
        assert "--model_config_file" in line


@row("A6", tf_serving="a file that is no config ends the start")
def test_a_file_that_is_no_config_ends_the_start(tmp_path):
    file = tmp_path / "models.config"
    file.write_text("improper model config file")
    code, said = refused(model_config_file=file)
    assert code != 0
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in said


@row(
    "B23",
    tf_serving="model_platform must be set",
    here="without model_platform a model is TensorFlow's",
)
def test_the_platform_may_be_left_out(polled):
    assert "model_platform" not in polled.file.read_text()
    assert _serves(polled)


@row(
    "B24",
    tf_serving="logging_config without a logger is refused",
    here="logging_config is named on stderr, and ignored",
)
def test_a_logging_config_is_said_to_be_ignored(reloads):
    assert "logging_config" in reloads.server.said()
