"""JSON read strictly: no key twice, only finite numbers, whole characters, nothing after the value."""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from astray.errors import DataFormatError, EmptyDataError
from astray.files.reading import whole_text
from astray.files.values import MAX_DEPTH, check_values

_ESCAPED = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
"""Escapes that may be half a character or a NUL; only what has one of them is looked through."""


def parse_json(text: str, where: str, example: str) -> Any:
    """Return the value that a whole text is.

    Args:
        text: the text.
        where: file and row, for errors.
        example: a right text, shown in errors.

    Raises:
        DataFormatError: it is no JSON, or not strictly.
    """
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise DataFormatError(
            f"{where} is not JSON that can be read: it is nested deeper than {MAX_DEPTH} levels. Right: {example}"
        ) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise DataFormatError(f"{where} is not JSON ({error.msg} at {place}). Right: {example}") from error
    except ValueError as error:
        raise DataFormatError(f"{where} {error}. Right: {example}") from error
    if text.count("[") + text.count("{") > MAX_DEPTH or ("\\u" in text and _ESCAPED.search(text)):
        check_values(value, where)
    return value


def read_json(path: Path, example: str) -> Any:
    """Return the value of a JSON file.

    Raises:
        DataNotFoundError, StoreError, DataFormatError: as their names say.
        EmptyDataError: there is nothing in it.
    """
    text = whole_text(path)
    if not text.strip():
        raise EmptyDataError(f"{path} is empty. Right: {example}")
    return parse_json(text, str(path), example)


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(
            f"has the key {twice!r} twice in one object, of which only the last would count: write it once"
        )
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"has the number {text[:40]}, which is too large: write a finite number")
    return number


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:  # Python's limit of digits, which holds where the number is written as well
        raise ValueError(f"has a number of {len(text)} digits: write it as text") from error


def _refuse(name: str) -> float:
    raise ValueError(f"has {name}, which is no number of JSON: write null where a value is missing")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_int=_whole, parse_constant=_refuse)
