"""Values of a step's configuration that say where something lies, such as the folder of a model or a file of labels.

What lies there is told by its content beside them, so keys are made without them: a folder that was moved holds the
same model. Whoever loads it reads the place from the step's configuration as before.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel


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
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        mark = next((each for each in field.metadata if isinstance(each, Place)), None)
        if name in written and value is not None:
            held[name] = mark.in_key(value) if mark else _within(value, written[name])
    return held


def _within(value: object, written: Any) -> Any:
    if isinstance(value, BaseModel) and isinstance(written, dict):
        return without_places(value, written)
    if isinstance(value, list | tuple) and isinstance(written, list) and len(value) == len(written):
        return [_within(*pair) for pair in zip(value, written, strict=True)]
    if isinstance(value, Mapping) and isinstance(written, dict):
        return {name: _within(value.get(name), each) for name, each in written.items()}
    return written
