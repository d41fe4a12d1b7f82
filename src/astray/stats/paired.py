"""Difference of two rates measured on the same units: each unit gives one yes or no under both conditions.

Newcombe's hybrid score interval for paired proportions (1998, Statistics in Medicine 17:2635, method 10) with McNemar's
exact test. Left to others: pairs of whole runs (compare.py).
"""

import math

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.compare import Difference
from astray.stats.intervals import Interval, check_level, wilson


def paired_rates(both: int, first_only: int, second_only: int, neither: int, *, level: float = 0.95) -> Difference:
    """Return the rate of the first condition minus that of the second, with its interval and p-value.

    Args:
        both: units with a yes under both conditions.
        first_only: units with a yes under the first only.
        second_only: units with a yes under the second only.
        neither: units with a no under both.
        level: nominal coverage.

    Raises:
        EmptyDataError: no pair.
        ConfigurationError: a negative count.
    """
    from scipy.stats import binomtest

    check_level(level)
    counts = (both, first_only, second_only, neither)
    if min(counts) < 0:
        raise ConfigurationError(f"{counts} are no counts of pairs: none may be below 0.")
    n = sum(counts)
    if not n:
        raise EmptyDataError("A paired difference needs at least one pair.")
    first, second = (both + first_only) / n, (both + second_only) / n
    phi, estimate = _phi(both, first_only, second_only, neither), first - second

    def half(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a**2 - 2 * phi * a * b + b**2))  # rounding may leave a small negative number

    def at(level: float) -> Interval:
        one, two = wilson(both + first_only, n, level=level), wilson(both + second_only, n, level=level)
        low = estimate - half(first - one.low, two.high - second)
        high = estimate + half(one.high - first, second - two.low)
        return Interval(max(-1.0, low), min(1.0, high), level, "Newcombe, paired", at)

    differing = first_only + second_only
    # McNemar's exact test: only units that differ between the conditions carry information.
    p_value = float(binomtest(first_only, differing).pvalue) if differing else 1.0
    return Difference(estimate, at(level), n, "pair of samples", p_value)


def _phi(both: int, first_only: int, second_only: int, neither: int) -> float:
    """Return the correlation of the two answers, shrunk by Newcombe's correction where positive; 0 where undefined."""
    product = (both + first_only) * (second_only + neither) * (both + second_only) * (first_only + neither)
    if not product:
        return 0.0
    covariance = float(both * neither - first_only * second_only)
    # Newcombe's continuity correction, for positive correlations only (method 10 of 1998).
    if covariance > 0:
        covariance = max(covariance - (both + first_only + second_only + neither) / 2, 0.0)
    return covariance / math.sqrt(product)
