"""Checks every function of the package against its annotations, at each call, while tests run.

Modules with array shapes go through jaxtyping's own import hook, which compares the shapes within a call. Its wrapper
binds and checks all arguments twice, at ten times the cost of beartype alone; the other modules, nine in ten, are
therefore given beartype alone. Modules with names that only mypy imports are left to jaxtyping too, which takes such
annotations as `Any`.
"""

import ast
import builtins
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import partial
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType

from beartype import beartype
from jaxtyping import install_import_hook

CHECKED = "__checked__"
LEFT_TO_JAXTYPING = (b"jaxtyping", b"TYPE_CHECKING")


def install(package: str) -> None:
    """Checks what is imported of this package from now on."""
    install_import_hook(package, "beartype.beartype")
    jaxtyping = sys.meta_path.pop(0)
    setattr(builtins, CHECKED, _checked)
    measured = [
        type(each).__module__.startswith("slipcover") for each in sys.meta_path
    ]  # it wraps what the finders after it find
    sys.meta_path.insert(measured.index(True) + 1 if any(measured) else 0, _Finder(package, jaxtyping))


class _Finder(MetaPathFinder):
    def __init__(self, package: str, jaxtyping: MetaPathFinder) -> None:
        self.package, self.jaxtyping = package, jaxtyping

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self.package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        if any(word in spec.loader.get_data(spec.loader.path) for word in LEFT_TO_JAXTYPING):
            spec = self.jaxtyping.find_spec(fullname, path, target)
            spec.loader.get_code = partial(_compiled, spec.loader)
        else:
            spec.loader = _Loader(fullname, spec.loader.path)
        return spec


def _compiled(loader: SourceFileLoader, _name: str) -> CodeType:
    """From the source, never from the byte code of an import without checks."""
    return loader.source_to_code(loader.get_data(loader.path), loader.path)


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        return _compiled(self, fullname)

    def source_to_code(self, data: bytes, path: str) -> CodeType:
        tree = ast.parse(data, path)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                node.decorator_list.append(_decorator(node))  # innermost: what other decorators make of it is theirs
            elif isinstance(node, ast.ClassDef):
                node.decorator_list.insert(0, _decorator(node))
        return compile(tree, path, "exec", dont_inherit=True)


def _decorator(node: ast.FunctionDef | ast.ClassDef) -> ast.expr:
    name = ast.Name(CHECKED, ast.Load())
    return ast.fix_missing_locations(ast.copy_location(name, node))


def _checked(made: object) -> object:
    if not isinstance(made, type):
        return beartype(made)
    if is_dataclass(made):
        made.__init__ = beartype(made.__init__)
    return made
