"""A package's face: what is imported from the package itself, at its first use.

Commands import the package too, and must not wait for what they do not use.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_face(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Makes `__getattr__`, `__dir__` and `__all__` of a package.

    Args:
        package: its name.
        modules: module below the package -> the names that it gives to the face.
    """
    homes = {name: module for module, names in modules.items() for name in names}

    def getattribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{homes[name]}"), name)

    return getattribute, lambda: sorted(homes), sorted(homes)
