"""Checks values from a gin file against the annotations of their parameters.

typeguard checks plain values. Added to its rules:

- `@Class` fits where a Callable (or a `type`) is asked for that returns what the
  class makes, `@Class()` where the class itself, or one above it, is asked for;
- a list also fits a tuple; a bool is no number; a string is no sequence of strings.
"""

import ast
import collections.abc
import contextlib
import functools
import inspect
import types
import typing
from collections.abc import Iterator
from typing import Any

import typeguard

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_names
from recap_tf.core.config.gin_text import (
    Binding,
    Reference,
    Unquoted,
    leaves,
    replace_leaves,
)

_UNIONS = (typing.Union, types.UnionType)
_OF_LETTERS = (
    collections.abc.Sequence,
    collections.abc.Collection,
    collections.abc.Iterable,
    collections.abc.Container,
)
_LONGEST = 90


def check(binding: Binding, value: Any, through: str = "") -> None:
    """Checks `value`, that of `binding` with its macros replaced.

    Args:
        binding: what is set, and where.
        value: with macros replaced by their values.
        through: the macro it came through and that macro's place.

    Raises:
        UserError: what was expected and what came.
    """
    target = gin_names.find(binding.selector, binding.where)
    if binding.parameter not in target.parameters:
        return
    annotation = target.parameters[binding.parameter].annotation
    if isinstance(value, Unquoted):
        value = str(value)
    problem = misfit(value, annotation)
    if problem is None:
        return
    inside = isinstance(value, (list, tuple, dict)) and " of " in problem
    inside = inside and "\n" not in problem
    raise UserError(
        f"{binding.where}: {binding.name} must be {spell(annotation)}. "
        f"Received: {_shorten(value)}{f' ({problem})' if inside else ''}{through}"
        f"{_advice(value, annotation)}"
    )


def misfit(value: Any, annotation: Any) -> str | None:
    """Says what is wrong with `value`, in typeguard's words; None if it fits."""
    lookups = typeguard.checker_lookup_functions
    lookups.insert(0, _gin_rules)
    try:
        typeguard.check_type(
            value,
            annotation,
            collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS,
        )
    except typeguard.TypeCheckError as error:
        return str(error)
    finally:
        lookups.remove(_gin_rules)
    return None


def calls_without_arguments(annotation: Any) -> bool:
    """Whether `annotation` holds a Callable, and all it holds are Callable[[], ...]."""
    arguments = list(_callables(annotation))
    return bool(arguments) and all(args and args[0] == [] for args in arguments)


def _callables(annotation: Any) -> Iterator[tuple]:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if collections.abc.Callable in (origin, annotation):
        yield args
    else:
        for arg in args:
            yield from _callables(arg)


def spell(annotation: Any) -> str:
    """Writes `annotation` as a reader of messages would."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "None"
    if annotation is Ellipsis:
        return "..."
    if isinstance(annotation, list):
        return f"[{', '.join(map(spell, annotation))}]"
    if origin in _UNIONS:
        return " or ".join(map(spell, args))
    if origin is typing.Literal:
        return " or ".join(map(repr, args))
    name = getattr(origin or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(map(spell, args))}]" if args else name


def _gin_rules(origin, args, extras):
    """A typeguard lookup: typeguard's own checker for `origin` behind our rules."""
    others = (f for f in typeguard.checker_lookup_functions if f is not _gin_rules)
    builtin = next(filter(None, (f(origin, args, extras) for f in others)), None)
    return functools.partial(_check, builtin)


def _check(builtin, value, origin, args, memo):
    one_class = inspect.isclass(origin) and origin not in _UNIONS
    if isinstance(value, Reference) and one_class:
        _check_reference(value, origin, args, memo)
        return
    if isinstance(value, bool) and origin in (int, float, complex):
        raise typeguard.TypeCheckError("is a bool")
    if isinstance(value, str) and origin in _OF_LETTERS:
        raise typeguard.TypeCheckError("is a string")
    if isinstance(value, list) and origin is tuple:
        value = tuple(value)
    if builtin:
        builtin(value, origin, args, memo)
    elif one_class and not isinstance(value, origin):
        raise typeguard.TypeCheckError(f"is not {spell(origin)}")


def _check_reference(reference: Reference, origin: type, args, memo) -> None:
    if origin is object:
        return
    kind = gin_names.find(reference.name, "").makes
    if reference.evaluate:
        if origin is collections.abc.Callable and _makes(kind, args, memo):
            raise typeguard.TypeCheckError("is the object, not a factory of it")
        if not _is_kind(kind, origin, memo):
            raise typeguard.TypeCheckError(f"is {spell(kind)}")
    elif origin is collections.abc.Callable:
        if args:
            what_it_makes = Reference(reference.scope, reference.name, True)
            typeguard.check_type_internal(what_it_makes, args[1], memo)
    elif origin is type and inspect.isclass(kind):
        if args:
            typeguard.check_type_internal(kind, type[args[0]], memo)
    elif not (_is_a_protocol(origin) and callable(vars(origin).get("__call__"))):
        raise typeguard.TypeCheckError("is a factory")


def _makes(kind: Any, args, memo) -> bool:
    """Whether Callable[args] asks for a factory of the class `kind`."""
    return (
        inspect.isclass(kind)
        and len(args) == 2
        and inspect.isclass(args[1])
        and args[1] not in (Any, object)
        and _is_kind(kind, args[1], memo)
    )


def _is_kind(annotation: Any, origin: type, memo) -> bool:
    """Whether an object of `annotation` is an `origin`; True if none can tell."""
    members = typing.get_args(annotation)
    if typing.get_origin(annotation) in _UNIONS:
        return any(_is_kind(member, origin, memo) for member in members)
    kind = typing.get_origin(annotation) or annotation
    if kind is Any or not inspect.isclass(kind):
        return True
    if _is_a_protocol(origin):
        try:
            typeguard.check_type_internal(kind, type[origin], memo)
        except typeguard.TypeCheckError:
            return False
        return True
    if issubclass(kind, str) and origin in _OF_LETTERS:
        return False
    widened = {float: (float, int), tuple: (tuple, list)}.get(origin, origin)
    return issubclass(kind, widened) and not (kind is bool and origin in (int, float))


def _is_a_protocol(origin: type) -> bool:
    return typing.Protocol in getattr(origin, "__bases__", ())


def _advice(value: Any, annotation: Any) -> str:
    """A sentence with a value near `value` that would fit; empty if there is none."""
    for candidate in _near_values(value):
        if misfit(candidate, annotation) is None:
            return f". Write {_shorten(candidate)}"
    return ""


def _near_values(value: Any) -> Iterator[Any]:
    references = [leaf for leaf in leaves(value) if isinstance(leaf, Reference)]
    for chosen in [[reference] for reference in references] + [references]:
        if chosen:
            yield replace_leaves(value, functools.partial(_flip, chosen))
    if isinstance(value, str):
        with contextlib.suppress(ValueError, SyntaxError):
            yield ast.literal_eval(value.capitalize() if value.isalpha() else value)
    elif isinstance(value, (int, float)):
        yield str(value)
    yield [value]
    if isinstance(value, tuple):
        yield list(value)


def _flip(chosen: list[Reference], leaf: Any) -> Any:
    if leaf in chosen:
        return Reference(leaf.scope, leaf.name, not leaf.evaluate)
    return leaf


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
