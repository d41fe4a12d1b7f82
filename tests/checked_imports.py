"""Checks every function of the package against its annotations, at each call, while tests run.

Functions with array shapes are checked within a scope of jaxtyping's, so that shapes are compared within a call. Its own
wrapper binds and checks all arguments twice, at more than twice the cost; it is given generators, whose scope would
have ended when they begin, and functions with names that only mypy imports, whose annotations it takes as `Any`. The
other functions, nineteen in twenty, have beartype alone.
"""

import ast
import builtins
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from functools import update_wrapper, wraps
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from inspect import isgeneratorfunction
from types import CodeType, FunctionType, ModuleType
from typing import Annotated, ForwardRef, Literal, get_args, get_origin

from beartype import beartype
from jaxtyping import AbstractArray, jaxtyped

CHECKED, SHAPED = "__checked__", "__shaped__"
OF_JAXTYPING = (b"jaxtyping", b"TYPE_CHECKING")


def install(package: str) -> None:
    """Checks what is imported of this package from now on; done again, as in a worker that was forked, it does nothing."""
    if hasattr(builtins, CHECKED):
        return
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
        for node in _definitions(tree.body):
            if isinstance(node, ast.FunctionDef):
                # Innermost: what other decorators make of it is theirs.
                node.decorator_list.append(_decorator(node, check))
            else:
                node.decorator_list.insert(0, _decorator(node, check))
        return compile(tree, path, "exec", dont_inherit=True)


def _definitions(statements: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """All functions and classes; expressions, in which there are none, are nearly all of a tree."""
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement
        for block in ("body", "orelse", "finalbody"):
            yield from _definitions(getattr(statement, block, []))
        for part in (*getattr(statement, "handlers", ()), *getattr(statement, "cases", ())):
            yield from _definitions(part.body)


def _decorator(node: ast.FunctionDef | ast.ClassDef, check: str) -> ast.expr:
    return ast.fix_missing_locations(ast.copy_location(ast.Name(check, ast.Load()), node))


_CHECKS: dict[tuple[str, CodeType], tuple[dict[str, object], FunctionType | None]] = {}
"""Annotations and check of each function within another; None where there is nothing to check."""


def _beartyped(made: FunctionType) -> FunctionType:
    """The function with its check. One within another is made anew at each call of that one: its check is made once,
    which takes as long as a thousand calls, and then wraps what was made."""
    if "<locals>" not in made.__qualname__:
        return beartype(made)
    name = (f"{made.__module__}.{made.__qualname__}", made.__code__)
    annotations, check = _CHECKS.get(name, (None, None))
    if annotations != made.__annotations__:
        checked = beartype(made)
        _CHECKS[name] = (dict(made.__annotations__), None if checked is made else checked)
        return checked
    if check is None:
        return made
    copy = FunctionType(check.__code__, check.__globals__, check.__name__, check.__defaults__, check.__closure__)
    copy.__kwdefaults__ = {**check.__kwdefaults__, "__beartype_func": made}
    vars(copy).update(vars(check))
    return update_wrapper(copy, made)


def _checked(made: object) -> object:
    if isinstance(made, FunctionType):
        return _beartyped(made)
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
    annotations = list(made.__annotations__.values())
    if isgeneratorfunction(made) or any(_holds(annotation, _is_name) for annotation in annotations):
        return jaxtyped(made, typechecker=beartype)
    checked = _beartyped(made)
    return _in_scope(checked) if any(_holds(annotation, _is_array) for annotation in annotations) else checked


def _in_scope(checked: Callable[..., object]) -> Callable[..., object]:
    """A function within which an axis of one name has one length."""

    @wraps(checked)
    def within(*args: object, **kwargs: object) -> object:
        with jaxtyped("context"):
            return checked(*args, **kwargs)

    return within


def _is_name(annotation: object) -> bool:
    """Whether it may be a name that only mypy imports."""
    return isinstance(annotation, str | ForwardRef)


def _is_array(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, AbstractArray)


def _holds(annotation: object, kind: Callable[[object], bool]) -> bool:
    """Whether an annotation or a part of it is of a kind."""
    if isinstance(annotation, list):  # the arguments of a Callable
        return any(_holds(each, kind) for each in annotation)
    words = {Literal: 0, Annotated: 1}  # what follows so many arguments is no annotation
    parts = get_args(annotation)[: words.get(get_origin(annotation))]
    return kind(annotation) or any(_holds(each, kind) for each in parts)
