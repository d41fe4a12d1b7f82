"""Text of numbers, fractions and intervals that keeps two digits, however small they are: a reading of 0.0004 is not
0.000."""

import math

POINTS = "points"
"""Unit of differences of fractions, which are told as percentage points."""
NOISE = 1e-9
"""What is nearer to 0 than this is rounding of floats, and written as 0."""


def number(value: float, decimals: int = 3, sign: str = "") -> str:
    """Return a number with so many decimals, and more where it is small: `0.133`, `0.00042`.

    Args:
        value: any number.
        decimals: at least.
        sign: "+" to write the sign of positive numbers too.
    """
    if abs(value) < NOISE:
        return "0"
    places = max(decimals, 1 - math.floor(math.log10(abs(value)))) if math.isfinite(value) else decimals
    return f"{value:{sign}.{places}f}".replace("-", "\N{MINUS SIGN}")


def points(fraction: float) -> str:
    """Return a fraction in percent, without the sign: 0.1984 is `19.8`, 0.0004 is `0.04`."""
    shown = fraction * 100
    # Exactly 0 and 100% are written without decimals; what only rounds to them keeps some.
    if shown == round(shown) and (shown == 0 or abs(shown) >= 100):
        text = f"{shown:.0f}"
    elif abs(shown) < 0.005:
        text = number(shown)
    elif abs(shown) < 0.0995 or 99.95 <= shown < 100:
        text = f"{shown:.2f}"
    else:
        text = f"{shown:.1f}"
    return text.replace("-", "\N{MINUS SIGN}")


def border_in_points(border: float) -> str:
    """Return a border of a difference of fractions in percentage points: `5 points`, `1 point`, `2.5 points`."""
    shown = f"{border * 100:.3g}"
    return f"{shown} {POINTS.removesuffix('s') if shown in ('1', '-1') else POINTS}"


def share_range(low: float, high: float) -> str:
    """Return an interval on fractions as percentages: `15.1 to 26.3%`."""
    texts = ("<0.01" if 0 < limit < 5e-5 else points(limit) for limit in (low, high))
    return f"{' to '.join(texts)}%"
