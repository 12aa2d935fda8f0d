"""What names in a config stand for: classes, functions and their parameters."""

import dataclasses
import inspect
from typing import Any

import gin
import pytest
import tf_keras as keras

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_names, gin_registry, gin_text


class NamesBase:
    def __init__(self, size: int, name: str = "x"):
        pass


@gin.register
class NamesPart(NamesBase):
    """Hands its **kwargs to the class above it."""

    def __init__(self, blocks: int, depth: "int" = None, **kwargs):  # noqa: RUF013
        super().__init__(size=blocks, **kwargs)


@gin.register
class NamesLayer(keras.layers.Layer):
    def __init__(self, bottleneck: int = 1, **kwargs):
        super().__init__(**kwargs)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NamesSettings:
    steps: "int"
    rate: "float | None" = 0.1
    unknown: "NoSuchType" = 0  # noqa: F821


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class NamesLongerSettings(NamesSettings):
    rate: float = 0.2
    sets: "dict[str, NamesPart]" = dataclasses.field(default_factory=dict)


@gin.configurable("settings", module="names")
@dataclasses.dataclass(frozen=True)
class NamesConfigured:
    steps: "int" = 3


@gin.register(denylist=["hidden"])
def names_function(shown: int = 1, hidden: int = 2) -> "list[int]":
    return [shown, hidden]


@gin.register
def names_open(first, **others):
    return first, others


for twin in ("one", "two"):
    gin.external_configurable(lambda: None, "NamesTwin", module=twin)


def find(name: str) -> gin_registry.Configurable:
    return gin_names.find(name, "here")


def annotations(name: str) -> dict[str, Any]:
    return {key: p.annotation for key, p in find(name).parameters.items()}


def required(name: str) -> list[str]:
    parameters = find(name).parameters.items()
    return [key for key, p in parameters if p.default is inspect.Parameter.empty]


def test_the_parameters_of_a_class_and_those_it_hands_on():
    expected = {"blocks": int, "depth": int | None, "size": int, "name": str}
    assert annotations("NamesPart") == expected
    assert required("NamesPart") == ["blocks"]
    assert find("NamesPart").makes is NamesPart
    assert not find("NamesPart").takes_any


def test_the_parameters_of_a_keras_layer():
    assert {"bottleneck", "name", "dtype", "trainable"} <= set(
        annotations("NamesLayer")
    )
    assert not find("NamesLayer").takes_any


def test_the_parameters_of_a_dataclass():
    longer = annotations("NamesLongerSettings")
    assert (longer["steps"], longer["rate"], longer["unknown"]) == (int, float, Any)
    assert required("NamesLongerSettings") == ["steps"]
    assert annotations("names.settings") == {"steps": int}
    assert find("settings").makes is NamesConfigured


def test_the_parameters_of_a_function():
    assert annotations("names_function") == {"shown": int}
    assert find("names_function").makes == list[int]
    assert find("names_open").takes_any
    assert required("names_open") == ["first"]


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "NamesPart.blokcs",
            "NamesPart has no parameter 'blokcs'. Did you mean 'blocks'?",
        ),
        ("x/NamesPart.nane", "NamesPart has no parameter 'nane'. Did you mean 'name'?"),
        (
            "NamesLayer.botleneck",
            "NamesLayer has no parameter 'botleneck'. Did you mean 'bottleneck'?",
        ),
        (
            "NamesPart.xyz",
            "NamesPart has no parameter 'xyz'. It has: blocks, depth, size, name.",
        ),
        (
            "names_function.hidden",
            "names_function has no parameter 'hidden'. It has: shown.",
        ),
        (
            "NamesPrat.blocks",
            "no class or function is called 'NamesPrat'. Did you mean 'NamesPart'?",
        ),
        (
            "namespart.blocks",
            "no class or function is called 'namespart'. Did you mean 'NamesPart'?",
        ),
        (
            "names.setings.steps",
            "no class or function is called 'names.setings'. "
            "Did you mean 'names.settings'?",
        ),
        ("Qqqqqqqqqq.steps", "no class or function is called 'Qqqqqqqqqq'."),
        (
            "NamesTwin.steps",
            "'NamesTwin' is ambiguous. Write one of: one.NamesTwin, two.NamesTwin.",
        ),
    ],
)
def test_names_that_do_not_exist(text, message):
    binding = gin_text.read_override(f"{text}=3", "")
    with pytest.raises(UserError) as caught:
        gin_names.resolve(binding)
    assert str(caught.value) == f"--set {text}=3: {message}"


def test_names_in_references_are_checked_too():
    text = "names_open.x=[{'a': @NamesPrat()}]"
    with pytest.raises(UserError, match="Did you mean 'NamesPart'"):
        gin_names.resolve(gin_text.read_override(text, ""))
