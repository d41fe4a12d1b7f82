"""Forms read from YAML with the place of every value, so that an error names file, line and column, and the nearest
key."""

import difflib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from astray.errors import ConfigurationError, DataFormatError
from astray.files.forms import ENTRY, place
from astray.files.yaml_text import read_marked
from astray.strict import deepest, fault, validated

Form = TypeVar("Form", bound=BaseModel)
Location = Sequence[str | int]
"""Way to a value: keys, and indices in lists."""


@dataclass(frozen=True)
class Marked(Generic[Form]):
    """A form with the places of its values.

    Attributes:
        form: what the file says.
        path: the file.
        node: the root of its nodes.
    """

    form: Form
    path: Path
    node: yaml.Node

    def place(self, at: Location, *, key: bool = False) -> str:
        """Return file, line and column of a value, or of its key."""
        return _where(self.path, self.node, at, key=key)

    def wrong(self, at: Location, message: str, *, key: bool = False) -> ConfigurationError:
        """Return the error about a value that cannot work, with its place; with `key`, that of its key."""
        return ConfigurationError(f"{self.place(at, key=key)}: {message}")


def read_marked_form(form: type[Form], path: Path, example: str) -> Marked[Form]:
    """Return the content of a YAML file as a form.

    Args:
        form: what the file has to hold.
        path: the file.
        example: a right file, shown in errors.

    Raises:
        DataNotFoundError, StoreError, EmptyDataError: as their names say.
        DataFormatError: it is no YAML, or not of this form; all that is wrong is told with line and column.
    """
    content, node = read_marked(path, example)
    if not isinstance(content, dict):
        raise DataFormatError(
            f"{path} holds a {type(content).__name__}, not keys with values. A right file looks like\n{example}"
        )
    try:
        return Marked(validated(form, content), path, node)
    except ValidationError as error:
        told = "\n".join(_told(form, path, node, detail, content) for detail in deepest(error, content))
        raise DataFormatError(f"{told}\nA right file looks like\n{example}") from error


def read_form(form: type[Form], path: Path, example: str) -> Form:
    """Return the content of a YAML file as a form; arguments and errors as for `read_marked_form`."""
    return read_marked_form(form, path, example).form


def nearest(given: str, known: Sequence[str]) -> str:
    """Return a hint at the nearest of the known names, with a blank in front; nothing where none is near."""
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def _told(form: type[BaseModel], path: Path, node: yaml.Node, detail: ErrorDetails, content: object) -> str:
    at: Location = detail["loc"]
    around = place(at[:-1], content).removesuffix(": ")
    if detail["type"] == "extra_forbidden":
        known = list(_fields_at(form, at[:-1]))
        wrong = f"unknown key {at[-1]!r}.{nearest(str(at[-1]), known)} Keys {f'of {around}' if ENTRY in around else 'here'}: {', '.join(known)}."
        return f"{_where(path, node, at, key=True)}: {wrong}"
    if detail["type"] == "missing":
        inside = f" in {around!r}" if around else ""
        return f"{_where(path, node, at[:-1], key=True)}: the key {at[-1]!r} is missing{inside}."
    return f"{_where(path, node, at)}: {place(at, content)}{fault(detail)}."


def _where(path: Path, root: yaml.Node, at: Location, *, key: bool = False) -> str:
    """Return file, line and column of a value or of its key; the nearest that the file has, where a step is no part of
    it."""
    node, mark = root, root.start_mark
    for step in at:
        if isinstance(node, yaml.MappingNode):
            found = next(((name, value) for name, value in node.value if name.value == str(step)), None)
            if found is None:
                continue
            mark = found[0].start_mark if key else found[1].start_mark
            node = found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            mark = node.start_mark
    return f"{path}, line {mark.line + 1}, column {mark.column + 1}"


def _fields_at(form: Any, at: Location) -> Sequence[str]:
    """Return the keys that a form takes at a place."""
    for step in at:
        model = _model_in(form)
        if model is not None:
            form = model.model_fields[str(step)].annotation if step in model.model_fields else None
        else:
            inner = [argument for argument in typing.get_args(_plain(form)) if argument not in (type(None), Ellipsis)]
            form = inner[-1] if inner else None
    model = _model_in(form)
    return [field.alias or name for name, field in model.model_fields.items()] if model else []


def _plain(kind: Any) -> Any:
    """Return a type without its annotations, and without None where it may be missing."""
    if typing.get_origin(kind) is typing.Annotated:
        return _plain(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return _plain(next(argument for argument in typing.get_args(kind) if argument is not type(None)))
    return kind


def _model_in(kind: Any) -> type[BaseModel] | None:
    plain = _plain(kind)
    return plain if isinstance(plain, type) and issubclass(plain, BaseModel) else None
