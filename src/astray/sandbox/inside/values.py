"""Plain Python values as text, with their types: the form of arguments into the sandbox and of results out of it.

Plain values are None, bool, int, float, complex, str, bytes, list, tuple, dict (a Counter, defaultdict or OrderedDict
as the dict it equals), set and frozenset, and nothing else: an object of a class (a subclass of int with an equality of
its own, say) cannot be written. Reading makes plain values only and calls no code of the writer's. Both sides use it.
"""

import json
import math
from collections import Counter, OrderedDict, defaultdict
from functools import lru_cache
from typing import Any

MAX_DEPTH = 50
"""Maximum depth of nested containers; deeper values are refused on both sides."""

MAX_KEYS = 2_000
"""Maximum number of entries of a set or dict: with more, colliding keys could keep the reader busy for minutes."""

_CONTAINERS: dict[type, str] = {list: "l", tuple: "t", set: "s", frozenset: "z"}
_DICTS = (Counter, defaultdict, OrderedDict)
"""Dicts of the standard library, which are read as the plain dicts that they equal."""
_MAKERS = {"l": list, "t": tuple, "s": set, "z": frozenset}


class NotPlainError(ValueError):
    """Value, or text of a value, that is not made of plain values alone."""


def write_value(value: Any) -> str:
    """Write a value as one line of text.

    Raises:
        NotPlainError: it holds an object that is no plain value, or is too deep.
    """
    return json.dumps(_pack(value, 0), separators=(",", ":"))


def read_value(text: str) -> Any:
    """Read the value from a line.

    Raises:
        NotPlainError: the line is not one that `write_value` can have written.
    """
    try:
        return _unpack(json.loads(text), 0)
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise NotPlainError(f"no value: {text[:80]!r} ({error})") from None


def _pack(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotPlainError(f"containers deeper than {MAX_DEPTH}")
    kind = type(value)  # not isinstance: a subclass may lie about its value
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return ["i", hex(value)]  # Python limits the length of decimal integers, not of hexadecimal ones
    if kind is float:
        return ["f", value.hex()]
    if kind is complex:
        return ["c", value.real.hex(), value.imag.hex()]
    if kind is bytes:
        return ["b", value.hex()]
    if kind in _DICTS:
        value, kind = dict(dict.items(value)), dict  # by the methods of dict itself, which no solution can have changed
    if kind in (set, frozenset, dict) and len(value) > MAX_KEYS:
        raise NotPlainError(f"a {kind.__name__} of more than {MAX_KEYS} entries")
    if kind in _CONTAINERS:
        return [_CONTAINERS[kind], *(_pack(item, depth + 1) for item in value)]
    if kind is dict:
        return ["d", *([_pack(key, depth + 1), _pack(item, depth + 1)] for key, item in value.items())]
    raise NotPlainError(f"an object of type {kind.__name__}")


def _unpack(packed: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotPlainError(f"containers deeper than {MAX_DEPTH}")
    if packed is None or isinstance(packed, bool | str):
        return packed
    if not isinstance(packed, list) or not packed:
        raise NotPlainError(repr(packed)[:80])
    mark, *parts = packed
    if mark in ("s", "z", "d") and len(parts) > MAX_KEYS:
        raise NotPlainError(f"more than {MAX_KEYS} entries")
    if mark in _MAKERS:
        return _MAKERS[mark](_unpack(part, depth + 1) for part in parts)
    if mark == "d":
        return {_unpack(key, depth + 1): _unpack(item, depth + 1) for key, item in parts}
    return _scalar(mark, parts)


def _scalar(mark: Any, parts: list[Any]) -> Any:
    if mark == "i" and len(parts) == 1:
        return int(parts[0], 16)
    if mark == "f" and len(parts) == 1:
        number = float.fromhex(parts[0])
        # One object: else no list, set or key that holds NaN equals another.
        return math.nan if math.isnan(number) else number
    if mark == "c" and len(parts) == 2:
        return _complex(*parts)
    if mark == "b" and len(parts) == 1:
        return bytes.fromhex(parts[0])
    raise NotPlainError(f"the mark {mark!r}")


@lru_cache(64)
def _complex(real: str, imaginary: str) -> complex:
    """Return the same object for the same text, so that values that hold NaN equal each other."""
    return complex(float.fromhex(real), float.fromhex(imaginary))
