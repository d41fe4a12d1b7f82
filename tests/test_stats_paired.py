"""Paired differences: against the unpaired formula where the answers do not correlate, against exact values, and by
coverage."""

import numpy as np
import pytest
from scipy.stats import binomtest
from statsmodels.stats.proportion import confint_proportions_2indep

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.paired import paired_rates


def test_without_correlation_it_is_newcombes_interval_for_independent_samples():
    # 12 * 24 == 18 * 16: phi is 0
    found = paired_rates(12, 18, 16, 24)
    low, high = confint_proportions_2indep(30, 70, 28, 70, method="newcomb", compare="diff")
    assert found.interval.low == pytest.approx(low)
    assert found.interval.high == pytest.approx(high)


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


@pytest.mark.parametrize("shares", [(0.4, 0.2, 0.1, 0.3), (0.0, 0.1, 0.0, 0.9), (0.05, 0.3, 0.05, 0.6)])
def test_the_interval_holds_the_true_difference_about_as_often_as_it_says(shares):
    random = np.random.default_rng(0)
    true = shares[1] - shares[2]
    intervals = [paired_rates(*draw).interval for draw in random.multinomial(60, shares, size=600).tolist()]
    held = [interval.low <= true <= interval.high for interval in intervals]
    assert 0.925 < np.mean(held) < 0.99


def test_what_are_no_pairs_is_refused():
    with pytest.raises(EmptyDataError, match="at least one pair"):
        paired_rates(0, 0, 0, 0)
    with pytest.raises(ConfigurationError, match="no counts of pairs"):
        paired_rates(1, -1, 0, 0)
