"""Text of a number that keeps two of its digits, however small it is: a reading of 0.0004 is not 0.000."""

import math

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
