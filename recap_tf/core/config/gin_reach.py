"""Which bindings a config's roots read, found without building anything.

gin's rules, as far as they matter here:

- A call of a class in scope a/b reads its bindings without scope, of scope a and of
  scope a/b; the longest scope wins.
- `@Class()` is called when the parameter it is bound to is read, in the same scope.
  `@c/Class()` is called in scope c, never in a/b/c.
- `@Class` is called later, from Python: in the scope of what it was handed to, or of
  anything around that. `@c/Class` is always called in scope c.
- `%name` calls gin.macro in the scope `name`, so `@Class()` in a macro's value is
  called in that scope too.
- A call from Python code reads nothing, unless its target is a root.
"""

from collections.abc import Iterable, Mapping, Sequence

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_names, gin_registry, gin_types
from recap_tf.core.config.gin_text import MACRO, Binding, Macro, Reference, leaves

Key = tuple[str, str, str]
Calls = tuple[tuple[str, str], ...]
_MOST_LISTED = 5


def used(
    bindings: Sequence[Binding], parts: Iterable[range], roots: Sequence[str]
) -> list[Binding]:
    """The bindings that `roots` read, without those that a later one overrides.

    Args:
        bindings: all of them, later ones override earlier ones of the same key.
        parts: sets of indices, each a config of its own. What such a part reads may
            go unread in the whole: a variant that swaps a class leaves the base
            file's bindings of the old one behind.
        roots: what the commands call from Python without arguments, as
            `scope/selector`.

    Raises:
        UserError: a binding is read neither in the whole nor in any part that has
            it; something that is called without arguments lacks a required
            parameter; an object needs itself.
    """
    whole = _Walk(bindings, roots)
    walks = [(part, _Walk(bindings[part.start : part.stop], roots)) for part in parts]
    walks.append((range(len(bindings)), whole))
    unread = {}
    for index, binding in enumerate(bindings):
        if not any(index in part and binding.key in walk.read for part, walk in walks):
            unread[binding.key] = binding
    if unread:
        raise UserError(_message(list(unread.values()), whole, roots))
    # After the unread ones: a misspelt scope shows there with its line.
    if whole.problems:
        raise UserError(whole.problems[0])
    return [b for key, b in whole.bindings.items() if key in whole.read]


class _Walk:
    """Follows the references from `roots`.

    `read` are the keys of the bindings read, `calls` the (selector, scope) reached.
    """

    def __init__(self, bindings: Sequence[Binding], roots: Sequence[str]):
        self.bindings: Mapping[Key, Binding] = {b.key: b for b in bindings}
        self.read: set[Key] = set()
        self.calls: set[tuple[str, str]] = set()
        self.problems: list[str] = []
        self._done: set[tuple[str, str, frozenset[str]]] = set()
        for root in roots:
            scope, _, name = root.rpartition("/")
            selector = _selector(name)
            bound = list(self.winners(selector, scope).values())
            if bound:
                self._check_complete(bound[0], root, root, selector, [scope])
            self._call(selector, scope, frozenset([scope]), ())

    def winners(self, selector: str, scope: str) -> dict[str, Binding]:
        """The bindings that a call of `selector` in `scope` reads, by parameter."""
        names = scope.split("/") if scope else []
        scopes = {"/".join(names[:length]): length for length in range(len(names) + 1)}
        bindings = [b for key, b in self.bindings.items() if key[1] == selector]
        bindings = [b for b in bindings if b.scope in scopes]
        bindings.sort(key=lambda b: scopes[b.scope])
        return {b.parameter: b for b in bindings}

    def _call(self, selector: str, scope: str, around: frozenset, building: Calls):
        self.calls.add((selector, scope))
        if (selector, scope, around) in self._done:
            return
        self._done.add((selector, scope, around))
        for binding in self.winners(selector, scope).values():
            self.read.add(binding.key)
            self._follow(binding, scope, around, building)

    def _follow(self, binding: Binding, scope: str, around: frozenset, building: Calls):
        """Goes on to what `binding`, read by a call in `scope`, refers to.

        `around` are the scopes that may be active when Python calls a factory,
        `building` the objects being built, from the outermost to the innermost.
        """
        for leaf in leaves(binding.value):
            if isinstance(leaf, Macro):
                self._call(MACRO, leaf.name, around, building)
            elif isinstance(leaf, Reference) and leaf.evaluate:
                selector, inner = _selector(leaf.name), leaf.scope or scope
                if (selector, inner) in building:
                    self.problems.append(
                        f"{binding.where}: {binding.name} = {leaf!r} needs itself to "
                        "be built."
                    )
                self._check_complete(binding, repr(leaf), leaf.path, selector, [inner])
                chain = (*building, (selector, inner))
                self._call(selector, inner, around | {inner}, chain)
            elif isinstance(leaf, Reference):
                selector, scopes = _selector(leaf.name), around
                if leaf.scope:
                    scopes = [leaf.scope]
                if _called_without_arguments(binding):
                    self._check_complete(
                        binding, repr(leaf), leaf.path, selector, scopes
                    )
                for inner in scopes:
                    self._call(selector, inner, around | {inner}, ())

    def _check_complete(self, binding, typed, path, selector, scopes: Iterable[str]):
        """Notes parameters that no call of `selector` in one of `scopes` can find."""
        bound = set().union(*(self.winners(selector, scope) for scope in scopes))
        parameters = gin_names.find(selector, binding.where).parameters
        for name, parameter in parameters.items():
            if parameter.default is gin_registry.REQUIRED and name not in bound:
                self.problems.append(
                    f"{binding.where}: {typed} needs {path}.{name}, which nothing sets."
                )


def _called_without_arguments(binding: Binding) -> bool:
    parameters = gin_names.find(binding.selector, binding.where).parameters
    parameter = parameters.get(binding.parameter)
    return parameter is not None and gin_types.calls_without_arguments(
        parameter.annotation
    )


def _selector(name: str) -> str:
    return gin_names.find(name, f"root {name}").selector


def _message(unread: list[Binding], walk: _Walk, roots: Sequence[str]) -> str:
    first, *others = unread
    listed = [f"{b.where}: {b.name}" for b in others[:_MOST_LISTED]]
    if len(others) > _MOST_LISTED:
        listed.append(f"{len(others) - _MOST_LISTED} more")
    also = f" Nor: {'; '.join(listed)}." if others else ""
    return f"{first.where}: nothing reads {first.name}{_why(first, walk, roots)}{also}"


def _why(binding: Binding, walk: _Walk, roots: Sequence[str]) -> str:
    if binding.selector == MACRO:
        owners = [
            f"{root}.{binding.scope}"
            for root in roots
            if binding.scope in gin_names.find(root, "").parameters
        ]
        return f". Did you mean {owners[0]}?" if owners else ", a macro."
    scopes = {scope for selector, scope in walk.calls if selector == binding.selector}
    if not scopes:
        return f": no setting in use refers to @{binding.selector.split('.')[-1]}."
    prefix = f"{binding.scope}/" if binding.scope else ""
    inside = [scope for scope in scopes if f"{scope}/".startswith(prefix)]
    if inside:
        winners = [walk.winners(binding.selector, scope) for scope in inside]
        names = sorted({winner[binding.parameter].name for winner in winners})
        return f": {', '.join(names)} takes its place."
    named = sorted(scope for scope in scopes if scope)
    known = f" Scopes in use: {', '.join(named)}." if named else ""
    near = gin_names.did_you_mean(binding.scope, named)
    return f": it is in use, but not in scope {binding.scope!r}.{near or known}"
