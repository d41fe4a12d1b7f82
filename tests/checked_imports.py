"""Checks every function of the package against its annotations, at each call, while tests run.

Functions with array shapes go through jaxtyping, which compares the shapes within a call. Its wrapper binds and checks
all arguments twice, at ten times the cost of beartype alone; the other functions, nineteen in twenty, are therefore
given beartype alone. Functions with names that only mypy imports are left to jaxtyping too, which takes such
annotations as `Any`.
"""

import ast
import builtins
import sys
from collections.abc import Sequence
from dataclasses import is_dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, FunctionType, ModuleType
from typing import ForwardRef, Literal, get_args, get_origin

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped

CHECKED, SHAPED = "__checked__", "__shaped__"
OF_JAXTYPING = (b"jaxtyping", b"TYPE_CHECKING")


def install(package: str) -> None:
    """Checks what is imported of this package from now on."""
    setattr(builtins, CHECKED, _checked)
    setattr(builtins, SHAPED, _shaped)
    measured = [
        type(each).__module__.startswith("slipcover") for each in sys.meta_path
    ]  # it wraps what the finders after it find
    sys.meta_path.insert(measured.index(True) + 1 if any(measured) else 0, _Finder(package))


class _Finder(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self.package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        spec.loader = _Loader(fullname, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """From the source, never from the byte code of an import without checks."""
        return self.source_to_code(self.get_data(self.path), self.path)

    def source_to_code(self, data: bytes, path: str) -> CodeType:
        tree = ast.parse(data, path)
        check = SHAPED if any(word in data for word in OF_JAXTYPING) else CHECKED
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                # Innermost: what other decorators make of it is theirs.
                node.decorator_list.append(_decorator(node, check))
            elif isinstance(node, ast.ClassDef):
                node.decorator_list.insert(0, _decorator(node, check))
        return compile(tree, path, "exec", dont_inherit=True)


def _decorator(node: ast.FunctionDef | ast.ClassDef, check: str) -> ast.expr:
    return ast.fix_missing_locations(ast.copy_location(ast.Name(check, ast.Load()), node))


def _checked(made: object) -> object:
    if not isinstance(made, type):
        return beartype(made)
    if is_dataclass(made):
        made.__init__ = beartype(made.__init__)
    return made


def _shaped(made: object) -> object:
    """The same in a module that names array shapes, or names that only mypy imports."""
    if isinstance(made, type):
        if is_dataclass(made) and "__init__" in vars(made):
            made.__init__ = _shaped(made.__init__)
        return made
    assert isinstance(made, FunctionType)
    of_jaxtyping = any(map(_is_of_jaxtyping, made.__annotations__.values()))
    return jaxtyped(made, typechecker=beartype) if of_jaxtyping else beartype(made)


def _is_of_jaxtyping(annotation: object) -> bool:
    """Whether an annotation holds array shapes, or a name that may be of mypy alone."""
    if isinstance(annotation, list):  # the arguments of a Callable
        return any(map(_is_of_jaxtyping, annotation))
    if isinstance(annotation, str | ForwardRef):
        return True
    if isinstance(annotation, type) and issubclass(annotation, AbstractArray):
        return True
    return get_origin(annotation) is not Literal and any(map(_is_of_jaxtyping, get_args(annotation)))
