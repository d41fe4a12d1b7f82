"""Values of a step's configuration that say where something lies, such as the folder of a model or a file of labels.

What lies there is told by its content beside them, so keys are made without them: a folder that was moved holds the
same model. Whoever loads it reads the place from the step's configuration as before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel

PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types of nearly all values: a plan of a study has some hundred thousand."""


@dataclass(frozen=True)
class Place:
    """Mark of a field that holds a place; a sibling field has to tell the content.

    Attributes:
        in_key: what keys hold instead of a value; None, which is no place, stays.

    Example:
        labels: Annotated[Path | None, Place()]
        digest: str
    """

    in_key: Callable[[Any], object] = lambda _: ""


def without_places(config: BaseModel, written: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration, written as JSON, as keys hold it, the configurations within it included."""
    held = dict(written)
    for name, mark in _marks(type(config)):
        value = getattr(config, name)
        if name in written and value is not None:
            held[name] = mark.in_key(value) if mark else _within(value, written[name])
    return held


@cache
def _marks(kind: type[BaseModel]) -> tuple[tuple[str, Place | None], ...]:
    """Return the fields of a configuration with their marks."""
    return tuple(
        (name, next((mark for mark in field.metadata if isinstance(mark, Place)), None))
        for name, field in kind.model_fields.items()
    )


def _within(value: object, written: Any) -> Any:
    if type(value) in PLAIN:
        return written
    if isinstance(value, BaseModel) and isinstance(written, dict):
        return without_places(value, written)
    if isinstance(value, list | tuple) and isinstance(written, list) and len(value) == len(written):
        return [_within(*pair) for pair in zip(value, written, strict=True)]
    if isinstance(value, Mapping) and isinstance(written, dict):
        return {name: _within(value.get(name), each) for name, each in written.items()}
    return written
