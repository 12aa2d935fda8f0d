"""Values of gin files against annotations: plain ones, factories and objects."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeVar

import gin
import pytest
import tf_keras as keras

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_text, gin_types


@gin.register
class TypesLayer(keras.layers.Layer):
    pass


@gin.register
class TypesWideLayer(TypesLayer):
    pass


@gin.register
class TypesStep:
    """Called on a batch: as an object it is a Callable, but no factory of one."""

    def __call__(self, batch: dict) -> dict:
        return batch


@gin.register
def types_rate(start: float = 1.0) -> float:
    return start


@gin.register
def types_step(batch: dict) -> dict:
    return batch


@gin.register
def types_layers(count: int = 1) -> list[TypesLayer]:
    return [TypesLayer() for _ in range(count)]


@gin.register
def types_maybe() -> TypesLayer | None:
    return None


@gin.register
def types_unknown():
    return None


class Batched(Protocol):
    def batch(self, size: int) -> None: ...


class Factory(Protocol):
    def __call__(self, size: int) -> TypesLayer: ...


Step = Callable[[dict], dict]
LayerFactory = Callable[..., TypesLayer]
T = TypeVar("T")


def value(text: str) -> Any:
    return gin_text.read_override(f"A.b={text}", "").value


@pytest.mark.parametrize(
    "text, annotation",
    [
        ("3", int),
        ("3", float),
        ("-1e-5", float),
        ("True", bool),
        ("True", bool | int),
        ("None", int | None),
        ("'a'", str),
        ("'b'", Literal["a", "b"]),
        ("['a', 'b']", Sequence[str]),
        ("('a', 'b')", Sequence[str]),
        ("[1, 2]", list[int]),
        ("[1, 2]", tuple[int, ...]),
        ("[1, 'a']", tuple[int, str]),
        ("[]", tuple),
        ("{'a': [1, 0.5]}", dict[str, tuple[float, float]]),
        ("{'a': {'b': None}}", Mapping[str, Mapping[str, int | None]]),
        ("3", Any),
        ("3", T),
        ("@TypesLayer", Any),
        ("@TypesLayer()", object),
        ("@TypesLayer()", TypesLayer),
        ("@TypesWideLayer()", TypesLayer),
        ("@x/TypesWideLayer()", keras.layers.Layer | None),
        ("@TypesLayer", Callable),
        ("@TypesLayer", Callable[..., Any]),
        ("@TypesWideLayer", LayerFactory),
        ("@x/TypesWideLayer", Callable[..., keras.layers.Layer] | str),
        ("@TypesWideLayer", type[TypesLayer]),
        ("@TypesLayer", Factory),
        ("{'a': @TypesLayer, 'b': @y/TypesLayer}", Mapping[str, LayerFactory]),
        ("[@TypesStep(), @types_step]", Sequence[Step]),
        ("@types_rate()", float),
        ("@types_rate()", int | float),
        ("@types_layers()", Sequence[TypesLayer]),
        ("@types_layers()", tuple[TypesLayer, ...]),
        ("@types_maybe()", TypesLayer | None),
        ("@types_maybe", LayerFactory),
        ("@types_unknown()", TypesLayer),
        ("@types_unknown()", int),
        ("@types_unknown", LayerFactory),
    ],
)
def test_fits(text, annotation):
    assert gin_types.misfit(value(text), annotation) is None


@pytest.mark.parametrize(
    "text, annotation, problem",
    [
        ("'a'", int, "is not int"),
        ("1.5", int, "is not int"),
        ("True", int, "is a bool"),
        ("True", float, "is a bool"),
        ("1", bool, "is not bool"),
        ("None", int, "is not int"),
        ("'c'", Literal["a", "b"], "is not any of"),
        ("'abc'", Sequence[str], "is a string"),
        ("'abc'", str | Sequence[int], None),
        ("[1, 2, 'a']", Sequence[int], "item 2 of list is not int"),
        ("[1, True]", tuple[int, ...], "item 1 of list is a bool"),
        ("[1]", tuple[int, int], "wrong number of elements"),
        ("{'a': [True, 1]}", dict[str, tuple[float, float]], "item 0 of value of key"),
        ("{'files': 'a'}", TypesStep, "is not TypesStep"),
        ("'relu'", LayerFactory, "is not callable"),
        ("@TypesLayer", TypesLayer, "is a factory"),
        ("@TypesLayer", Sequence[TypesLayer], "is a factory"),
        ("@types_rate", float, "is a factory"),
        ("@TypesLayer()", TypesWideLayer, "is TypesLayer"),
        ("@TypesStep()", TypesLayer, "is TypesStep"),
        ("@TypesLayer()", int, "is TypesLayer"),
        ("@TypesLayer()", Sequence[TypesLayer], "is TypesLayer"),
        ("@TypesLayer()", LayerFactory, "is the object, not a factory"),
        ("@TypesWideLayer()", LayerFactory, "is the object, not a factory"),
        ("@TypesStep", LayerFactory, "is TypesStep"),
        ("@TypesStep", type[TypesLayer], "is not a subclass"),
        ("[@TypesStep]", Sequence[Step], "item 0 of list is TypesStep"),
        ("@types_rate()", int, "is float"),
        ("@types_rate()", Step, "is float"),
        ("@types_rate", LayerFactory, "is float"),
        ("@types_layers()", TypesLayer, "is list"),
        ("@TypesStep()", Batched, "is TypesStep"),
        ("@TypesLayer", Batched, "is a factory"),
    ],
)
def test_does_not_fit(text, annotation, problem):
    found = gin_types.misfit(value(text), annotation)
    assert found is None if problem is None else problem in found


@pytest.mark.parametrize(
    "annotation, spelled",
    [
        (int, "int"),
        (int | None, "int or None"),
        (Sequence[str], "Sequence[str]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 2], "'a' or 2"),
        (dict[str, Any], "dict[str, Any]"),
        (LayerFactory, "Callable[..., TypesLayer]"),
        (Callable[[int, str], float], "Callable[[int, str], float]"),
    ],
)
def test_annotations_are_spelled_for_readers(annotation, spelled):
    assert gin_types.spell(annotation) == spelled


@gin.register
def types_target(
    number: int = 0,
    words: Sequence[str] = (),
    flag: bool = False,
    name: str = "",
    model: LayerFactory | None = None,
    layer: TypesLayer | None = None,
    steps: Sequence[Step] = (),
    towers: Mapping[str, LayerFactory] | None = None,
    hidden: Sequence[int] = (),
):
    pass


@pytest.mark.parametrize(
    "text, ending",
    [
        ("number=1.5", "must be int. Received: 1.5"),
        ("number='12'", "must be int. Received: '12'. Write 12"),
        ("number=many", "must be int. Received: 'many'"),
        ("name=3", "must be str. Received: 3. Write '3'"),
        ("flag=true", "must be bool. Received: 'true'. Write True"),
        ("words='ab'", "must be Sequence[str]. Received: 'ab'. Write ['ab']"),
        ("words=a.gz", "must be Sequence[str]. Received: 'a.gz'. Write ['a.gz']"),
        (
            "hidden=[8, 'a']",
            "must be Sequence[int]. Received: [8, 'a'] (item 1 of list is not int)",
        ),
        ("hidden=8", "must be Sequence[int]. Received: 8. Write [8]"),
        (
            "model=@TypesLayer()",
            "must be Callable[..., TypesLayer] or None. Received: @TypesLayer(). "
            "Write @TypesLayer",
        ),
        (
            "layer=@x/TypesLayer",
            "must be TypesLayer or None. Received: @x/TypesLayer. "
            "Write @x/TypesLayer()",
        ),
        (
            "layer=@TypesStep()",
            "must be TypesLayer or None. Received: @TypesStep()",
        ),
        (
            "towers={'a': @TypesLayer, 'b': @x/TypesLayer()}",
            "must be Mapping[str, Callable[..., TypesLayer]] or None. "
            "Received: {'a': @TypesLayer, 'b': @x/TypesLayer()}. "
            "Write {'a': @TypesLayer, 'b': @x/TypesLayer}",
        ),
        (
            "steps=[@TypesStep, @TypesStep]",
            "must be Sequence[Callable[[dict], dict]]. "
            "Received: [@TypesStep, @TypesStep] (item 0 of list is TypesStep). "
            "Write [@TypesStep(), @TypesStep()]",
        ),
    ],
)
def test_the_message_says_what_was_expected_what_came_and_what_would_fit(text, ending):
    binding = gin_text.read_override(f"types_target.{text}", "")
    name = "types_target." + text.partition("=")[0]
    with pytest.raises(UserError) as caught:
        gin_types.check(binding, binding.value)
    assert str(caught.value) == f"--set types_target.{text}: {name} {ending}"


def test_a_long_value_is_cut():
    binding = gin_text.read_override(f"types_target.number={[10] * 50}", "")
    with pytest.raises(UserError, match=r"Received: \[(10, ){21}10\.\.\.$"):
        gin_types.check(binding, binding.value)
