"""Compare a solution's return value or output with the expected one.

Only an expected float has a tolerance: a value for an expected int, text or flag is compared exactly, as in Python.
Values come from `inside.values`, so a comparison calls no code of the solution's.
"""

import cmath
import math
import re
from collections.abc import Collection
from typing import Any

_RELATIVE, _ABSOLUTE = 1e-6, 1e-6
"""Tolerances for an expected float: both bounds hold, so that six right digits of a large number are not enough."""
_ROUNDING = 1e-9
"""Share of an expected float that is always allowed: the error of sums in another order."""
_ZERO = 1e-12
"""Tolerance for an expected 0.0, which has no relative one: the error of sin(pi) and of cancelled sums."""
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def same(value: Any, expected: Any) -> bool:
    """Return whether plain values are equal as in Python, with a tolerance for expected floats, and NaN equal to NaN.

    Never stricter than the `==` of an honest public test, with one exception: a complex number is wrong where a real
    one is expected.
    """
    if isinstance(value, complex) and not isinstance(expected, complex):
        return False
    if isinstance(expected, float | complex):
        return isinstance(value, int | float | complex) and _near(value, expected)
    if isinstance(value, list | tuple) and type(value) is type(expected):
        return len(value) == len(expected) and all(map(same, value, expected))
    if isinstance(value, dict) and isinstance(expected, dict):
        return _same_members(value, expected) and all(same(item, expected[key]) for key, item in value.items())
    if isinstance(value, set | frozenset) and isinstance(expected, set | frozenset):
        return _same_members(value, expected)
    return bool(value == expected)


def same_printed(value: Any, expected: str) -> bool:
    """Return whether a program's output is the expected one, spaces aside, with a tolerance for decimal numbers."""
    if not isinstance(value, str):
        return False
    printed, wanted = value.split(), expected.split()
    return len(printed) == len(wanted) and all(map(_same_word, printed, wanted))


def _same_members(value: Collection[Any], expected: Collection[Any]) -> bool:
    """Return whether sets, or the keys of dicts, are equal."""
    # Members are compared once more: 1+0j hashes as 1 and equals it, but is no answer where an int is expected.
    held = {member: member for member in expected}
    return len(value) == len(held) and all(member in held and same(member, held[member]) for member in value)


def _same_word(word: str, wanted: str) -> bool:
    if word == wanted:
        return True
    return (
        "." in wanted
        and bool(_DECIMAL.fullmatch(word) and _DECIMAL.fullmatch(wanted))
        and _near(float(word), float(wanted))
    )


def _near(value: int | float | complex, expected: float | complex) -> bool:
    if value == expected:
        return True
    try:
        if not (cmath.isfinite(value) and cmath.isfinite(expected)):
            return _same_part(value.real, expected.real) and _same_part(value.imag, expected.imag)
        size = abs(expected)
        allowed = max(_ROUNDING * size, min(_RELATIVE * size, _ABSOLUTE)) if size else _ZERO
        return abs(value - expected) <= allowed
    except OverflowError:  # an int that no float is near
        return False


def _same_part(value: int | float, expected: int | float) -> bool:
    return value == expected or (math.isnan(value) and math.isnan(expected))
