"""Gin text -> bindings: what a config file with its includes, or a --set, says."""

import dataclasses
import io
import pathlib
import posixpath
import re
import tokenize
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from gin import config_parser

from recap_tf.core.command import UserError, one_line

MACRO = "gin.macro"
HERE = "{here}"
_PROJECT = pathlib.Path(__file__).resolve().parents[3]


@dataclasses.dataclass(frozen=True)
class Reference:
    """A reference: `@scope/name`, a factory, or `@scope/name()`, what it makes."""

    scope: str
    name: str
    evaluate: bool

    def __repr__(self):
        return f"@{self.path}{'()' if self.evaluate else ''}"

    @property
    def path(self) -> str:
        return f"{self.scope}/{self.name}" if self.scope else self.name


@dataclasses.dataclass(frozen=True)
class Macro:
    """A macro, `%name`: the value of the line `name = value`."""

    name: str

    def __repr__(self):
        return f"%{self.name}"


class Unquoted(str):
    """A value that a --set gave without quotes: a string where one is taken."""


@dataclasses.dataclass(frozen=True)
class Binding:
    """A line, `scope/selector.parameter = value`.

    A macro is (name, "gin.macro", "value").

    Args:
        where: what a message starts with: "configs/a.gin:12" or "--set A.b=1".
        name: the left side as the user typed it.
        file: the file it stands in; None for a --set.
    """

    scope: str
    selector: str
    parameter: str
    value: Any
    where: str
    name: str
    file: str | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.scope, self.selector, self.parameter


class GinText:
    """The statements of a file and its includes.

    `bindings` are in the order in which they override each other: those of the
    includes, then the file's own, wherever the include lines stand. `parts` has for
    each file the indices of its own bindings and those of its includes. `imports`
    are (where, `import` statement).
    """

    def __init__(self):
        self.bindings: list[Binding] = []
        self.parts: list[range] = []
        self.imports: list[tuple[str, config_parser.ImportStatement]] = []


def read_file(path: str) -> GinText:
    """Reads the gin file at `path` and what it includes, each file once.

    Raises:
        UserError: a file is missing, includes itself or is not gin.
    """
    if not _is_file(path):
        raise UserError(f"The config file {path} does not exist.")
    text = GinText()
    _read(path, text, above=(), seen=set())
    return text


def read_override(text: str, folder: str) -> Binding:
    """Reads `Class.parameter=value` as typed after --set.

    A value that is not gin becomes `Unquoted`. "{here}" stands for `folder`.

    Raises:
        UserError: there is no "=", no value, or the left side is not a gin name.
    """
    where = f"--set {' '.join(text.splitlines())}"
    name, equals, value = (part.strip() for part in text.partition("="))
    expected = UserError(f"{where}: expected --set Class.parameter=value.")
    if not (name and equals and value):
        raise expected
    try:
        [statement] = config_parser.ConfigParser(f"{name} = 0", _Delegate())
    except (SyntaxError, tokenize.TokenError, ValueError):
        raise expected from None
    if not isinstance(statement, config_parser.BindingStatement):
        raise expected
    return _binding(statement, _parse_value(value, where), where, folder, None)


def leaves(value: Any) -> Iterator[Any]:
    """Yields what `value` holds inside its lists, tuples and dicts."""
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def replace_leaves(value: Any, change: Callable[[Any], Any]) -> Any:
    """Puts `change(leaf)` in place of each of the `leaves` of `value`."""
    if isinstance(value, dict):
        return {
            replace_leaves(k, change): replace_leaves(v, change)
            for k, v in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(replace_leaves(item, change) for item in value)
    return change(value)


class _Delegate(config_parser.ParserDelegate):
    """Keeps references as text: gin's own look names up before we know the line."""

    def configurable_reference(self, scoped_name, evaluate):
        scope, _, name = scoped_name.rpartition("/")
        return Reference(scope, name, evaluate)

    def macro(self, name):
        return Macro(name)


def _read(path: str, text: GinText, above: tuple[str, ...], seen: set[str]) -> None:
    seen.add(path)
    start = len(text.bindings)
    bindings = []
    for statement in _statements(path):
        where = f"{path}:{statement.location.line_num}"
        if isinstance(statement, config_parser.IncludeStatement):
            included = _find_include(statement.filename, path, where)
            if included in (*above, path):
                chain = " -> ".join([*above, path, included])
                raise UserError(f"{where}: the includes go round in a circle: {chain}.")
            if included not in seen:
                _read(included, text, (*above, path), seen)
        elif isinstance(statement, config_parser.ImportStatement):
            text.imports.append((where, statement))
        elif isinstance(statement, config_parser.BindingStatement):
            folder = posixpath.dirname(path)
            bindings.append(_binding(statement, statement.value, where, folder, path))
    text.bindings += bindings
    text.parts.append(range(start, len(text.bindings)))


def _binding(statement, value, where: str, folder: str, file: str | None) -> Binding:
    def replace_here(leaf):
        if isinstance(leaf, str) and HERE in leaf:
            return type(leaf)(leaf.replace(HERE, folder or "."))
        return leaf

    value = replace_leaves(value, replace_here)
    scope, selector, parameter = statement[:3]
    path = f"{scope}/{selector}" if scope else selector
    if not parameter:
        return Binding(path, MACRO, "value", value, where, f"%{path}", file)
    name = f"{path}.{parameter}"
    return Binding(scope, selector, parameter, value, where, name, file)


def _find_include(name: str, includer: str, where: str) -> str:
    if "://" in name:
        candidates = [name]
    else:
        folders = [posixpath.dirname(includer), str(_PROJECT)]
        candidates = [posixpath.normpath(posixpath.join(f, name)) for f in folders]
        if "://" in folders[0]:
            # normpath would make one slash of the two.
            candidates[0] = posixpath.join(folders[0], name)
    for candidate in candidates:
        if _is_file(candidate):
            return candidate
    places = " or ".join(posixpath.dirname(path) or "." for path in candidates)
    raise UserError(f"{where}: there is no file {name!r} to include in {places}.")


def _is_file(path: str) -> bool:
    return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)


def _statements(path: str) -> list:
    try:
        with tf.io.gfile.GFile(path) as file:
            text = file.read()
    except UnicodeDecodeError:
        raise UserError(f"{path} is not a gin file: it is not text.") from None
    try:
        return list(config_parser.ConfigParser(io.StringIO(text), _Delegate()))
    except (SyntaxError, tokenize.TokenError) as error:
        lines = text.splitlines()
        number = getattr(error, "lineno", None) or error.args[1][0]
        number = min(number, len(lines))
        received = lines[number - 1].strip()
        raise UserError(
            f"{path}:{number}: {_reason(error)} Received: {received}"
        ) from None


def _reason(error: Exception) -> str:
    reason = str(error.args[0])
    token = re.search(r"Failed to parse token '(.*)'", reason)
    if token:
        return f"{token[1]} is not a gin value. Does a string lack its quotes?"
    if reason.startswith("EOF in"):
        return "a bracket or string is not closed at the end of the file."
    if reason.startswith("Couldn't parse statement"):
        return "expected Class.parameter = value."
    return f"this is not gin: {one_line(reason).rstrip('.')}."


def _parse_value(text: str, where: str) -> Any:
    try:
        statements = list(config_parser.ConfigParser(f"_ = {text}\n", _Delegate()))
    except (SyntaxError, tokenize.TokenError) as error:
        if text[0] in "'\"@":
            raise UserError(f"{where}: the value is not gin: {text}") from error
        return Unquoted(text)
    return statements[0].value if len(statements) == 1 else Unquoted(text)
