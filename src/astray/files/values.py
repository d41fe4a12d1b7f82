"""Check of what a file holds: plain values, finite numbers, whole characters, no depth beyond reason."""

import math

from astray.errors import DataFormatError

MAX_DEPTH = 100
"""Lists and objects inside each other, at most; deeper ones would break what is done with them later."""


def check_values(content: object, where: str) -> None:
    """Check values from a file, with all that they hold.

    Args:
        content: a value.
        where: file and row, for errors.

    Raises:
        DataFormatError: a number is not finite, a text has a NUL or half a character, or a value is none of JSON's;
            names the field.
    """
    left: list[tuple[object, int, str]] = [(content, 0, "")]
    while left:
        value, depth, name = left.pop()
        if fault := _fault(value, depth):
            raise DataFormatError(f"{where}{f', {name}' if name else ''} {fault}")
        if isinstance(value, dict):
            for key, inner in value.items():
                if (
                    fault := ""
                    if isinstance(key, str)
                    else f"has the key {key!r}, which is no text. Write it in quotation marks."
                ):
                    raise DataFormatError(f"{where}{f', {name}' if name else ''} {fault}")
                left += [(key, 0, "a key"), (inner, depth + 1, f"{name}.{key}" if name else key)]
        elif isinstance(value, list):
            left += [(inner, depth + 1, f"{name}[{place}]") for place, inner in enumerate(value)]


def _fault(value: object, depth: int) -> str:
    if depth > MAX_DEPTH:
        return f"is nested deeper than {MAX_DEPTH} levels. Write it flat."
    if isinstance(value, str):
        if "\0" in value:
            return f"has a NUL character at position {value.index(chr(0)) + 1}, which no text has. Remove it."
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"has half a character (a lone surrogate) at position {error.start + 1}. Remove it."
    elif isinstance(value, float) and not math.isfinite(value):
        return f"is {value}, which is no finite number. Write a number, or leave the value empty where it is missing."
    elif value is not None and not isinstance(value, int | float | list | dict):
        return f"is a {type(value).__name__}, which is neither text, number, true, false nor empty. Write it as text."
    return ""
