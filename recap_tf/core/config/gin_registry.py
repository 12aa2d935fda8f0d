"""What gin has registered, and what is bound: all use of gin's private parts.

gin has no public way to ask what a name matches, which class stands behind it, or what
is bound and imported.
"""

import contextlib
import dataclasses
import inspect
import types
import typing
from typing import Any

import gin

REQUIRED = inspect.Parameter.empty
"""The default of a parameter without one."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter: its annotation (Any without one), its default or `REQUIRED`."""

    annotation: Any
    default: Any


@dataclasses.dataclass(frozen=True)
class Configurable:
    """A registered class or function.

    Args:
        selector: gin's full name of it, such as recap_tf.mask_net.MaskNet.
        name: its last part.
        makes: what a call returns: the class, or the function's return annotation.
        parameters: name -> Parameter, those of base classes reached through **kwargs
            included.
        takes_any: whether other names are accepted as well.
    """

    selector: str
    name: str
    makes: Any
    parameters: dict[str, Parameter]
    takes_any: bool


def matching(name: str) -> list[str]:
    """The full selectors of all classes and functions that end in `name`."""
    return gin.config._REGISTRY.matching_selectors(name)


def selectors() -> list[str]:
    """The full selectors of all that is registered, gin's own included."""
    return [selector for selector, _ in gin.config._REGISTRY.items()]


def describe(selector: str) -> Configurable:
    """Describes what a full selector stands for."""
    entry = gin.config._REGISTRY[selector]
    target = entry.wrapped
    makes = target if inspect.isclass(target) else _hints(target).get("return", Any)
    parameters: dict[str, Parameter] = {}
    takes_any = False
    for depth, (function, owner) in enumerate(_constructors(target)):
        accepted, takes_any = _parameters(function, owner)
        for name, parameter in accepted.items():
            if depth > 0:
                # What a base class requires, the class below may pass on by itself.
                parameter = dataclasses.replace(parameter, default=None)
            parameters.setdefault(name, parameter)
        if not takes_any:
            break
    allowed = set(entry.allowlist or parameters) - set(entry.denylist or ())
    return Configurable(
        entry.selector,
        entry.name,
        makes,
        {name: parameters[name] for name in parameters if name in allowed},
        takes_any and not entry.allowlist and not entry.denylist,
    )


def _constructors(target) -> list[tuple[Any, type | None]]:
    """The functions that may see an argument of a call, with their classes.

    The __init__ of a base class sees what the ones before it pass on as **kwargs.
    """
    if not inspect.isclass(target):
        return [(target, None)]
    constructors = []
    for base in target.__mro__[:-1]:
        names = [name for name in ("__init__", "__new__") if name in vars(base)]
        if names:
            constructors.append((getattr(base, names[0]), base))
    return constructors


def _parameters(function, owner: type | None) -> tuple[dict[str, Parameter], bool]:
    """A function's parameters by name, and whether there is a **kwargs."""
    hints = _hints(function, owner)
    parameters = {}
    takes_any = False
    signature = inspect.signature(function).parameters.values()
    for parameter in list(signature)[0 if owner is None else 1 :]:
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            annotation = hints.get(parameter.name, Any)
            if parameter.default is None and annotation is not Any:
                annotation = typing.Optional[annotation]  # noqa: UP045 (may be a str)
            parameters[parameter.name] = Parameter(annotation, parameter.default)
    return parameters, takes_any


def _hints(function, owner: type | None = None) -> dict[str, Any]:
    """A function's annotations by name.

    One that cannot be resolved is left out, so unchecked.
    """
    # A dataclass's __init__ sees the names of its own module only; the class also
    # those of the modules of inherited fields.
    sources = [function, owner] if dataclasses.is_dataclass(owner) else [function]
    for source in sources:
        try:
            return typing.get_type_hints(source)
        except (NameError, AttributeError):
            continue
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    hints = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: hint})
        with contextlib.suppress(NameError, AttributeError):
            hints |= typing.get_type_hints(alone, scope)
    return hints


def bound() -> dict[tuple[str, str], dict[str, Any]]:
    """The config that gin holds: (scope, name to write in a file) -> parameter ->
    value."""
    return {
        (scope, _name_to_write(selector)): dict(values)
        for (scope, selector), values in gin.config._CONFIG.items()
    }


def imported() -> list[str]:
    """The import lines of the config that gin holds."""
    return sorted(statement.format() for statement in gin.config._IMPORTS)


def _name_to_write(selector: str) -> str:
    entry = gin.config._REGISTRY[selector]
    # Where a class lives may change, so its module is left out as long as the name
    # is unique; a module given on purpose ("recap" in recap.train) is part of the name.
    chosen = entry.module != getattr(entry.wrapped, "__module__", None)
    unique = len(gin.config._REGISTRY.matching_selectors(entry.name)) == 1
    return entry.name if unique and not chosen else selector
