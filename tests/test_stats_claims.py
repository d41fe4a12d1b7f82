"""Claims and their correction for being many."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from statsmodels.stats.multitest import multipletests

from astray.errors import ConfigurationError
from astray.stats import Decision, Interval, benjamini_hochberg, decide, holm


def interval(low: float, high: float) -> Interval:
    return Interval(low, high, 0.95, "Wilson")


@pytest.mark.parametrize(
    ("low", "high", "region", "decision"),
    [
        (0.12, 0.30, {"at_least": 0.10}, Decision.HELD),
        (0.10, 0.30, {"at_least": 0.10}, Decision.HELD),
        (0.05, 0.30, {"at_least": 0.10}, Decision.UNDECIDED),
        (0.01, 0.09, {"at_least": 0.10}, Decision.NOT_HELD),
        (0.00, 0.01, {"at_most": 0.01}, Decision.HELD),
        (0.00, 0.02, {"at_most": 0.01}, Decision.UNDECIDED),
        (0.02, 0.03, {"at_most": 0.01}, Decision.NOT_HELD),
        (0.20, 0.30, {"between": (0.1, 0.4)}, Decision.HELD),
        (0.05, 0.30, {"between": (0.1, 0.4)}, Decision.UNDECIDED),
        (0.05, 0.60, {"between": (0.1, 0.4)}, Decision.UNDECIDED),
        (0.50, 0.60, {"between": (0.1, 0.4)}, Decision.NOT_HELD),
        (0.00, 0.05, {"between": (0.1, 0.4)}, Decision.NOT_HELD),
    ],
)
def test_the_interval_decides(low: float, high: float, region: dict, decision: Decision):
    assert decide((low + high) / 2, interval(low, high), **region) is decision


def test_nothing_estimated_is_undecided():
    assert decide(None, None, at_least=0.1) is Decision.UNDECIDED
    assert decide(0.3, None, at_least=0.1) is Decision.UNDECIDED


@pytest.mark.parametrize("region", [{}, {"at_least": 0.1, "at_most": 0.2}, {"between": (0.4, 0.1)}])
def test_a_claim_has_one_region_that_can_be(region: dict):
    with pytest.raises(ConfigurationError):
        decide(0.2, interval(0.1, 0.3), **region)


def test_holm_is_the_step_down_bonferroni():
    """Written out: sorted p-values times the number still to be tested, made to rise, at most 1."""
    p_values = {"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}
    assert holm(p_values) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})


def test_holm_is_that_of_statsmodels():
    p_values = {str(number): float(value) for number, value in enumerate(np.random.default_rng(0).beta(0.3, 2, 40))}
    expected = multipletests([*p_values.values()], method="holm")[1]
    assert list(holm(p_values).values()) == expected.tolist()


def test_benjamini_hochberg_is_scipys():
    p_values = {str(number): value for number, value in enumerate([0.001, 0.2, 0.03, 0.04, 0.8, 0.01])}
    assert list(benjamini_hochberg(p_values).values()) == pytest.approx(
        list(false_discovery_control(list(p_values.values())))
    )


def test_a_claim_without_p_value_still_counts_among_the_declared():
    assert holm({"a": 0.01, "b": None}) == {"a": pytest.approx(0.02), "b": None}


def test_no_claims_give_no_corrections():
    assert holm({}) == {}


def test_an_impossible_p_value_is_refused():
    with pytest.raises(ConfigurationError, match="'a'"):
        holm({"a": 1.2})
    with pytest.raises(ConfigurationError, match="'a'"):
        benjamini_hochberg({"a": float("nan")})
