"""What cannot be counted is refused, or is not estimable and says why; a line for each input."""

import inspect
import math

import numpy as np
import pytest

from astray.errors import AstrayError, ConfigurationError, EmptyDataError
from astray.stats import (
    Rate,
    corrected_rate,
    difference_of_arms,
    difference_of_models,
    difference_of_seeds,
    exact_difference,
    mean_over_runs,
    over_questions,
    over_runs,
    paired_difference,
    wilson,
)
from astray.stats.detection import average_precision
from astray.stats.intervals import check_counts
from astray.stats.ratio import reduction_of_arms
from astray.stats.stratified import Stratum, stratified_share
from astray.stats.trend import trend_of_arms


def arm(*counts: tuple[int, int]) -> Rate:
    return Rate(0, 0, None, None, "answer", (), {}, {str(seed): of for seed, of in enumerate(counts)})


NAN = math.nan
counted = inspect.unwrap(
    check_counts
)  # every function of counts calls it; in tests alone the type checker would be first
REFUSED = {
    "NaN hits": (lambda: counted([(NAN, 10), (1, 10)]), ConfigurationError, "no counts"),
    "NaN answers": (lambda: counted([(1, NAN), (1, 10)]), ConfigurationError, "no counts"),
    "infinite": (lambda: counted([(1, math.inf)]), ConfigurationError, "no counts"),
    "a share for a count": (lambda: counted([(0.5, 10)]), ConfigurationError, "no counts"),
    "negative": (lambda: over_runs([(-1, 10), (1, 10)]), ConfigurationError, "no rate"),
    "more hits than answers": (
        lambda: difference_of_seeds([(11, 10), (1, 10)], [(0, 10)]),
        ConfigurationError,
        "no rate",
    ),
    "more hits in a pair": (
        lambda: paired_difference([((1, 10), (11, 10)), ((1, 10), (1, 10))]),
        ConfigurationError,
        "no rate",
    ),
    "no answers": (lambda: exact_difference(0, 0, 1, 2), ConfigurationError, "no rate"),
    "one run": (lambda: over_runs([(1, 10)]), ConfigurationError, "at least two"),
    "one question": (lambda: over_questions([(1, 10)]), ConfigurationError, "at least two"),
    "no common question": (
        lambda: difference_of_models({"a": (1, 2)}, {"b": (1, 2)}),
        EmptyDataError,
        "no question to which both",
    ),
    "common but not judged": (
        lambda: difference_of_models({"a": (1, 2)}, {"a": (0, 0)}),
        EmptyDataError,
        "no question to which both",
    ),
    "a silent arm": (
        lambda: difference_of_arms(arm((0, 0), (0, 0)), arm((1, 2), (0, 2))),
        EmptyDataError,
        "one side has none",
    ),
    "NaN value": (lambda: mean_over_runs([NAN, 0.5]), ConfigurationError, "not all numbers"),
    "no value": (lambda: mean_over_runs([]), EmptyDataError, "at least one"),
    "labels of one class": (lambda: corrected_rate((1, 10), (0, 0), (5, 5)), ConfigurationError, "no rate"),
    "labels of the other class alone": (lambda: corrected_rate((1, 10), (5, 5), (0, 0)), ConfigurationError, "no rate"),
    "weights below 0": (
        lambda: average_precision(np.array([0.2, 0.1]), np.array([True, False]), np.array([1.0, -1.0])),
        ConfigurationError,
        "not all above 0",
    ),
    "NaN weights": (
        lambda: average_precision(np.array([0.2, 0.1]), np.array([True, False]), np.array([NAN, 1.0])),
        ConfigurationError,
        "not all above 0",
    ),
    "more labels than rows": (lambda: stratified_share([Stratum(10, 11, 1)]), ConfigurationError, "cannot have"),
    "parts that do not sum to anything": (
        lambda: stratified_share([Stratum(0, 0, 0)]),
        ConfigurationError,
        "cannot have",
    ),
    "equal scores of a trend": (
        lambda: trend_of_arms([arm((1, 4), (2, 4))] * 2, [1.0, 1.0]),
        ConfigurationError,
        "no trend",
    ),
    "a level in percent": (lambda: over_runs([(1, 10), (2, 10)], level=95.0), ConfigurationError, r"0\.95"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_a_reason(name: str) -> None:
    call, error, why = REFUSED[name]
    assert issubclass(error, AstrayError)
    with pytest.raises(error, match=why):
        call()


@pytest.mark.parametrize("before", [arm((0, 10), (0, 10)), arm((0, 0)), arm()])
def test_nothing_to_remove_is_no_estimate(before: Rate) -> None:
    assert reduction_of_arms(before, arm((0, 10), (0, 10))) is None


@pytest.mark.parametrize("counts", [(0, 4), (2, 4), (4, 4), (0, 100_000), (99_999, 100_000), (50_000, 100_000)])
@pytest.mark.parametrize("runs", [2, 3, 8])
def test_identical_runs_have_a_width_and_limits_that_are_rates(counts: tuple[int, int], runs: int) -> None:
    interval, difference = over_runs([counts] * runs), paired_difference([(counts, counts)] * runs)
    share = counts[0] / counts[1]
    assert 0 <= interval.low <= share <= interval.high <= 1
    assert interval.width >= wilson(counts[0] * runs, counts[1] * runs).width * 0.9
    assert difference.interval.low < 0 < difference.interval.high
    assert np.isfinite([difference.p_value, *(interval.at(0.99).width for _ in [0] if interval.at)]).all()


def test_a_corrected_rate_is_never_narrower_than_the_one_it_corrects() -> None:
    """Three runs of 480 answers with 20, 60 and 130, and a perfect judge."""
    runs = [(20, 480), (60, 480), (130, 480)]
    for sensitivity, specificity in (((100, 100), (200, 200)), ((90, 100), (180, 200)), ((100, 100), (160, 200))):
        estimate, interval = corrected_rate((210, 1440), sensitivity, specificity, clusters=runs)
        assert estimate is not None
        assert interval.low <= estimate <= interval.high
        assert interval.width >= over_runs(runs).width - 1e-12
