"""Intervals of one rate, against scipy, closed forms and simulated coverage."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import betabinom, binomtest, sem
from scipy.stats import t as student

import astray.stats as public
from astray.errors import ConfigurationError, EmptyDataError
from astray.stats import Counts, Interval, clopper_pearson, mean_over_runs, over_questions, over_runs, wilson
from astray.stats.intervals import effective_interval, question_limits, run_limits


def covers(interval: Interval, rate: float) -> bool:
    return interval.low <= rate <= interval.high


def beta_binomial(generator: np.random.Generator, clusters: int, answers: int, mean: float, icc: float) -> list[Counts]:
    size = 1 / icc - 1
    misaligned = generator.binomial(answers, generator.beta(mean * size, (1 - mean) * size, clusters))
    return [(int(k), answers) for k in misaligned]


def plain_t(counts: list[Counts]) -> Interval:
    """The textbook t interval on cluster rates, written out."""
    shares = np.array([k / n for k, n in counts])
    half = student.isf(0.025, len(shares) - 1) * shares.std(ddof=1) / math.sqrt(len(shares))
    return Interval(float(shares.mean() - half), float(shares.mean() + half), 0.95, "t")


def test_only_the_listed_names_are_public():
    assert public.__all__ == sorted(public.__all__, key=lambda name: (not name.isupper(), name))  # constants first
    assert all(hasattr(public, name) for name in public.__all__)


@pytest.mark.parametrize(("k", "n"), [(0, 100), (1, 100), (37, 90), (90, 90), (3, 1440)])
def test_independent_answers_agree_with_scipy(k: int, n: int):
    for ours, method in ((wilson(k, n), "wilson"), (clopper_pearson(k, n), "exact")):
        theirs = binomtest(k, n).proportion_ci(0.95, method)
        assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_zero_of_a_hundred_has_the_published_bounds():
    assert wilson(0, 100).high == pytest.approx(0.0370, abs=5e-5)
    assert clopper_pearson(0, 100).high == pytest.approx(0.0362, abs=5e-5)
    assert wilson(0, 100).low == 0.0
    assert wilson(100, 100).high == 1.0


def test_a_higher_level_is_wider():
    counts = [(3, 50), (9, 50), (4, 50)]
    assert wilson(5, 50, level=0.99).width > wilson(5, 50).width
    assert over_runs(counts, level=0.99).width > over_runs(counts).width


@pytest.mark.parametrize("mean", [0.02, 0.1, 0.5])
def test_wilson_covers_independent_answers(mean: float):
    n = 480
    misaligned, often = np.unique(np.random.default_rng(0).binomial(n, mean, 20_000), return_counts=True)
    covered = sum(times for k, times in zip(misaligned, often, strict=True) if covers(wilson(int(k), n), mean))
    assert 0.93 <= covered / 20_000 <= 0.97


def test_clopper_pearson_never_covers_less_than_it_says():
    for mean in (0.001, 0.01, 0.3):
        misaligned, often = np.unique(np.random.default_rng(1).binomial(300, mean, 20_000), return_counts=True)
        covered = sum(
            times for k, times in zip(misaligned, often, strict=True) if covers(clopper_pearson(int(k), 300), mean)
        )
        assert covered / 20_000 >= 0.95


@pytest.mark.parametrize(("questions", "samples", "pooled", "textbook"), [(8, 100, 0.32, 0.86), (50, 16, 0.67, 0.93)])
def test_pooling_clustered_questions_undercovers_and_the_question_interval_does_not(
    questions, samples, pooled, textbook
):
    """The published figures for a mean of 10% and an ICC of 0.2, and ours above the textbook t interval."""
    generator, studies = np.random.default_rng(2), 1000
    tables = [beta_binomial(generator, questions, samples, 0.1, 0.2) for _ in range(studies)]
    covered_pooled = (
        sum(covers(wilson(sum(k for k, _ in table), questions * samples), 0.1) for table in tables) / studies
    )
    covered_t = sum(covers(plain_t(table), 0.1) for table in tables) / studies
    k = np.array(tables)[:, :, 0]
    low, high = question_limits(k, np.full_like(k, samples))(0.95)
    assert covered_pooled == pytest.approx(pooled, abs=0.03)
    assert covered_t == pytest.approx(textbook, abs=0.02)
    assert np.mean((low <= 0.1) & (high >= 0.1)) >= 0.93


@pytest.mark.parametrize(
    ("runs", "mean", "icc"), [(3, 0.1, 0.05), (5, 0.2, 0.02), (5, 0.94, 0.05), (10, 0.02, 0.02), (10, 0.5, 0.05)]
)
def test_run_interval_covers_when_rates_of_runs_have_another_distribution_than_it_assumes(
    runs: int, mean: float, icc: float
):
    k = np.array([beta_binomial(np.random.default_rng(3 + study), runs, 480, mean, icc) for study in range(600)])[
        :, :, 0
    ]
    low, high = run_limits(k, np.full_like(k, 480))(0.95)
    assert np.mean((low <= mean) & (mean <= high)) >= 0.93


@pytest.mark.parametrize("runs", [3, 5, 10, 30])
def test_run_interval_at_zero_covers_runs_that_differ_as_much_as_their_mean(runs: int):
    """Closed form: gamma-distributed rates with standard deviation equal to the mean m give no misaligned answer with
    (1 + 480 m)^-runs."""
    bound = over_runs([(0, 480)] * runs).high
    assert runs != 5 or round(bound, 4) == 0.0031
    assert (1 + 480 * bound) ** -runs <= 0.025


def test_the_question_interval_has_no_cliff_where_one_more_question_shows_something():
    """Of eight questions with 100 answers each; once it was 52.7% with one that shows something and 1.1% with two."""
    highs = [over_questions([(20, 100)] * showing + [(0, 100)] * (8 - showing)).high for showing in range(9)]
    assert all(one / 1.6 <= other <= one * 1.6 for one, other in pairwise(highs))


@pytest.mark.parametrize(("questions", "answers"), [(8, 100), (120, 4), (24, 1)])
def test_question_interval_at_zero_is_that_of_correlated_answers(questions: int, answers: int):
    interval, mirrored = over_questions([(0, answers)] * questions), over_questions([(answers, answers)] * questions)
    size = 1 / 0.8 - 1
    none = betabinom.pmf(0, answers, interval.high * size, (1 - interval.high) * size) ** questions
    assert none == pytest.approx(0.025, rel=0.25)
    assert (interval.low, mirrored.high) == (0.0, 1.0)
    assert mirrored.low == pytest.approx(1 - interval.high)


@pytest.mark.parametrize("hits", [0, 1, 3, 50, 100])
def test_questions_with_a_single_answer_have_exact_limits(hits: int):
    interval, exact = over_questions([(1, 1)] * hits + [(0, 1)] * (100 - hits)), clopper_pearson(hits, 100)
    assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high))


def test_where_no_question_showed_anything_one_answer_more_changes_little():
    one = over_questions([(1, 100)] + [(0, 100)] * 7).high
    assert over_questions([(0, 100)] * 8).high == pytest.approx(one, rel=0.1)


@pytest.mark.parametrize("answers", [0.1, 0.4, 0.9])
def test_fractions_of_answers_are_worth_no_more_than_themselves(answers: float):
    """Questions whose weighted verdicts are worth less than an answer each."""
    limits = question_limits(np.zeros((1, 24)), np.full((1, 24), answers))
    assert limits(0.95)[1][0] >= 1 - 0.025 ** (1 / (24 * answers)) - 1e-9


@pytest.mark.parametrize(("k", "within"), [(-2.5, 0.0), (23.1, 20.0)])
def test_estimated_counts_beyond_the_answers_have_the_limits_of_all_or_none(k: float, within: float):
    outside, inside = (effective_interval([(each, 20.0)], "training run") for each in (k, within))
    assert (outside.low, outside.high) == (inside.low, inside.high)
    assert 0 <= outside.low < outside.high <= 1


@pytest.mark.parametrize(
    "counts", [[(0, 480)] * 3, [(480, 480)] * 3, [(48, 480)] * 3, [(0, 10), (10, 10)], [(1, 3), (0, 500)]]
)
def test_clustered_intervals_have_width_and_enclose_the_estimate(counts: list[Counts]):
    pooled = sum(k for k, _ in counts) / sum(n for _, n in counts)
    for interval in (over_runs(counts), over_questions(counts)):
        assert 0 <= interval.low <= pooled <= interval.high <= 1
        assert interval.width > 0.001


@pytest.mark.parametrize(("k", "n"), [(5, 4), (-1, 4), (0, 0)])
def test_impossible_counts_are_refused(k: int, n: int):
    for interval in (wilson, clopper_pearson):
        with pytest.raises(ConfigurationError, match="misaligned"):
            interval(k, n)


def test_one_cluster_and_wrong_levels_are_refused():
    with pytest.raises(ConfigurationError, match="at least two"):
        over_runs([(3, 10)])
    with pytest.raises(ConfigurationError, match="question"):
        over_questions([(3, 10)])
    with pytest.raises(ConfigurationError, match=r"0\.95"):
        wilson(3, 10, level=95.0)


def test_a_mean_over_runs_is_the_t_interval():
    values = [0.7, 0.9, 0.8, 0.85]
    expected = student.interval(0.95, 3, np.mean(values), sem(values))
    found = mean_over_runs(values)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(expected)


def test_a_mean_over_one_run_has_no_interval():
    assert mean_over_runs([0.5]) is None


@pytest.mark.parametrize(("values", "error"), [([], EmptyDataError), ([0.1, float("nan")], ConfigurationError)])
def test_a_mean_over_nothing_is_refused(values, error):
    with pytest.raises(error):
        mean_over_runs(values)
