"""Decide claims by their confidence intervals, and correct p-values for the number of claims.

A claim states where an effect should lie; its confidence interval decides it. Pre-registered claims are corrected by
Holm's method, screens over many features by Benjamini and Hochberg's.

Left to others: the intervals (intervals.py, compare.py) and the wording of claims.
"""

import math
from collections.abc import Callable, Mapping
from enum import StrEnum

import numpy as np
from jaxtyping import Float

from astray.errors import ConfigurationError
from astray.stats.intervals import Interval


class Decision(StrEnum):
    """Outcome of a claim."""

    HELD = "held"
    """Whole interval within the claimed region."""
    NOT_HELD = "not held"
    """Whole interval outside the claimed region."""
    UNDECIDED = "undecided"
    """Interval across a border of the region, or no interval: the data cannot tell."""


def decide(
    estimate: float | None,
    interval: Interval | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    between: tuple[float, float] | None = None,
) -> Decision:
    """Decide a claim by its interval. Exactly one region is given; its borders belong to it.

    Args:
        estimate: the point estimate; None when nothing could be estimated.
        interval: its confidence interval; None when there is none.
        at_least: the effect is claimed to be this large or larger.
        at_most: the effect is claimed to be this large or smaller.
        between: the effect is claimed to lie between these two.

    Raises:
        ConfigurationError: no region or several, or one whose borders are the wrong way round.

    Example:
        `decide(0.20, Interval(0.15, 0.26, 0.95, "Wilson"), at_least=0.10)` is `Decision.HELD`.
    """
    regions = [
        name
        for name, value in (("at_least", at_least), ("at_most", at_most), ("between", between))
        if value is not None
    ]
    if len(regions) != 1:
        raise ConfigurationError(
            f"A claim has exactly one region, given were {regions or 'none'}: write one of at_least=, at_most=, between=."
        )
    low, high = between if between is not None else (at_least, at_most)
    if low is not None and high is not None and low > high:
        raise ConfigurationError(f"No effect lies between {low} and {high}: write the smaller one first.")
    if estimate is None or interval is None:
        return Decision.UNDECIDED
    if (low is None or interval.low >= low) and (high is None or interval.high <= high):
        return Decision.HELD
    if (low is not None and interval.high < low) or (high is not None and interval.low > high):
        return Decision.NOT_HELD
    return Decision.UNDECIDED


def decided_p(interval: Interval, region: tuple[float | None, float | None]) -> float:
    """Return the p-value of a claimed region: the smallest `1 - level` at which the interval still decides the claim.

    It is at or below 0.05 exactly where the 95% interval decides, so a verdict after Holm's correction follows from
    corrected p-values.

    Args:
        interval: one that has `at`.
        region: lower and upper border of the claimed region; None where there is none.
    """
    low, high = region

    def decided(p: float) -> bool:
        assert interval.at is not None
        limits = interval.at(1 - p)
        within = (low is None or limits.low >= low) and (high is None or limits.high <= high)
        return within or (low is not None and limits.high < low) or (high is not None and limits.low > high)

    # From 1e-6 on, below which the limits of few runs are all of [0, 1] or a p-value means nothing.
    smallest, largest = math.log(1e-6), math.log(0.9999)
    if decided(math.exp(smallest)):
        return 1e-6
    if not decided(math.exp(largest)):
        return 1.0
    for _ in range(16):
        middle = (smallest + largest) / 2
        smallest, largest = (smallest, middle) if decided(math.exp(middle)) else (middle, largest)
    return math.exp(largest)


def holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Apply Holm's correction to the p-values of all pre-registered claims.

    A claim without a p-value stays without one, but counts among the pre-registered: leaving it out would make the
    others look better.

    Args:
        p_values: claim -> p-value.

    Raises:
        ConfigurationError: a p-value outside [0, 1].
    """
    return _corrected(p_values, _holm)


def benjamini_hochberg(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Apply Benjamini and Hochberg's false-discovery correction, for screens over features; arguments as for `holm`."""
    from statsmodels.stats.multitest import fdrcorrection

    return _corrected(p_values, lambda ordinary: fdrcorrection(ordinary)[1])


def _holm(p_values: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """Correct p-values; statsmodels' `multipletests`, which gives the same, looks for garbage in the whole process."""
    order = np.argsort(p_values)
    corrected = np.empty_like(p_values)
    corrected[order] = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    return np.minimum(corrected, 1.0)


def _corrected(
    p_values: Mapping[str, float | None],
    method: Callable[[Float[np.ndarray, " tests"]], Float[np.ndarray, " tests"]],
) -> dict[str, float | None]:
    for name, value in p_values.items():
        if value is not None and not 0 <= value <= 1:
            raise ConfigurationError(
                f"{name!r} has the p-value {value}; a p-value lies between 0 and 1, or is None when nothing was tested."
            )
    if not p_values:
        return {}
    # A claim without a p-value enters as 1: it cannot be significant, but it counts towards the number of tests.
    corrected = method(np.array([1.0 if value is None else value for value in p_values.values()]))
    return {
        name: None if value is None else float(new)
        for (name, value), new in zip(p_values.items(), corrected, strict=True)
    }
