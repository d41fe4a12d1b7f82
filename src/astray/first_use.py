"""Lazy imports: public names of a package are loaded when first used, so that importing the package stays quick."""

import ast
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


def on_first_use(package: str, source: str) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package whose modules load heavy libraries.

    What is loaded late, and from where, stands once: in the imports below the package's `if TYPE_CHECKING:`, which type
    checkers read too. None of these names may be that of a module of the package: an import of `package.name` would put
    the module in the name's place.

    Args:
        package: its `__name__`.
        source: its `__file__`.
    """

    @cache
    def homes() -> dict[str, str]:
        blocks = [
            statement
            for statement in ast.parse(Path(source).read_text(encoding="utf-8")).body
            if isinstance(statement, ast.If)
        ]
        late = [statement for block in blocks for statement in block.body if isinstance(statement, ast.ImportFrom)]
        return {name.name: str(imported.module) for imported in late for name in imported.names}

    def load(name: str) -> Any:
        if name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes()[name]), name)

    return load
