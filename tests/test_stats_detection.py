"""Areas under curves against their definitions and published values; intervals that see clusters and refuse too few."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import t

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteError
from astray.stats.detection import (
    FEWEST,
    auroc,
    auroc_estimate,
    average_precision,
    average_precision_estimate,
    correlation_estimate,
    mean_estimate,
    precision_recall,
)
from coverage_areas import area_cases, correlation_cases, precision_cases

SCORES = np.array([0.1, 0.4, 0.35, 0.8])
POSITIVE = np.array([False, False, True, True])


def test_values_are_those_of_scikit_learns_documentation():
    assert auroc(SCORES, POSITIVE) == 0.75
    assert average_precision(SCORES, POSITIVE) == pytest.approx(0.8333333333)


def test_areas_follow_their_definitions_also_with_ties():
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.3
    pairs = [(high > low) + 0.5 * (high == low) for high in scores[positive] for low in scores[~positive]]
    assert auroc(scores, positive) == pytest.approx(np.mean(pairs))
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        found = scores >= threshold
        area += (positive[found].sum() / positive.sum() - recall) * positive[found].mean()
        recall = positive[found].sum() / positive.sum()
    assert average_precision(scores, positive) == pytest.approx(area)


def test_a_score_that_says_nothing_has_the_average_precision_of_chance():
    positive = np.arange(20) < 5
    assert average_precision(np.zeros(20), positive) == 0.25
    assert auroc(np.zeros(20), positive) == 0.5


def test_areas_are_not_defined_with_one_kind_of_rows():
    none = np.zeros(4, dtype=bool)
    assert np.isnan(auroc(SCORES, none))
    assert np.isnan(auroc(SCORES, ~none))
    assert np.isnan(average_precision(SCORES, none))
    assert [len(part) for part in precision_recall(SCORES, none)] == [0, 0]


def test_the_interval_of_a_mean_is_t_over_clusters():
    values = np.random.default_rng(1).normal(size=40)
    of_rows, repeated = (
        mean_estimate(values, range(40), "row"),
        mean_estimate(np.repeat(values, 10), [row // 10 for row in range(400)], "question"),
    )
    half = t.isf(0.025, 39) * values.std(ddof=1) / np.sqrt(40)
    for found in (of_rows, repeated):
        assert (found.interval.low, found.interval.high) == pytest.approx((values.mean() - half, values.mean() + half))
    assert (repeated.n, repeated.unit) == (40, "question")


def test_without_ties_and_clusters_the_variance_is_delongs():
    rng = np.random.default_rng(3)
    bad, good = rng.normal(1, 1, 40), rng.normal(0, 1, 60)
    scores, positive = np.concatenate([bad, good]), np.arange(100) < 40
    above = bad[:, None] > good[None, :]
    area = above.mean()
    error = np.sqrt(above.mean(axis=1).var(ddof=1) / 40 + above.mean(axis=0).var(ddof=1) / 60)
    found = auroc_estimate(scores, positive, range(100), "row")
    half = t.isf(0.025, 39) * error / (area * (1 - area))
    assert np.log(found.interval.high / (1 - found.interval.high)) == pytest.approx(np.log(area / (1 - area)) + half)


def test_samples_of_one_prompt_do_not_narrow_an_interval():
    rng = np.random.default_rng(4)
    scores, positive = rng.normal(0, 1, 40), rng.random(40) < 0.5
    once = auroc_estimate(scores, positive, range(40), "prompt")
    often = auroc_estimate(np.repeat(scores, 9), np.repeat(positive, 9), [row // 9 for row in range(360)], "prompt")
    assert often.interval.low == pytest.approx(once.interval.low)
    assert often.interval.high == pytest.approx(once.interval.high)


@pytest.mark.parametrize(("kind", "number"), [(8, 8), (8, 200), (30, 30)])
def test_at_perfect_separation_the_limit_is_that_of_disjoint_pairs(kind: int, number: int):
    scores = np.concatenate([np.full(kind, 2.0), np.full(number, 1.0)])
    positive = np.arange(kind + number) < kind
    found = auroc_estimate(scores, positive, range(kind + number), "row")
    assert (found.value, found.interval.high) == (1.0, 1.0)
    assert found.interval.low == pytest.approx(0.025 ** (1 / kind))
    turned = auroc_estimate(-scores, positive, range(kind + number), "row")
    assert (turned.interval.low, turned.interval.high) == pytest.approx((0.0, 1 - 0.025 ** (1 / kind)))
    precise = average_precision_estimate(scores, positive, range(kind + number), "row")
    assert (precise.value, precise.interval.high, precise.interval.low) == pytest.approx(
        (1.0, 1.0, 0.025 ** (1 / kind))
    )


def test_a_perfect_correlation_has_a_width():
    line = np.arange(10.0)
    for found in (
        correlation_estimate(line, line, range(10), "row"),
        correlation_estimate(line, line**3, range(10), "row", ranks=True),
    ):
        assert found.value == pytest.approx(1.0)
        assert 0.5 < found.interval.low < 0.99


COVERED = {
    "AUC, prompts x 10": (case for case in area_cases() if case.name.endswith("12 prompts x 10")),
    "AUC, few bad rows": (case for case in area_cases() if "10 of 510 rows" in case.name),
    "correlations of 10 rows": (case for case in correlation_cases() if case.name.endswith(", 10 rows")),
    "average precision": (case for case in precision_cases() if "8 of 200 rows" in case.name),
}
"""Simulated designs; the whole table is made by benchmarks/coverage_areas.py."""


@pytest.mark.parametrize("name", COVERED)
def test_intervals_cover_in_simulation(name: str):
    for case in COVERED[name]:
        share, *_ = case.share(80)
        assert share >= 0.88, f"{case.name}: {share:.1%} of 80, where 95% gives fewer than 88% once in 200"


BAD = np.array([True, False] * 10)
SCORE = np.linspace(0, 1, 20)
NAN = np.where(np.arange(20) == 3, np.nan, SCORE)
UNESTIMABLE: dict[str, tuple[Callable, str]] = {
    "AUC, one cluster": (lambda: auroc_estimate(SCORE, BAD, ["a"] * 20, "prompt"), "1 prompts with rows of each kind"),
    "AUC, two clusters": (
        lambda: auroc_estimate(SCORE, BAD, ["a", "b"] * 10, "prompt"),
        "1 prompts with rows of each kind",
    ),
    "AUC, few of one kind": (
        lambda: auroc_estimate(SCORE, np.arange(20) < 5, range(20), "row"),
        "5 rows with rows of each kind",
    ),
    "precision, few of one kind": (
        lambda: average_precision_estimate(SCORE, np.arange(20) < 5, range(20), "row"),
        "5 rows with rows of each kind",
    ),
    "correlation, few clusters": (
        lambda: correlation_estimate(SCORE, SCORE**2, [n // 4 for n in range(20)], "prompt"),
        "5 prompts",
    ),
    "mean, one cluster": (lambda: mean_estimate(SCORE, ["a"] * 20, "prompt"), "a single prompt"),
    "mean, constant": (lambda: mean_estimate(np.ones(20), range(20), "row"), "the same value"),
}


@pytest.mark.parametrize("case", UNESTIMABLE)
def test_what_cannot_be_estimated_has_no_interval_and_says_why(case: str):
    made, why = UNESTIMABLE[case]
    found = made()
    assert found.interval is None
    assert found.note.startswith("not estimable: ")
    assert why in found.note
    assert str(FEWEST) in found.note or "mean" in case


REFUSED: dict[str, tuple[Callable, type[Exception], str]] = {
    "AUC, NaN": (lambda: auroc_estimate(NAN, BAD, range(20), "row"), NonFiniteError, "row 3"),
    "AUC, one kind": (
        lambda: auroc_estimate(SCORE, np.ones(20, dtype=bool), range(20), "row"),
        EmptyDataError,
        "not defined on these 20 rows",
    ),
    "AUC, a level in percent": (
        lambda: auroc_estimate(SCORE, BAD, range(20), "row", level=95.0),
        ConfigurationError,
        "confidence level",
    ),
    "AUC, clusters missing": (
        lambda: auroc_estimate(SCORE, BAD, range(19), "row"),
        ConfigurationError,
        "20 rows and 19 clusters",
    ),
    "precision, NaN": (lambda: average_precision_estimate(NAN, BAD, range(20), "row"), NonFiniteError, "row 3"),
    "precision, none bad": (
        lambda: average_precision_estimate(SCORE, ~(BAD | True), range(20), "row"),
        EmptyDataError,
        "not defined",
    ),
    "precision, all bad": (
        lambda: average_precision_estimate(SCORE, BAD | True, range(20), "row"),
        EmptyDataError,
        "not defined",
    ),
    "correlation, constant": (
        lambda: correlation_estimate(SCORE, np.ones(20), range(20), "row"),
        EmptyDataError,
        "not defined",
    ),
    "correlation, NaN": (lambda: correlation_estimate(SCORE, NAN, range(20), "row"), NonFiniteError, "row 3"),
    "mean, NaN": (lambda: mean_estimate(NAN, range(20), "row"), NonFiniteError, "row 3"),
    "mean, nothing": (lambda: mean_estimate(np.empty(0), [], "row"), EmptyDataError, "at least one row"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_defined_is_refused(case: str):
    made, error, told = REFUSED[case]
    with pytest.raises(error, match=told):
        made()
