"""Estimates as a notebook shows them: pieces of HTML that load nothing."""

from html import escape

from astray.stats.digits import POINTS, number, points, share_range
from astray.stats.intervals import Interval

MISSING = "–"


def estimate_html(value: float | None, interval: Interval | None, *told: str) -> str:
    """Return a line with a fraction, its interval, and what else is told of it: counts, the unit of inference."""
    parts = (
        [f"{interval.level * 100:.3g}% interval {share_range(interval.low, interval.high)} ({interval.method})"]
        if interval
        else []
    )
    return f"<p><strong>{estimate_text(value)}</strong>: {escape('; '.join([*parts, *filter(None, told)]))}</p>"


def estimate_text(value: float | None, quantity: str = "") -> str:
    """Return a fraction as a percentage, or what has a unit as a number with it; a dash for None."""
    if value is None:
        return MISSING
    if quantity == POINTS:
        return f"{points(value)} {POINTS}"
    return f"{number(value)} {quantity}" if quantity else f"{points(value)}%"
