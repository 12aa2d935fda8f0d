"""Names in a config, found among what gin has registered; wrong ones are reported."""

import dataclasses
import difflib
from collections.abc import Iterable

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_registry
from recap_tf.core.config.gin_registry import Configurable
from recap_tf.core.config.gin_text import Binding, Reference, leaves


def find(name: str, where: str) -> Configurable:
    """The class or function that `name`, or its end part, stands for.

    Raises:
        UserError: there is none, or more than one; the message starts with `where`.
    """
    selectors = gin_registry.matching(name)
    if not selectors:
        ends = {
            ".".join(selector.split(".")[-name.count(".") - 1 :])
            for selector in gin_registry.selectors()
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
    return gin_registry.describe(selectors[0])


def resolve(binding: Binding) -> Binding:
    """Gives `binding` gin's full selector.

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
