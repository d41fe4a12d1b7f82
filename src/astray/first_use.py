"""Lazy imports: public names of a package are loaded when first used, so that importing the package stays quick."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def on_first_use(package: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package whose modules load heavy libraries.

    None of these names may be that of a module of the package: an import of `package.name` would put the module in the
    name's place.

    Args:
        package: its `__name__`.
        homes: public name -> module of the package that holds it.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return load
