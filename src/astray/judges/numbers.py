"""Reads a number as somebody wrote it: exactly, or not at all.

A sign of any script and digits of any script are those that they stand for, ".5" is 0.5, and a number may be followed by a word for thousands or
millions. What could be read in two ways is no number: separators ("1,200" is another number in other countries), percentages (12% may be meant by 12
or by 0.12) and units.
"""

import math
import re
import unicodedata
from decimal import Decimal

from astray.judges.replies import undressed

_MINUS = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"), "-")
_PLAIN = {ord("\uff0b"): "+", ord("\uff0e"): ".", ord("\u066b"): "."}
_SCALES = {"thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_NUMBER = re.compile(rf"([+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]{{1,3}})?)(?:\s+({'|'.join(_SCALES)}))?", re.IGNORECASE)


def read_number(text: str) -> Decimal | None:
    """The number that the whole text is, or None.

    Args:
        text: what was written; marks around it, as of Markdown, do not count.

    Example:
        >>> read_number("\u22123"), read_number(".5"), read_number("3 million"), read_number("1,200")
        (Decimal('-3'), Decimal('0.5'), Decimal('3000000'), None)
    """
    plain = undressed(text).translate(_MINUS | _PLAIN)
    found = _NUMBER.fullmatch("".join(str(unicodedata.decimal(sign, sign)) for sign in plain))
    if found is None or not math.isfinite(float(found[1])):
        return None
    sign, digits, exponent = Decimal(found[1]).as_tuple()
    number = Decimal((sign, digits, int(exponent) + (_SCALES[found[2].lower()] if found[2] else 0)))
    return number if math.isfinite(float(number)) else None


def written(number: Decimal) -> str:
    """The number with digits, a point and a sign where it needs one: "-0.5", "3000000"."""
    return format(number, "f")
