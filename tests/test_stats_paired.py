"""Paired differences: against the score test by numerical likelihood, against exact values, and by coverage over all
tables."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import gammaln, xlogy
from scipy.stats import binomtest
from statsmodels.stats.proportion import confint_proportions_2indep

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.paired import paired_limits, paired_rates


def score(first: int, second: int, n: int, difference: float) -> tuple[float, float]:
    """Return the score statistic of a difference, and what skewness adds to its critical value at 95%, from the largest
    likelihood found by a search."""

    def surprise(fewer: float) -> float:
        rest = 1 - 2 * fewer - difference
        return -float(xlogy(first, fewer + difference) + xlogy(second, fewer) + xlogy(n - first - second, rest))

    lowest, highest = max(0.0, -difference), (1 - difference) / 2
    fewer = minimize_scalar(surprise, bounds=(lowest, highest), options={"xatol": 1e-13}).x
    shares, values = np.array([fewer + difference, fewer, 1 - 2 * fewer - difference]), np.array([1.0, -1.0, 0.0])
    error = np.sqrt(shares @ (values - difference) ** 2)
    skewness = shares @ (values - difference) ** 3 / error**3 / np.sqrt(n)
    return (((first - second) / n - difference) * np.sqrt(n - 1) / error, skewness * (1.96**2 - 1) / 6)


@pytest.mark.parametrize("counts", [(12, 18, 16, 24), (5, 9, 1, 20), (0, 5, 0, 107), (0, 3, 2, 19), (1, 10, 40, 9)])
def test_at_its_limits_the_score_test_rejects(counts):
    _, first, second, _ = counts
    interval = paired_rates(*counts).interval
    for limit, sign in ((interval.low, 1), (interval.high, -1)):
        statistic, skewness = score(first, second, sum(counts), limit)
        # 1e-3: the search for the largest likelihood, and 1.96 for the quantile.
        assert sign * statistic == pytest.approx(1.96 + max(0.0, sign * skewness), abs=1e-3)


def test_with_much_data_it_is_walds_interval():
    found = paired_rates(20_000, 30_000, 20_000, 30_000)
    half = 1.96 * np.sqrt((0.5 - 0.1**2) / 100_000)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.1 - half, 0.1 + half), abs=2e-6)


def test_pairs_that_agree_narrow_the_interval_and_pairs_that_disagree_widen_it():
    none = confint_proportions_2indep(30, 100, 20, 100, method="newcomb", compare="diff")
    agreeing = paired_rates(20, 10, 0, 70).interval
    disagreeing = paired_rates(0, 30, 20, 50).interval
    assert agreeing.width < none[1] - none[0] < disagreeing.width


def test_the_p_value_is_mcnemars_exact_one():
    assert paired_rates(5, 9, 1, 20).p_value == pytest.approx(binomtest(9, 10).pvalue)
    assert paired_rates(5, 0, 0, 20).p_value == 1.0


@pytest.mark.parametrize("counts", [(10, 0, 0, 0), (0, 10, 0, 0), (0, 0, 0, 10), (0, 0, 3, 0)])
def test_at_the_edge_the_interval_has_a_width_and_stays_a_difference_of_rates(counts):
    found = paired_rates(*counts)
    assert -1 <= found.interval.low <= found.estimate <= found.interval.high <= 1
    assert found.interval.width > 0.1


@pytest.mark.parametrize("n", [2, 3, 4, 6, 8, 12, 24, 60])
def test_at_no_rates_is_a_limit_on_the_wrong_side_in_more_than_5_percent(n):
    """Of all tables; Newcombe's interval for pairs and Tango's as it stands are wrong in up to 16% (benchmarks/pairs.py)."""
    cells = [(one, other) for one in range(n + 1) for other in range(n + 1 - one)]
    first, second = np.array(cells, dtype=float).T
    low, high = paired_limits(first, second, n)(0.95)
    ways = gammaln(n + 1) - gammaln(first + 1) - gammaln(second + 1) - gammaln(n - first - second + 1)
    rates = [0.0, 0.2 / n, 1 / n, 3 / n, 5 / n, 0.3, 0.5, 0.7, 0.9, 0.95, 1 - 0.5 / n, 1 - 0.1 / n]
    worst, checked = 0.0, 0
    for one, other in itertools.product(rates, rates):
        if one + other <= 1:
            rest = max(0.0, 1 - one - other)  # rounding may leave a small negative number
            chance = np.exp(ways + xlogy(first, one) + xlogy(second, other) + xlogy(n - first - second, rest))
            assert chance.sum() == pytest.approx(1)
            wrong = (low > one - other + 1e-9, high < one - other - 1e-9)
            worst, checked = max(worst, *(chance[which].sum() for which in wrong)), checked + 1
    assert checked > 30
    assert worst <= 0.05


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 1), (9, 8), (24, 0)])
def test_the_surer_the_wider(first, second):
    interval = paired_rates(0, first, second, 24 - first - second).interval
    assert interval.at is not None
    limits = [interval.at(level) for level in (0.1, 0.5, 0.8, 0.95, 0.99, 0.9999, 1 - 1e-6)]
    for less, more in itertools.pairwise(limits):
        assert more.low <= less.low
        assert more.high >= less.high


def test_what_are_no_pairs_is_refused():
    with pytest.raises(EmptyDataError, match="at least one pair"):
        paired_rates(0, 0, 0, 0)
    with pytest.raises(ConfigurationError, match="no counts of pairs"):
        paired_rates(1, -1, 0, 0)
