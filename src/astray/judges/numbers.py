"""Read a number as somebody wrote it: exactly, or not at all.

Signs and digits of any script are read as the ASCII ones that they stand for, ".5" is 0.5, and a number may be followed
by a word for thousands or millions. A text that could be read in two ways is not a number: separators ("1,200" is
another number in other countries), percentages (12% may mean 12 or 0.12) and units. A point before three digits is read
as a decimal point; whoever compares numbers asks `in_thousands` before it finds a contradiction.
"""

import math
import re
import unicodedata
from decimal import Decimal

from astray.errors import DataFormatError
from astray.judges.replies import undressed

_MINUS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"), "-")
_PLAIN = {ord("\uff0b"): "+", ord("\uff0e"): ".", ord("\u066b"): "."}
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_THOUSANDS = re.compile(rf"([+-]?[1-9][0-9]{{0,2}}\.[0-9]{{3}})(\s+(?:{'|'.join(_SCALES)}))?", re.IGNORECASE)
_NUMBER = re.compile(
    rf"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]{{1,3}})?)(?:\s+({'|'.join(_SCALES)}))?", re.IGNORECASE
)


def read_number(text: str) -> Decimal | None:
    """Return the number that the whole text is, or None.

    Args:
        text: the text; marks around it, such as Markdown's, are ignored.

    Examples:
        >>> read_number("\u22123"), read_number(".5"), read_number("3 million"), read_number("1,200")
        (Decimal('-3'), Decimal('0.5'), Decimal('3000000'), None)
    """
    match = _NUMBER.fullmatch(_plain(text))
    if match is None or not math.isfinite(float(match[1])):
        return None
    # The scale is added to the exponent: multiplying would round a Decimal to the context's precision.
    sign, digits, exponent = Decimal(match[1]).as_tuple()
    number = Decimal((sign, digits, int(exponent) + (_SCALES[match[2].lower()] if match[2] else 0)))
    return number if math.isfinite(float(number)) else None


def _plain(text: str) -> str:
    """Return a text with signs and digits of any script as the ASCII ones, and nothing around it."""
    plain = undressed(text).translate(_MINUS | _PLAIN)
    return "".join(str(unicodedata.decimal(character, character)) for character in plain)


def in_thousands(text: str) -> list[Decimal]:
    """Return the number that a text is where its point separates thousands: "1.200" may be 1200; else nothing."""
    match = _THOUSANDS.fullmatch(_plain(text))
    number = match and read_number(match[1].replace(".", "") + (match[2] or ""))
    return [number] if number is not None else []


def standard(text: str) -> str | None:
    """Return the number that a text is, as `written` writes it; None where it is none.

    One with a scale whose point may separate thousands stays as it is: 3.500 million may be 3500000000, and 3500000 is not.
    """
    number = read_number(text)
    if number is None:
        return None
    match = _THOUSANDS.fullmatch(_plain(text))
    return f"{match[1]} {match[2].strip().lower()}" if match and match[2] else written(number)


def read_score(given: object, what: str) -> float | None:
    """Return a score from 0 to 100 out of a table; None where it is missing (null or an empty text).

    Args:
        given: a number, or a text that is one by the rule of `read_number`.
        what: row and field, for errors.

    Raises:
        DataFormatError: it is something else.
    """
    if given is None or (isinstance(given, str) and not given.strip()):
        return None
    number = read_number(given) if isinstance(given, str) else given
    if isinstance(number, bool) or not isinstance(number, int | float | Decimal) or not 0 <= number <= 100:
        raise DataFormatError(
            f"{what} {given!r}; a score is a number from 0 to 100, written with digits and a point, or empty where "
            "it is missing."
        )
    return float(number)


def written(number: Decimal) -> str:
    """Write a number with digits, a point and a sign where it needs one: "-0.5", "3000000"."""
    return format(number, "f")
