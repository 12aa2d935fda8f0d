"""Bindings that nothing reads, and those that are read through scopes and macros."""

from collections.abc import Callable, Sequence
from typing import Any

import gin
import pytest

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_config


@gin.register
class ReachPart:
    """Takes an object or a factory, which it calls at once or leaves for later."""

    def __init__(self, part: Any = None, size: int = 0, now: bool = False):
        self.part = part() if now else part
        self.size = size


@gin.register
class ReachLayer:
    def __init__(self, units: int = 1, rate: float = 0.0):
        self.units = units
        self.rate = rate


@gin.register
class ReachData:
    def __init__(self, files: str, shuffle: bool = False):
        self.files = files
        self.shuffle = shuffle


@gin.register
def reach_same(value=None):
    return value


@gin.register
def reach_maker(made: Sequence[Callable[[], Any]] | None = None):
    return [make() for make in made]


@gin.configurable(module="reach")
def needy(amount: int, count: int = 1):
    return amount, count


@gin.configurable(module="reach")
def model(part: Any = None, factory: Callable | None = None, steps: int = 1):
    return part, factory, steps


@pytest.fixture
def load(tmp_path, monkeypatch):
    """load(text, *overrides, **files): loads `text` as a.gin beside the other files."""

    def load(text: str, *overrides: str, **files: str) -> None:
        for name, content in {"a": text, **files}.items():
            (tmp_path / f"{name}.gin").write_text(content)
        gin_config.load("a.gin", overrides, roots=["reach.model", "reach.needy"])

    monkeypatch.chdir(tmp_path)
    yield load
    gin.clear_config()


def refusal(load, *args, **kwargs) -> str:
    with pytest.raises(UserError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "ReachLayer.units = 2",
            "a.gin:1: nothing reads ReachLayer.units: no setting in use refers to "
            "@ReachLayer.",
        ),
        (
            "ReachPart.part = @ReachLayer\nReachLayer.units = 2",
            "a.gin:1: nothing reads ReachPart.part: no setting in use refers to "
            "@ReachPart. Nor: a.gin:2: ReachLayer.units.",
        ),
        (
            "model.part = [{'a': @tower/ReachLayer}]\ntowr/ReachLayer.units = 2",
            "a.gin:2: nothing reads towr/ReachLayer.units: it is in use, but not in "
            "scope 'towr'. Did you mean 'tower'?",
        ),
        (
            "model.part = [@a/ReachLayer(), @b/ReachLayer]\nxyz/ReachLayer.units = 2",
            "a.gin:2: nothing reads xyz/ReachLayer.units: it is in use, but not in "
            "scope 'xyz'. Scopes in use: a, b.",
        ),
        (
            "model.factory = @ReachLayer\nx/ReachLayer.units = 2",
            "a.gin:2: nothing reads x/ReachLayer.units: it is in use, but not in "
            "scope 'x'.",
        ),
        (
            "model.part = @x/ReachLayer()\nReachLayer.units = 2\n"
            "x/ReachLayer.units = 3",
            "a.gin:2: nothing reads ReachLayer.units: x/ReachLayer.units takes its "
            "place.",
        ),
        (
            # A reference with a scope of its own leaves the scope around it.
            "model.part = @a/ReachPart()\nReachPart.part = @b/ReachLayer()\n"
            "a/b/ReachLayer.units = 2",
            "a.gin:3: nothing reads a/b/ReachLayer.units: it is in use, but not in "
            "scope 'a/b'. Scopes in use: b.",
        ),
        (
            # An object is built in its owner's scope and never outside of it.
            "model.part = @a/ReachPart()\nReachPart.part = @ReachLayer()\n"
            "ReachLayer.units = 1\na/ReachLayer.units = 2",
            "a.gin:3: nothing reads ReachLayer.units: a/ReachLayer.units takes its "
            "place.",
        ),
        (
            # The macro is overridden away.
            "model.part = @a/ReachPart()\nReachPart.size = %n\nn = 1\n"
            "a/ReachPart.size = 2",
            "a.gin:2: nothing reads ReachPart.size: a/ReachPart.size takes its place. "
            "Nor: a.gin:3: %n.",
        ),
        ("slow = 0.1", "a.gin:1: nothing reads %slow, a macro."),
        ("steps = 5", "a.gin:1: nothing reads %steps. Did you mean reach.model.steps?"),
    ],
    ids=[
        "class",
        "reached from an unread one",
        "misspelt scope",
        "unknown scope",
        "no scope in use",
        "scoped binding in its place",
        "scopes do not nest",
        "object in its owner's scope",
        "macro of an unread one",
        "macro",
        "class forgotten",
    ],
)
def test_bindings_that_nothing_reads(load, text, message):
    assert refusal(load, text) == message


@pytest.mark.parametrize(
    "text, sizes",
    [
        (
            "model.factory = @a/b/ReachPart\nReachPart.now = False\n"
            "a/ReachPart.part = 3\na/b/ReachPart.size = 2",
            [2],
        ),
        (
            # Called at once, in the scope of the part that it is handed to.
            "model.factory = @a/ReachPart\nReachPart.part = @ReachLayer\n"
            "ReachPart.now = True\na/ReachLayer.units = 2\nReachPart.size = 1",
            [1, 2],
        ),
        (
            # Called later, in no scope.
            "model.factory = @a/ReachPart\nReachPart.part = @ReachLayer\n"
            "ReachPart.size = 1\nReachLayer.units = 3\na/ReachLayer.units = 2",
            [1, 3],
        ),
        (
            # A macro's object is built in the scope that the macro's name makes.
            "model.factory = @a/ReachPart\nReachPart.part = %m\nm = @ReachLayer()\n"
            "m/ReachLayer.units = 4",
            [0, 4],
        ),
        (
            # A macro's factory is called where the macro is used.
            "model.factory = @a/ReachPart\nReachPart.part = %m\nm = %n\n"
            "n = @ReachLayer\nReachPart.now = True\na/ReachLayer.units = 5",
            [0, 5],
        ),
        (
            "model.factory = @ReachPart\nReachPart.part = @s/gin.singleton()\n"
            "s/gin.singleton.constructor = @ReachLayer\nReachLayer.units = 6",
            [0, 6],
        ),
    ],
    ids=["scopes", "factory now", "factory later", "object", "macros", "singleton"],
)
def test_what_gin_reads_through_scopes_and_macros_counts_as_read(load, text, sizes):
    load(text)
    part = model()[1]()
    layer = part.part() if callable(part.part) else part.part
    read = [part.size, layer.units] if isinstance(layer, ReachLayer) else [part.size]
    assert read == sizes


def test_a_root_may_have_a_scope(load, tmp_path):
    (tmp_path / "b.gin").write_text("x/model.steps = 3")
    gin_config.load("b.gin", roots=["x/reach.model"])
    with gin.config_scope("x"):
        assert model()[2] == 3


def test_many_unread_bindings_are_counted(load):
    text = "\n".join(f"{scope}/ReachLayer.units = 1" for scope in "abcdefgh")
    message = refusal(load, text)
    assert message.endswith(
        "Nor: a.gin:2: b/ReachLayer.units; a.gin:3: "
        "c/ReachLayer.units; a.gin:4: d/ReachLayer.units; a.gin:5: e/ReachLayer.units; "
        "a.gin:6: f/ReachLayer.units; 2 more."
    )


BASE = "model.factory = @ReachPart\nReachPart.size = %size\nsize = 4"
VARIANT = "include 'base.gin'\nmodel.factory = @ReachLayer\nReachLayer.units = 2"


def test_what_an_overridden_reference_used_may_stay_in_the_base_file(load):
    load(VARIANT, base=BASE)
    assert model()[1]().units == 2
    load("include 'base.gin'", "model.factory=@ReachLayer", base=BASE)
    assert model()[1]().units == 1


def test_a_variant_may_not_set_what_it_takes_out_of_use(load):
    message = refusal(load, VARIANT + "\nReachPart.size = 8", base=BASE)
    assert message.startswith("a.gin:4: nothing reads ReachPart.size: no setting")
    message = refusal(load, VARIANT, "ReachPart.size=8", base=BASE)
    assert message.startswith("--set ReachPart.size=8: nothing reads ReachPart.size")
    message = refusal(load, VARIANT, "size=8", base=BASE)
    assert message == "--set size=8: nothing reads %size, a macro."


def test_a_base_file_may_lack_what_its_variants_say(load):
    load(
        "include 'base.gin'\nmodel.part = @ReachData()\nfiles = 'x'",
        base="ReachData.files = %files\nReachData.shuffle = True",
    )
    assert (model()[0].files, model()[0].shuffle) == ("x", True)


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "model.part = {'x': @x/ReachData()}\nReachData.shuffle = True",
            "a.gin:1: @x/ReachData() needs x/ReachData.files, which nothing sets.",
        ),
        (
            "model.part = @teach/ReachData()\ntaech/ReachData.files = 'x'",
            "a.gin:2: nothing reads taech/ReachData.files: it is in use, but not in "
            "scope 'taech'. Did you mean 'teach'?",
        ),
        (
            "model.part = @reach_same()\nreach_same.value = [%m]\nm = @reach_same()",
            "a.gin:3: %m = @reach_same() needs itself to be built.",
        ),
        (
            "model.part = @reach_maker()\nreach_maker.made = [@ReachLayer, @ReachData]",
            "a.gin:2: @ReachData needs ReachData.files, which nothing sets.",
        ),
        (
            "reach.needy.count = 3",
            "a.gin:1: reach.needy needs reach.needy.amount, which nothing sets.",
        ),
    ],
    ids=[
        "required parameter",
        "misspelt scope",
        "circle",
        "factory called without arguments",
        "root",
    ],
)
def test_objects_that_cannot_be_built(load, text, message):
    assert refusal(load, text) == message


def test_a_factory_called_without_arguments_may_find_them_in_a_scope(load):
    load(
        "model.factory = @a/reach_maker\nreach_maker.made = [@ReachData]\n"
        "a/ReachData.files = 'x'"
    )
    assert model()[1]()[0].files == "x"


def test_a_factory_may_get_its_required_parameters_from_python(load):
    load("model.factory = @ReachData\nReachData.shuffle = True")
    assert model()[1](files="x").shuffle
