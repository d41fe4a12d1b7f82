"""Strict reading of question files: what is not understood is an error that names file, entry and fault.

YAML itself is lenient (of a key that stands twice the last one counts), which would silently lose questions. What a file means is
said by the pydantic form it is read as; see `question_sets` and `choice`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from astray.data.unique_keys import UniqueKeyLoader
from astray.errors import DataFormatError, DataNotFoundError, EmptyDataError

Form = TypeVar("Form", bound=BaseModel)


def read_yaml(path: Path, example: str) -> object:
    """Return the content of a YAML file.

    Args:
        path: the file.
        example: a right file, shown in errors.

    Raises:
        DataNotFoundError: there is no such file.
        EmptyDataError: there is nothing in it.
        DataFormatError: it is no YAML, or a key stands twice.
    """
    if not path.is_file():
        beside = ", ".join(sorted(file.name for file in path.parent.glob("*.yaml"))) or "no *.yaml"
        raise DataNotFoundError(f"There is no file {path}. In that folder: {beside}.")
    try:
        # Not safe_load, which takes the last of two equal keys without a word; this loader is a safe one as well.
        content: object = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataFormatError(f"{path} cannot be read as YAML: {error}. A right file looks like\n{example}") from error
    if not content:
        raise EmptyDataError(f"{path} is empty. A right file looks like\n{example}")
    return content


def read_as(form: type[Form], content: object, path: Path, example: str) -> Form:
    """Return the content of a file, checked against its form.

    Args:
        form: what the file has to hold.
        content: what it holds, from `read_yaml`.
        path: the file, for errors.
        example: a right file, shown in errors.

    Raises:
        DataFormatError: a key is missing or unknown, or has a value it cannot have; lists all that is wrong, entry by entry.
    """
    if not isinstance(content, dict):
        raise DataFormatError(f"{path} holds a {type(content).__name__}, not keys with values. A right file looks like\n{example}")
    try:
        return form.model_validate(content)
    except ValidationError as error:
        wrong = "\n".join(f"  {_place(detail['loc'], content)}{_what(detail['msg'], detail['input'])}" for detail in error.errors())
        raise DataFormatError(f"{path} has entries that cannot be used:\n{wrong}\nA right file looks like\n{example}") from error


def _place(location: Sequence[int | str], content: object) -> str:
    """Return where in the file a fault is: 'entry 3 (wish), options: '."""
    parts = []
    for step in location:
        content = _step_into(content, step)
        if not isinstance(step, int):
            parts.append(step)
        elif isinstance(content, dict):
            parts[-1:] = [f"entry {step + 1} ({content['id']})" if "id" in content else f"entry {step + 1}"]
        else:
            parts.append(f"number {step + 1}")
    return ", ".join(parts) + ": " if parts else ""


def _step_into(content: object, step: int | str) -> object:
    if isinstance(content, dict):
        return content.get(step)
    if isinstance(content, list) and isinstance(step, int):
        return content[step]
    return None


def _what(message: str, given: object) -> str:
    shown = "" if isinstance(given, dict) else f", given {str(given)[:60]!r}"
    return message.removeprefix("Value error, ") + shown
