"""Difference of two rates measured on the same units: each unit gives one yes or no under both conditions.

Limits are those of Tango's score test (1998, Statistics in Medicine 17:891): the variance is the largest-likelihood one
at the difference that is tested, and not the one that is seen, which is 0 where nothing is. Two deviations keep wrong
verdicts at some 5% at every rate (docs/counting.md): the variance is that of n - 1, and where the statistic is skewed towards
a verdict, its critical value is raised (Cornish and Fisher), never lowered. The p-value is of McNemar's exact test.
Left to others: pairs of whole runs, and questions that were asked several times (compare.py).
"""

import numpy as np
from jaxtyping import Float, Real

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.difference import Difference
from astray.stats.intervals import Limits, check_level, one_study

METHOD = "score test of pairs (Tango), corrected for skewness"
_HALVINGS = 48
"""Of a range of at most 2: limits are exact to 1e-14."""


def paired_rates(
    both: int, first_only: int, second_only: int, neither: int, *, unit: str = "pair of samples", level: float = 0.95
) -> Difference:
    """Return the rate of the first condition minus that of the second, with its interval and p-value.

    Args:
        both: units with a yes under both conditions.
        first_only: units with a yes under the first only.
        second_only: units with a yes under the second only.
        neither: units with a no under both.
        unit: what a unit is, in words for a page.
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
    differing = first_only + second_only
    # McNemar's exact test: only units that differ between the conditions carry information.
    p_value = float(binomtest(first_only, differing).pvalue) if differing else 1.0
    limits = paired_limits(np.array([float(first_only)]), np.array([float(second_only)]), n)
    return Difference((first_only - second_only) / n, one_study(limits, METHOD, level), n, unit, p_value)


def paired_limits(
    first_only: Real[np.ndarray, " studies"], second_only: Real[np.ndarray, " studies"], n: int
) -> Limits:
    """Return the limits of many studies at once, by level.

    Args:
        first_only: units of each study with a yes under the first condition only; fractions are expected numbers.
        second_only: the same under the second only.
        n: units of a study.
    """
    estimate = (first_only - second_only) / n

    def limits(level: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        from scipy.special import ndtri

        z = -float(ndtri((1 - level) / 2))

        def outermost(sign: int) -> Float[np.ndarray, " studies"]:
            """Return the difference that is farthest below (1) or above (-1) the estimate and not rejected."""
            inside, outside = estimate, np.full_like(estimate, -sign)
            for _ in range(_HALVINGS):
                middle = (inside + outside) / 2
                variance, third = _moments(first_only, second_only, n, middle)
                skewness = np.maximum(sign * third / variance, 0.0) / 6 / np.sqrt(n)
                least = z * np.sqrt(variance) + skewness * max(z**2 - 1, 0.0)
                rejected = sign * (estimate - middle) * np.sqrt(n - 1) > least
                inside, outside = np.where(rejected, inside, middle), np.where(rejected, middle, outside)
            return outside

        return outermost(1), outermost(-1)

    return limits


def _moments(
    first_only: Real[np.ndarray, " studies"],
    second_only: Real[np.ndarray, " studies"],
    n: int,
    difference: Float[np.ndarray, " studies"],
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return variance and third central moment of one unit's difference, at the shares that are likeliest if the
    difference of rates is `difference` (Tango's equation for q21)."""
    linear = (2 * n - first_only + second_only) * difference - first_only - second_only
    rest = second_only * difference * (1 - difference)
    fewer = np.maximum((np.sqrt(np.maximum(linear**2 + 8 * n * rest, 0.0)) - linear) / (4 * n), 0.0)
    more = fewer + difference
    variance = np.maximum(fewer + more - difference**2, 1e-12)
    third = more * (1 - difference) ** 3 - fewer * (1 + difference) ** 3 - (1 - more - fewer) * difference**3
    return variance, third
