"""Public names of a package, loaded on first use, so that importing the package costs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(
    package: str, homes: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Create ``__getattr__``, ``__dir__`` and ``__all__`` of a package of names from its modules.

    Args:
        package: Name of the package.
        homes: Names by the module that holds them, which is named as seen from the package.
            A module that lists itself is handed out as it is: ``from labelkit.runs import train``
            gives the module in any case once somebody has imported it.
    """
    home = {name: module for module, names in homes.items() for name in names}

    def get(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{home[name]}")
        return module if name == home[name] else getattr(module, name)

    names = sorted(home)
    return get, lambda: list(sys.modules[package].__all__), names
