"""Loading a config: names, overrides, the operative config, how a mistake ends."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import gin
import pytest

from recap_tf.core.arguments import add_config
from recap_tf.core.command import UserError, run_command
from recap_tf.core.config import gin_config
from recap_tf.data import schema

ROOTS = ("conf.ranker", "conf.teach")


@gin.register
class ConfLayer:
    def __init__(self, units: Sequence[int] = (1,), name: str | None = None):
        self.units = units
        self.name = name


@gin.register
class ConfWideLayer(ConfLayer):
    """Hands its **kwargs to the class above it."""

    def __init__(self, blocks: int = 1, **kwargs):
        super().__init__(**kwargs)
        self.blocks = blocks


@gin.register
def conf_open(**anything):
    return anything


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfRecords:
    files: str
    batch: "int | None" = None
    mode: Literal["fast", "exact"] = "fast"
    rates: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    names: "Sequence[str]" = ()

    def __post_init__(self):
        if self.batch == 13:
            raise UserError(f"ConfRecords.batch must not be 13. Received: {self.batch}")


@gin.configurable("ranker", module="conf")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfRanker:
    model: Callable[..., ConfLayer] | None = None
    sets: "dict[str, ConfRecords]" = dataclasses.field(default_factory=dict)
    other: Any = None


@gin.configurable("teach", module="conf")
def conf_train(
    steps: int = 1, rate: float = 0.1, save_dir: str = "", other: Any = None
):
    return steps, rate, save_dir, other


gin.external_configurable(schema.Feature, "ConfFeature")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    gin.clear_config()


@pytest.fixture
def load(tmp_path):
    """load(text, *overrides): loads `text` as a.gin."""

    def load(text: str, *overrides: str) -> None:
        (tmp_path / "a.gin").write_text(text)
        gin_config.load("a.gin", overrides, roots=ROOTS)

    return load


def refusal(load, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load(text, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_values_reach_the_configured_classes(load):
    load(
        """
        conf.ranker.model = @ConfWideLayer
        ConfWideLayer.blocks = 4
        ConfWideLayer.units = [8, 4]
        ConfWideLayer.name = "wide"
        conf.teach:
          steps = 3
          rate = 1
          other = @conf_open()
        conf_open.some = %word
        word = "thing"
        """
    )
    layer = ConfRanker().model()
    assert (layer.blocks, layer.units, layer.name) == (4, [8, 4], "wide")
    assert conf_train() == (3, 1, "", {"some": "thing"})


def test_a_registered_class_called_from_python_reads_no_config(load):
    load("conf.ranker.model = @ConfWideLayer\nConfWideLayer.blocks = 4")
    assert ConfWideLayer().blocks == 1


def test_each_load_starts_clean(load):
    load("conf.teach.steps = 3")
    load("conf.teach.rate = 0.5")
    assert conf_train()[:2] == (1, 0.5)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "\nConfWideLayer.blokcs = 3",
            "a.gin:2: ConfWideLayer has no parameter 'blokcs'. Did you mean 'blocks'?",
        ),
        (
            "conf.ranker:\n  other = [{'a': @Qqqqqqq()}]",
            "a.gin:2: no class or function is called 'Qqqqqqq'.",
        ),
        (
            "conf.teach.rate = %learning_rat\nlearning_rate = 0.1",
            "a.gin:1: the macro %learning_rat is not defined. "
            "Did you mean 'learning_rate'?",
        ),
        (
            "conf.teach.rate = %learning_rate",
            "a.gin:1: the macro %learning_rate is not defined.",
        ),
        (
            # gin takes the value of `rate` here.
            "conf.teach.rate = %rate/slow\nrate = 0.1",
            "a.gin:1: the macro %rate/slow is not defined. Did you mean 'rate'?",
        ),
        (
            "conf.teach.rate = %a\na = [%b]\nb = %a",
            "a.gin:3: the macro %a refers to itself.",
        ),
        (
            "conf.teach.steps = %n\nn = 'a'",
            "a.gin:1: conf.teach.steps must be int. Received: 'a' (%n, a.gin:2)",
        ),
        (
            "ConfRecords.batch = 'a'",
            "a.gin:1: ConfRecords.batch must be int or None. Received: 'a'",
        ),
        (
            "conf.ranker.sets = {'a': @ConfRecords}",
            "a.gin:1: conf.ranker.sets must be dict[str, ConfRecords]. "
            "Received: {'a': @ConfRecords} (value of key 'a' of dict is a factory). "
            "Write {'a': @ConfRecords()}",
        ),
        ("word = 'thing'", "a.gin:1: nothing reads %word, a macro."),
        (
            "conf.teach.steps = 3\nteach.steps = 4",
            "a.gin:2: teach.steps is set already in a.gin:1.",
        ),
        ("a = 3\na = 3", "a.gin:2: %a is set already in a.gin:1."),
        ("\nimport conf_no_such", "a.gin:2: No module named 'conf_no_such'."),
        (
            "from __gin__ import dynamic_registration",
            "a.gin:1: gin's __gin__.dynamic_registration is not supported.",
        ),
    ],
)
def test_mistakes_in_a_file(load, text, message):
    assert refusal(load, text) == message


def test_a_file_may_import_the_module_of_its_classes(load, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    module = "import gin\n@gin.register\ndef conf_extra(): return 7"
    (tmp_path / "conf_extra.py").write_text(module)
    load("import conf_extra\nconf.ranker.other = @conf_extra()")
    assert ConfRanker().other == 7
    assert gin_config.operative().startswith("import conf_extra\n")


def test_a_file_may_not_import_the_running_command(load, monkeypatch):
    command = argparse.Namespace(__spec__=argparse.Namespace(name="recap_tf.teach"))
    monkeypatch.setitem(sys.modules, "__main__", command)
    assert refusal(load, "import recap_tf.teach") == (
        "a.gin:1: recap_tf.teach is the command that runs; a config file cannot "
        "import it."
    )


def test_overrides_win_over_the_file(load):
    load("conf.teach.steps = 3", "conf.teach.steps=4", "teach.rate = 0.5")
    assert conf_train()[:2] == (4, 0.5)
    load("conf.teach.steps = 3", "conf.teach.steps=4", "conf.teach.steps=5")
    assert conf_train()[0] == 5


def test_overrides_of_scopes_and_macros(load):
    text = (
        "conf.ranker.sets = {'x': @x/ConfRecords()}\nConfRecords.files = 'a'\n"
        "ConfRecords.batch = %batch\nbatch = 2"
    )
    load(text, "x/ConfRecords.names=['b']", "batch=3", "ConfRecords.mode=exact")
    expected = ConfRecords(files="a", batch=3, names=["b"], mode="exact")
    assert ConfRanker().sets["x"] == expected


def test_an_override_may_leave_out_the_quotes_of_a_string(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.gin").write_text("")
    gin_config.load("sub/a.gin", ["conf.teach.save_dir={here}/x*.gz"], roots=ROOTS)
    assert conf_train()[2] == "sub/x*.gz"
    assert type(conf_train()[2]) is str


@pytest.mark.parametrize(
    "override, message",
    [
        ("conf.teach.steps", "expected --set Class.parameter=value."),
        ("steps=3", "expected --set Class.parameter=value."),
        (
            "conf.teach.stepz=3",
            "conf.teach has no parameter 'stepz'. Did you mean 'steps'?",
        ),
        ("conf.teach.steps=many", "conf.teach.steps must be int. Received: 'many'"),
        (
            "conf.teach.rate=2024/01/02",
            "conf.teach.rate must be float. Received: '2024/01/02'",
        ),
        (
            "ConfRecords.mode=slow",
            "ConfRecords.mode must be 'fast' or 'exact'. Received: 'slow'",
        ),
        ("conf.teach.rate=%nope", "the macro %nope is not defined."),
        (
            "conf.ranker.model=@ConfLayr",
            "no class or function is called 'ConfLayr'. Did you mean 'ConfLayer'?",
        ),
        (
            "ConfLayer.units=[1]",
            "nothing reads ConfLayer.units: no setting in use refers to @ConfLayer.",
        ),
    ],
)
def test_mistakes_in_an_override(load, override, message):
    assert refusal(load, "", override) == f"--set {override}: {message}"


def test_an_override_of_two_lines_is_one_wrong_value(load):
    message = refusal(load, "", "conf.teach.steps=1\nconf.teach.rate=2")
    assert message == (
        "--set conf.teach.steps=1 conf.teach.rate=2: conf.teach.steps must be int. "
        r"Received: '1\nconf.teach.rate=2'"
    )


def test_the_flags_of_a_command():
    parser = argparse.ArgumentParser()
    add_config(parser)
    args = parser.parse_args(["--config", "a.gin", "--set", "A.b=1", "--set", "A.c=-2"])
    assert (args.config, args.overrides) == ("a.gin", ["A.b=1", "A.c=-2"])
    assert parser.parse_args(["--config", "a.gin"]).overrides == []


def test_the_operative_config_loads_to_the_same_config(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/base.gin").write_text(
        """
        conf.ranker.model = @ConfWideLayer
        ConfWideLayer.blocks = 4
        ConfRecords.files = '{here}/x*.gz'
        batch = 8
        """
    )
    long_text = 'long words, a "quote", it\'s\n' * 10
    (tmp_path / "sub/a.gin").write_text(
        f"""
        include 'base.gin'
        conf.ranker.model = @deep/ConfLayer
        deep/ConfLayer.units = [8, 4]
        conf.ranker.sets = {{'z': @z/ConfRecords(), 'a': @a/ConfRecords()}}
        ConfRecords.batch = %batch
        a/ConfRecords.rates = {{'reply': (1.0, 1e-05), 'like': (0.5, -1.0)}}
        conf.teach.save_dir = {long_text!r}
        conf.teach.other = (1, None, True, b'x', [], {{}}, (2,), 0.1, [[{long_text!r}]])
        """
    )
    gin_config.load("sub/a.gin", ["batch=9", "conf.teach.rate=0.25"], roots=ROOTS)
    text = gin_config.operative()
    first = (ConfRanker(), conf_train())

    (tmp_path / "saved.gin").write_text(text)
    gin_config.load("saved.gin", roots=ROOTS)
    again = (ConfRanker(), conf_train())
    assert gin_config.operative() == text
    assert again[1] == first[1]
    assert again[0].sets == first[0].sets
    assert again[0].sets["z"] == ConfRecords(files="sub/x*.gz", batch=9)
    assert again[0].model().units == [8, 4]
    # The order of a dict may be that of features or tasks.
    assert list(again[0].sets) == ["z", "a"]
    assert list(again[0].sets["a"].rates) == ["reply", "like"]
    # The overridden class's bindings are gone: nothing would read them.
    assert "ConfWideLayer" not in text


def test_the_operative_config_is_short_and_readable(load):
    load(
        """
        conf.ranker.sets = {'a': @x/ConfRecords()}
        conf.teach.other = %n
        n = 3
        x/ConfRecords:
          files='a'
          names=['b']
        """
    )
    assert gin_config.operative() == (
        "conf.ranker.sets = {'a': @x/ConfRecords()}\n\n"
        "conf.teach.other = %n\n\n"
        "n = 3\n\n"
        "x/ConfRecords.files = 'a'\n"
        "x/ConfRecords.names = ['b']\n"
    )


@pytest.mark.parametrize(
    "text, line",
    [
        (
            "conf.ranker.sets = {'a': @ConfRecords()}\nConfRecords.files = 'a'\n"
            "ConfRecords.batch = 13",
            "ConfRecords.batch must not be 13. Received: 13",
        ),
        (
            "conf.ranker.other = @ConfFeature()\nConfFeature.name = 'age'\n"
            "ConfFeature.dtype = 'float_list'\nConfFeature.length = 0",
            "length of feature 'age' must be at least 1, or -1 for a variable length. "
            "Received: 0",
        ),
    ],
    ids=["UserError", "ValueError of the package"],
)
def test_a_constructor_that_refuses_ends_in_one_line(load, capsys, text, line):
    def main(argv):
        load(text)
        ConfRanker()

    assert run_command(main) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_config_that_is_refused_ends_in_one_line(load, capsys):
    assert run_command(lambda argv: load("conf.teach.stepz = 3")) == 2
    assert capsys.readouterr().err == (
        "error: a.gin:1: conf.teach has no parameter 'stepz'. Did you mean 'steps'?\n"
    )
