"""Config files: checks one, hands it to gin, and writes down what gin holds.

    gin_text      gin text -> bindings
    gin_registry  the classes, functions and parameters that bindings may name
    gin_names     wrong names are reported, with the one that was meant
    gin_types     values against annotations
    gin_reach     which bindings the program reads

gin by itself lets misspelt macros, wrong types and bindings that nothing reads pass.
"""

import posixpath
import pprint
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from recap_tf.core.command import UserError, one_line
from recap_tf.core.config import (
    gin_names,
    gin_reach,
    gin_registry,
    gin_text,
    gin_types,
)
from recap_tf.core.config.gin_text import (
    MACRO,
    Binding,
    Macro,
    Reference,
    replace_leaves,
)

_LINE_LENGTH = 80


def load(path: str, overrides: Sequence[str] = (), *, roots: Sequence[str]) -> None:
    """Makes the gin file at `path` gin's config, after checking all of it.

    A binding overrides one of the same parameter in an included file. "{here}" in a
    string stands for the folder of the file it is written in, in an override for
    that of `path`. Nothing is built.

    Args:
        overrides: `Class.parameter=value` each; they win over the file.
        roots: selectors of all that the commands call from Python, without
            arguments. What they do not reach, directly or through references,
            counts as unread.

    Raises:
        UserError: the file or an override is wrong; the message names the line.
    """
    gin.clear_config()
    text = gin_text.read_file(path)
    for where, statement in text.imports:
        _import(statement, where)
    bindings = [gin_names.resolve(binding) for binding in text.bindings]
    _check_repeats(bindings)
    macros = {b.scope: b for b in bindings if b.selector == MACRO}
    folder = posixpath.dirname(path)
    for override in overrides:
        binding = gin_text.read_override(override, folder)
        if binding.selector == MACRO and binding.scope not in macros:
            raise UserError(f"--set {override}: expected --set Class.parameter=value.")
        bindings.append(gin_names.resolve(binding))
    macros |= {b.scope: b for b in bindings if b.selector == MACRO}
    for binding in bindings:
        _check_value(binding, macros)
    for binding in gin_reach.used(bindings, text.parts, roots):
        gin.bind_parameter(binding.key, replace_leaves(binding.value, _as_gin))


def operative() -> str:
    """The config that gin holds, as text that `load` reads back to the same config.

    What was overridden or is no longer read is left out, "{here}" is replaced. gin's
    own operative_config_str knows only what was called so far, and both it and
    config_str sort the keys of dicts, whose order may matter to us.
    """
    lines = gin_registry.imported()
    for (scope, name), values in gin_registry.bound().items():
        if lines:
            lines.append("")
        for parameter, value in values.items():
            prefix = f"{scope}/{name}" if scope else name
            left = scope if name == MACRO else f"{prefix}.{parameter}"
            width = _LINE_LENGTH - len(left)
            right = pprint.pformat(value, width=max(width, 40), sort_dicts=False)
            lines.append(f"{left} = {right}")
    return "\n".join(lines) + "\n"


def _import(statement, where: str) -> None:
    if statement.module.startswith("__gin__"):
        raise UserError(f"{where}: gin's {statement.module} is not supported.")
    running = getattr(sys.modules["__main__"], "__spec__", None)
    if running and running.name == statement.module:
        raise UserError(
            f"{where}: {statement.module} is the command that runs; a config file "
            "cannot import it."
        )
    try:
        gin.parse_config(statement.format())
    except ImportError as error:
        raise UserError(f"{where}: {one_line(str(error))}.") from error


def _check_repeats(bindings: Sequence[Binding]) -> None:
    first: dict[Any, Binding] = {}
    for binding in bindings:
        earlier = first.setdefault((binding.file, binding.key), binding)
        if earlier is not binding:
            raise UserError(
                f"{binding.where}: {binding.name} is set already in {earlier.where}."
            )


def _check_value(binding: Binding, macros: Mapping[str, Binding]) -> None:
    through = ""
    if isinstance(binding.value, Macro):
        macro = macros.get(binding.value.name)
        through = f" ({binding.value}, {macro.where})" if macro else ""
    value = _expand(binding, macros)
    if binding.selector != MACRO:
        gin_types.check(binding, value, through)


def _expand(
    binding: Binding, macros: Mapping[str, Binding], inside: tuple[str, ...] = ()
) -> Any:
    """The value of `binding` with macros replaced by their values."""

    def expand(leaf):
        if not isinstance(leaf, Macro):
            return leaf
        if leaf.name not in macros:
            near = gin_names.did_you_mean(leaf.name, macros)
            raise UserError(f"{binding.where}: the macro {leaf} is not defined.{near}")
        if leaf.name in inside:
            raise UserError(f"{binding.where}: the macro {leaf} refers to itself.")
        return _expand(macros[leaf.name], macros, (*inside, leaf.name))

    return replace_leaves(binding.value, expand)


def _as_gin(leaf: Any) -> Any:
    if isinstance(leaf, Reference):
        return gin.config.ParserDelegate().configurable_reference(
            leaf.path, leaf.evaluate
        )
    if isinstance(leaf, Macro):
        return gin.config.ParserDelegate().macro(leaf.name)
    return str(leaf) if isinstance(leaf, gin_text.Unquoted) else leaf
