"""What gin has registered: the classes and functions a config may name.

All use of gin's private parts is here: gin has no public way to ask what a name
matches, which class stands behind it, or what is bound and imported.
"""

import contextlib
import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Iterable
from typing import Any

import gin

from recap_tf.core.command import UserError
from recap_tf.core.config.gin_text import Binding, Reference, leaves

REQUIRED = inspect.Parameter.empty


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


def find(name: str, where: str) -> Configurable:
    """The class or function that `name`, or its end part, stands for.

    Raises:
        UserError: there is none, or more than one; the message starts with `where`.
    """
    registry = gin.config._REGISTRY
    selectors = registry.matching_selectors(name)
    if not selectors:
        ends = {
            ".".join(selector.split(".")[-name.count(".") - 1 :])
            for selector, _ in registry.items()
            if not selector.startswith("gin.")
        }
        raise UserError(
            f"{where}: no class or function is called {name!r}."
            f"{did_you_mean(name, ends)}"
        )
    if len(selectors) > 1:
        raise UserError(
            f"{where}: {name!r} is ambiguous. Write one of: "
            f"{', '.join(sorted(selectors))}."
        )
    return _describe(registry[selectors[0]])


def resolve(binding: Binding) -> Binding:
    """`binding` with gin's full selector.

    A class may say in `set_elsewhere`, parameter -> setting, where the values of
    parameters come from that it keeps from gin.

    Raises:
        UserError: no such class, function or parameter, here or in a reference.
    """
    target = find(binding.selector, binding.where)
    known = target.parameters
    if binding.parameter not in known and not target.takes_any:
        elsewhere = getattr(target.makes, "set_elsewhere", {}).get(binding.parameter)
        if elsewhere:
            raise UserError(
                f"{binding.where}: {binding.selector}.{binding.parameter} cannot be "
                f"set: its value is that of {elsewhere}. Set that."
            )
        near = did_you_mean(binding.parameter, known)
        if not near:
            near = f" It has: {', '.join(known) or 'none'}."
        raise UserError(
            f"{binding.where}: {binding.selector} has no parameter "
            f"{binding.parameter!r}.{near}"
        )
    for leaf in leaves(binding.value):
        if isinstance(leaf, Reference):
            find(leaf.name, binding.where)
    return dataclasses.replace(binding, selector=target.selector)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence with the name in `known` nearest to `name`; empty if none is near."""
    lowered = {candidate.lower(): candidate for candidate in sorted(known)}
    near = difflib.get_close_matches(name.lower(), lowered, n=1)
    return f" Did you mean {lowered[near[0]]!r}?" if near else ""


def bound() -> dict[tuple[str, str], dict[str, Any]]:
    """gin's config: (scope, name to write in a file) -> parameter -> value."""
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


def _describe(entry) -> Configurable:
    target = entry.wrapped
    makes = target if inspect.isclass(target) else _hints(target).get("return", Any)
    parameters: dict[str, Parameter] = {}
    takes_any = False
    for depth, (function, owner) in enumerate(_constructors(target)):
        own, takes_any = _parameters(function, owner)
        for name, parameter in own.items():
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
    """(function, its class) for each function that may see an argument of a call.

    The __init__ of a base class sees what the ones before it pass on as **kwargs.
    """
    if not inspect.isclass(target):
        return [(target, None)]
    found = []
    for base in target.__mro__[:-1]:
        own = [name for name in ("__init__", "__new__") if name in vars(base)]
        if own:
            found.append((getattr(base, own[0]), base))
    return found


def _parameters(function, owner: type | None) -> tuple[dict[str, Parameter], bool]:
    """Name -> Parameter, and whether there is a **kwargs."""
    hints = _hints(function, owner)
    found = {}
    takes_any = False
    signature = inspect.signature(function).parameters.values()
    for parameter in list(signature)[0 if owner is None else 1 :]:
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_any = True
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            annotation = hints.get(parameter.name, Any)
            if parameter.default is None and annotation is not Any:
                annotation = typing.Optional[annotation]  # noqa: UP045 (may be a str)
            found[parameter.name] = Parameter(annotation, parameter.default)
    return found, takes_any


def _hints(function, owner: type | None = None) -> dict[str, Any]:
    """Name -> annotation. One that cannot be resolved is left out, so unchecked."""
    # A dataclass's __init__ sees the names of its own module only; the class also
    # those of the modules of inherited fields.
    sources = [function, owner] if dataclasses.is_dataclass(owner) else [function]
    for source in sources:
        try:
            return typing.get_type_hints(source)
        except (NameError, AttributeError):
            continue
    scope = getattr(inspect.unwrap(function), "__globals__", {})
    found = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: hint})
        with contextlib.suppress(NameError, AttributeError):
            found |= typing.get_type_hints(alone, scope)
    return found
