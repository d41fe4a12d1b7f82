"""Content and rows checked against the form that they should have. Rows are checked strictly: text is no number, and a
number no text."""

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from astray.errors import DataFormatError
from astray.strict import deepest, fault, validated

Form = TypeVar("Form", bound=BaseModel)
_LABEL = re.compile(r"(?:.+[_ .-])?labels?[_ .-]?(?:[0-9]+|[a-z])?", re.IGNORECASE)
ENTRY, NUMBER = "entry ", "number "
"""Words for the parts of a list: those with keys of their own, and others."""


def read_as(form: type[Form], content: object, path: Path | str, example: str) -> Form:
    """Return the content of a file, checked against its form.

    Args:
        form: what the file has to hold.
        content: what it holds, from `read_yaml` or `read_json`.
        path: the file, for errors.
        example: a right file, shown in errors.

    Raises:
        DataFormatError: a key is missing or unknown, or has a value it cannot have; lists all that is wrong, entry by
            entry.
    """
    if not isinstance(content, dict):
        raise DataFormatError(
            f"{path} holds a {type(content).__name__}, not keys with values. A right file looks like\n{example}"
        )
    try:
        return cast(Form, validated(form, content))
    except ValidationError as error:
        wrong = "\n".join(f"  {each}" for each in _faults(error, content))
        raise DataFormatError(
            f"{path} has entries that cannot be used:\n{wrong}\nA right file looks like\n{example}"
        ) from error


def row_as(form: type[Form], row: dict[str, Any], where: str, example: str) -> Form:
    """Return a row, checked against its form; the form's lists are `list`, since a tuple would not take them.

    Raises:
        DataFormatError: a field is missing, or has a value it cannot have.
    """
    check_names(row, form.model_fields, where)
    try:
        return form.model_validate(row, strict=True)
    except ValidationError as error:
        raise DataFormatError(f"{where}: {'; '.join(_faults(error, row))}. Right: {example}") from error


def check_names(given: Iterable[str], known: Collection[str], where: str) -> None:
    """Refuse a field that is meant to be a known one and is written otherwise, since it would go unread ("Label",
    "System Prompt").

    Raises:
        DataFormatError: there is one.
    """
    for name in given:
        if name not in known and (meant := next((field for field in known if _same_name(field, name)), "")):
            raise DataFormatError(f"{where} has the field {name!r}. Write {meant!r}.")


def _same_name(one: str, other: str) -> bool:
    """Return whether names differ in nothing but capitals and what parts their words: "System Prompt", "systemPrompt"."""
    return _joined(one) == _joined(other) != ""


def _joined(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def check_one_label(given: Iterable[str], where: str) -> None:
    """Refuse fields that hold further labels ("label2", "human_label") beside `label`, since one of them would go unread.

    Raises:
        DataFormatError: there is one.
    """
    labels = [name for name in given if _LABEL.fullmatch(name)]
    if "label" in labels and len(labels) > 1:
        raise DataFormatError(
            f"{where} has the fields {' and '.join(labels)}, and which of them is the truth is not said. Keep one, as "
            "'label'."
        )


def text_of(row: dict[str, Any], name: str, where: str, example: str) -> str | None:
    """Return a field that is a text, without blanks around it; None where it is missing, null or blank.

    Raises:
        DataFormatError: it is something else.
    """
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise DataFormatError(
            f"{where}, {name} is {str(value)[:60]!r}, a {type(value).__name__}, and has to be a text. Right: {example}"
        )
    return (value or "").strip() or None


def _faults(error: ValidationError, content: object) -> list[str]:
    return [f"{place(detail['loc'], content)}{fault(detail)}" for detail in deepest(error, content)]


def place(location: Sequence[int | str], content: object) -> str:
    """Return where in the file a fault is: 'entry 3 (wish), options: ', 'arms.base: '."""
    parts: list[str] = []
    for step in location:
        content = _step_into(content, step)
        if not isinstance(step, int):
            parts.append(step if not parts or parts[-1].startswith((ENTRY, NUMBER)) else f"{parts.pop()}.{step}")
        elif isinstance(content, dict):
            parts[-1:] = [f"{ENTRY}{step + 1} ({content['id']})" if "id" in content else f"{ENTRY}{step + 1}"]
        else:
            parts.append(f"{NUMBER}{step + 1}")
    return ", ".join(parts) + ": " if parts else ""


def _step_into(content: object, step: int | str) -> object:
    if isinstance(content, dict):
        return content.get(step)
    if isinstance(content, list) and isinstance(step, int) and step < len(content):
        return content[step]
    return None
