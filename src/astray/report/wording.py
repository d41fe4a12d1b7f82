"""Text of the numbers on a page: percentages, intervals, p-values, counts.

Left to others: what the numbers are. Nothing is computed here, a value that is missing is written as a dash.
"""

import textwrap

from astray.engine.summary import IntervalRow
from astray.stats.digits import POINTS, number, points, share_range
from astray.stats.intervals import Interval
from astray.stats.noninferiority import Bounds

MISSING = "–"
"""Text of a value that is missing."""


def percent(value: float | None) -> str:
    """Return a fraction as a percentage: 0.1984 is `19.8%`, 0.0004 is `0.04%`, None is a dash."""
    return MISSING if value is None else points(value) + "%"


def interval_text(interval: IntervalRow | Interval | None) -> str:
    """Return an interval on fractions as percentages: `15.1 to 26.3%`."""
    return MISSING if interval is None else share_range(interval.low, interval.high)


def in_points(value: float | None) -> str:
    """Return a difference of fractions in percentage points: `−1.7 points`; a dash when there is none."""
    return MISSING if value is None else f"{points(value)} {POINTS}"


def points_range(limits: IntervalRow | Interval | Bounds | None) -> str:
    """Return an interval or bounds on differences of fractions: `−1.7 to 1.3 points`."""
    return MISSING if limits is None else share_range(limits.low, limits.high).replace("%", f" {POINTS}")


def amount(value: float | None, quantity: str = "") -> str:
    """Return a fraction as a percentage, or what has a unit as a number with it: `0.26 nats a token`."""
    if quantity == POINTS:
        return in_points(value)
    return percent(value) if not quantity or value is None else f"{number(value)} {quantity}"


def range_of(interval: IntervalRow | None, quantity: str = "") -> str:
    """Return an interval in the same form, without the unit: `0.16 to 0.36`."""
    if quantity == POINTS:
        return points_range(interval).removesuffix(f" {POINTS}")
    if not quantity or interval is None:
        return interval_text(interval)
    return f"{number(interval.low)} to {number(interval.high)}"


def tick(value: float, quantity: str = "") -> str:
    """Return a value at the end of a scale in short: a fraction as `50%`, `0.5%`, else the number."""
    return (f"{value:.4g}" if quantity else f"{value * 100:.4g}%").replace("-", "\N{MINUS SIGN}")


def p_value(value: float | None) -> str:
    """Return a p-value with its relation sign: `= 0.034` or `< 0.001`; a dash when there is none."""
    if value is None:
        return MISSING
    if value < 0.001:
        return "< 0.001"
    return f"= {value:.3f}" if value < 0.1 else f"= {value:.2f}"


def decimal(value: float | None) -> str:
    """Return a number with two decimals, a small one with two digits: `0.87`, `0.0031`; a dash when there is none."""
    return MISSING if value is None else number(value, 2)


def signed(value: float) -> str:
    """Return a change with its sign and three decimals, a small one with two digits: `+0.133`, `−0.00042`."""
    return number(value, 3, "+")


def count(value: int) -> str:
    """Return a whole number with separated thousands: `12,400`."""
    return f"{value:,}"


def wrapped(lead: str, text: str, width: int = 80) -> list[str]:
    """Return a text in lines for a terminal, the first one behind a lead, the others below its end.

    Names, paths and options stay whole, to be copied: one that is longer than the line stands out of it.
    """
    wrapper = textwrap.TextWrapper(
        width,
        initial_indent=lead,
        subsequent_indent=" " * len(lead),
        break_on_hyphens=False,
        break_long_words=False,
    )
    return wrapper.wrap(text) or [lead]


def level(interval: IntervalRow) -> str:
    """Return the confidence level as a percentage: `95%`."""
    return f"{interval.level * 100:.3g}%"
