"""Curves of a page over one axis, such as the factor on an adapter or the steps of a training: places of marks and ticks.

They are drawn by `templates/curves.html`.
"""

from dataclasses import dataclass

from astray.report.wording import percent
from astray.stats.digits import number

POINTS, NATS = "rate", "nats a token"
"""Scales of a figure: shares of answers, from 0 to 1, or changes of the meter."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 250, 56, 14, 12, 30
"""Of a figure, in its own units."""


@dataclass(frozen=True)
class Mark:
    """Value of one model of a dial, with the limits of its interval over questions where it has one."""

    factor: float
    model: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class MarkedCurve:
    """One line: what is measured, and its value at each factor."""

    name: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class CurvePanel:
    """Figure of curves with one scale: shares of answers, or changes in nats a token."""

    scale: str
    curves: tuple[MarkedCurve, ...]

    @property
    def ends(self) -> tuple[float, float]:
        """Return the ends of the vertical scale."""
        if self.scale == POINTS:
            return 0.0, 1.0
        marks = [mark for curve in self.curves for mark in curve.marks]
        present = [0.0, *(value for mark in marks for value in (mark.value, mark.low, mark.high) if value is not None)]
        margin = 0.05 * (max(present) - min(present)) or 0.1  # equal values would leave a scale without height
        return min(present) - margin, max(present) + margin

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Return places and texts of the vertical scale."""
        low, high = self.ends
        values = [low + (high - low) * share for share in (0, 0.25, 0.5, 0.75, 1)]
        return [(self.y(value), percent(value) if self.scale == POINTS else number(value, 2, "+")) for value in values]

    @property
    def factors(self) -> list[float]:
        """Return the factors."""
        return sorted({mark.factor for curve in self.curves for mark in curve.marks})

    def x(self, factor: float) -> float:
        """Return the place of a factor."""
        low, high = self.factors[0], self.factors[-1]
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (factor - low) / (high - low), 1)

    def y(self, value: float) -> float:
        """Return the place of a value."""
        low, high = self.ends
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)
