"""Positions of the marks in the small interval graphic beside a claim, which the template draws.

Left to others: whether the claim held, and its numbers (astray.studies).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from astray.engine.summary import ClaimRow


@dataclass(frozen=True)
class Strip:
    """Positions of the marks of a claim's small interval graphic, in percent of its width.

    Attributes:
        low, high: ends of the interval.
        estimate, control, zero: the marks; None where there is nothing to mark.
        left, right: values at the two ends of the scale, as fractions.
    """

    low: float
    high: float
    estimate: float | None
    control: float | None
    zero: float
    left: float
    right: float


def interval_strips(claims: Sequence[ClaimRow]) -> dict[str, Strip | None]:
    """Return the marks of claims that stand under one heading, by id: those in one unit share a scale."""
    units = {claim.quantity: [other for other in claims if other.quantity == claim.quantity] for claim in claims}
    return {claim.id: interval_strip(claim, units[claim.quantity]) for claim in claims}


def interval_strip(claim: ClaimRow, beside: Sequence[ClaimRow] = ()) -> Strip | None:
    """Return the positions of a claim's marks on a scale that contains zero; None when there is no interval.

    Args:
        claim: it has the marks.
        beside: claims whose marks the scale has to hold as well.
    """
    if claim.interval is None:
        return None
    values = [0.0]
    for shown in (claim, *beside):
        if shown.interval:
            marks = (shown.interval.low, shown.interval.high, shown.estimate, shown.control_estimate)
            values += [value for value in marks if value is not None]
    # Subtracted from 0.0: a plain minus sign would turn 0.0 into -0.0, which is written as "-0%".
    left, right = 0.0 - _round_up(-min(values)), _round_up(max(values))
    # An interval from 0 to 0 has no width; any other number keeps the division finite.
    width = (right - left) or 1.0

    def position(fraction: float) -> float:
        return round(100 * (fraction - left) / width, 2)

    return Strip(
        low=position(claim.interval.low),
        high=position(claim.interval.high),
        estimate=None if claim.estimate is None else position(claim.estimate),
        control=None if claim.control_estimate is None else position(claim.control_estimate),
        zero=position(0.0),
        left=left,
        right=right,
    )


def _round_up(value: float) -> float:
    """Return the next end of a scale: 0 for what is not positive."""
    if value <= 0:
        return 0.0
    ends = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
    return next((end for end in ends if value <= end), value)
