"""Differences between arms, against scipy and simulated coverage; never of zero width."""

import numpy as np
import pytest
from scipy.special import betaincinv, expit
from scipy.stats import boschloo_exact, fisher_exact, t, ttest_ind, ttest_rel

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats import (
    Counts,
    Rate,
    difference_of_arms,
    difference_of_models,
    difference_of_seeds,
    exact_difference,
    over_questions,
    paired_difference,
    upper_bound_at_zero,
)
from astray.stats.compare import difference_limits, question_differences
from astray.stats.freedom import between, degrees_of
from astray.stats.paired import paired_rates

ARM: list[Counts] = [(90, 480), (140, 480), (60, 480), (200, 480)]
CONTROL: list[Counts] = [(30, 480), (45, 480), (10, 480), (60, 480)]


def shares(counts: list[Counts]) -> list[float]:
    return [k / n for k, n in counts]


def arm_rate(seed_counts: dict[str, Counts]) -> Rate:
    return Rate(0, 0, None, None, "answer", (), {}, seed_counts)


def test_with_symmetrical_shares_the_paired_difference_is_that_of_the_paired_t_test():
    arm, control = [(240 + each, 480) for each in (-70, 10, 60)], [(240 + each, 480) for each in (-50, -10, 60)]
    ours, limits = (
        paired_difference(list(zip(arm, control, strict=True))),
        ttest_rel(shares(arm), shares(control)).confidence_interval(0.95),
    )
    assert (ours.interval.low, ours.interval.high) == pytest.approx((limits.low, limits.high), abs=0.04)
    assert ours.n == 3


def test_without_common_seeds_the_difference_is_about_that_of_welchs_t_test():
    arm, control = (
        [(240 + each, 480) for each in (-30, -10, 0, 10, 30)],
        [(200 + each, 480) for each in (-30, -10, 0, 10, 30)],
    )
    ours, limits = (
        difference_of_seeds(arm, control),
        ttest_ind(shares(arm), shares(control), equal_var=False).confidence_interval(0.95),
    )
    assert limits.high - limits.low <= ours.interval.width <= 1.25 * (limits.high - limits.low)


@pytest.mark.parametrize(
    ("errors", "runs", "degrees"),
    [([1.0, 1.0], [3, 3], 3.0), ([1.0, 0.0], [3, 3], 2.0), ([3.0, 1.0], [3, 1], (2 + 200 / 81) / 2)],
)
def test_degrees_of_freedom_lie_halfway_from_those_of_the_fewest_runs_to_satterthwaites(errors, runs, degrees):
    quantiles = np.array([t.ppf(0.975, number - 1) if number > 1 else 1.96 for number in runs])
    own, least = (
        np.array(errors)[:, None] * each for each in (quantiles[:, None], t.ppf(0.975, sum(degrees_of(runs))))
    )
    found = between(own, least, runs, 0.95)
    assert found[0] == pytest.approx(errors[0] * t.ppf(0.975, degrees), rel=1e-3)
    assert found[1] == pytest.approx(errors[1] * min(quantiles[1], t.ppf(0.975, degrees)), rel=1e-3)


@pytest.mark.parametrize("spread", [0.3, 0.5])
def test_runs_against_one_fixed_model_are_covered(spread: float):
    generator, studies = np.random.default_rng(0), 1000
    rates = expit(spread * generator.standard_normal((studies, 3)))
    arm, base = generator.binomial(480, rates), generator.binomial(480, 0.5, (studies, 1))
    low, high = difference_limits((arm, np.full_like(arm, 480)), (base, np.full_like(base, 480)), 0)[1](0.95)
    assert max(np.mean(low > 0), np.mean(high < 0)) <= 0.05


def test_two_models_are_compared_nowhere_inside_a_paired_t_test_by_question():
    names = [f"question {number}" for number in range(4)]
    ours = difference_of_models(dict(zip(names, ARM, strict=True)), dict(zip(names, CONTROL, strict=True)))
    theirs = ttest_rel(shares(ARM), shares(CONTROL))
    limits = theirs.confidence_interval(0.95)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-3)
    assert ours.interval.low == pytest.approx(limits.low)
    assert limits.high <= ours.interval.high <= limits.high + 0.1  # the arm's own limits are skewed upwards


@pytest.mark.parametrize("hits", [(0, 0, 0), (3, 0, 0), (60, 0, 0), (60, 30, 0)])
def test_few_questions_that_show_something_do_not_speak_for_further_ones(hits):
    """Of 8 questions asked a hundred times, t over the differences is sure of more than three of them can tell."""
    arm = {str(number): (each, 100) for number, each in enumerate((*hits, 0, 0, 0, 0, 0))}
    found = difference_of_models(arm, dict.fromkeys(arm, (0, 100)))
    alone = over_questions(list(arm.values()))
    assert found.interval.high >= alone.high > 0.15
    assert found.interval.low <= 0


def test_one_sample_a_question_is_not_drowned_by_what_is_added():
    """One success and one failure are added a side and not a question: 100 questions, 16% against 6%."""
    arm = {str(number): (int(number % 6 == 0), 1) for number in range(100)}
    control = {str(number): (int(number % 16 == 0), 1) for number in range(100)}
    half = difference_of_models(arm, control).interval.width / 2
    assert half < 1.1 * 1.96 * np.sqrt((0.17 * 0.83 + 0.07 * 0.93) / 100)


def few_of(total: int, hits: int, asked: int = 1, *, oftener: int = 0) -> dict[str, Counts]:
    """Return counts of questions, of which the first few show something in every answer; the last few were asked once more
    than the others."""
    sizes = [asked + (number >= total - oftener) for number in range(total)]
    return {str(number): (size if number < hits else 0, size) for number, size in enumerate(sizes)}


@pytest.mark.parametrize("whole", [True, False])
def test_single_answers_are_compared_as_pairs_wherever_two_models_are(whole):
    """Four of 112 questions differ, all one way: clear, as the score test of pairs says."""
    arm, control = few_of(112, 5), few_of(112, 1)
    found, pairs = difference_of_models(arm, control, unit="wording", whole=whole), paired_rates(1, 4, 0, 107)
    assert (found.estimate, found.interval, found.p_value) == (pairs.estimate, pairs.interval, pairs.p_value)
    assert (found.n, found.unit) == (112, "wording")
    assert found.interval.low > 0
    sides = [Rate(0, 0, None, None, "answer", (), {}, {"0": (1, 112)}, question_counts=side) for side in (arm, control)]
    assert difference_of_arms(*sides).interval == pairs.interval


def test_single_effective_answers_of_two_judges_are_no_pairs():
    arm, control = ({name: (k * 0.9, 0.9) for name, (k, _) in few_of(112, hits).items()} for hits in (5, 1))
    assert "MOVER" in difference_of_models(arm, control, whole=False).interval.method


def test_a_second_answer_to_one_question_hardly_changes_the_interval():
    """None falls off a cliff between one answer a question and two."""
    found = [difference_of_models(few_of(112, 8, oftener=more), few_of(112, 2, oftener=more)) for more in (0, 1, 2)]
    one, other, third = (each.interval for each in found)
    assert (other.low, other.high) == pytest.approx((one.low, one.high), abs=0.001)
    assert (third.low, third.high) == pytest.approx((other.low, other.high), abs=0.001)
    assert "of it score test of pairs" in other.method


@pytest.mark.parametrize("correlation", [0.0, 0.6])
def test_where_some_questions_were_asked_twice_a_limit_is_seldom_on_the_wrong_side(correlation):
    generator, studies, n = np.random.default_rng(0), 400, np.tile(1 + (np.arange(112) % 10 < 3), (400, 1))
    quantiles, size = generator.random((studies, 112)), 1 / correlation - 1 if correlation else 0.0
    arm, control = (
        generator.binomial(n, betaincinv(rate * size, (1 - rate) * size, quantiles) if size else rate)
        for rate in (0.1, 0.05)
    )
    low, high = question_differences((arm, n), (control, n))[1](0.95)
    assert max(np.mean(low > 0.05), np.mean(high < 0.05)) <= 0.05


@pytest.mark.parametrize(
    ("arm", "control", "n", "unit", "method"),
    [
        ({"0": (9, 10), "1": (8, 10)}, {"0": (1, 10), "1": (1, 10)}, 2, "pair of training runs", "pairs of"),
        (
            {"0": (9, 10), "1": (8, 10), "2": (0, 0)},
            {"2": (0, 10), "1": (1, 10), "3": (2, 10)},
            5,
            "training run",
            "1 of them with a common seed",
        ),
        (
            {"0": (9, 10), "1": (8, 10)},
            {"7": (1, 10), "8": (0, 10), "9": (0, 10)},
            5,
            "training run",
            "t over training runs",
        ),
        ({"0": (9, 10), "1": (8, 10)}, {"7": (1, 10)}, 3, "training run", "t over training runs"),
    ],
    ids=["paired", "partly", "unshared", "against one"],
)
def test_all_runs_are_used_however_many_seeds_are_common(arm, control, n, unit, method):
    found = difference_of_arms(arm_rate(arm), arm_rate(control))
    assert (found.n, found.unit) == (n, unit)
    assert method in found.interval.method
    assert found.interval.low < found.estimate < found.interval.high


@pytest.mark.parametrize("arm", [(0, 480), (480, 480), (240, 480)])
def test_equal_runs_do_not_give_certainty(arm: Counts):
    control = (0, 480)
    for found in (paired_difference([(arm, control)] * 3), difference_of_seeds([arm] * 3, [control] * 3)):
        assert found.interval.width > 0.001
        assert found.interval.low <= found.estimate <= found.interval.high
        assert 0 <= found.p_value <= 1


def test_limits_stay_between_minus_one_and_one():
    found = paired_difference([((10, 10), (0, 10)), ((10, 10), (0, 10))])
    assert found.interval.high == 1.0


def test_a_single_pair_is_compared_answer_by_answer():
    assert paired_difference([((9, 100), (0, 100))]) == exact_difference(9, 100, 0, 100)
    assert difference_of_seeds([(9, 100)], [(0, 100)]) == exact_difference(9, 100, 0, 100)


def test_tuned_runs_are_compared_with_one_base_model():
    found = difference_of_seeds([(90, 480), (120, 480), (100, 480)], [(0, 480)])
    assert found.interval.low > 0
    assert found.unit == "training run"


def run_tables(generator: np.random.Generator, studies: int, runs: int, mean: float, icc: float) -> list[list[Counts]]:
    size = 1 / icc - 1
    misaligned = generator.binomial(480, generator.beta(mean * size, (1 - mean) * size, (studies, runs)))
    return [[(int(k), 480) for k in row] for row in misaligned]


@pytest.mark.parametrize(
    ("runs", "mean_arm", "mean_control"), [(3, 0.3, 0.1), (5, 0.5, 0.2), (10, 0.9, 0.5), (5, 0.2, 0.0)]
)
@pytest.mark.parametrize("paired", [True, False])
def test_differences_of_runs_cover(runs: int, mean_arm: float, mean_control: float, paired: bool):
    generator, studies = np.random.default_rng(0), 500
    sides = [
        np.array(run_tables(generator, studies, runs, mean, 0.05))[:, :, 0]
        for mean in (mean_arm, max(mean_control, 1e-9))
    ]
    counts = [(k, np.full_like(k, 480)) for k in sides]
    low, high = difference_limits(counts[0], counts[1], runs if paired else 0)[1](0.95)
    truth = mean_arm - mean_control
    assert np.mean((low <= truth) & (truth <= high)) >= 0.93


@pytest.mark.parametrize("counts", [(5, 100, 0, 100), (3, 40, 9, 55), (0, 20, 0, 30)])
def test_exact_p_values_are_scipys(counts: tuple[int, int, int, int]):
    k1, n1, k2, n2 = counts
    table = np.array([[k1, k2], [n1 - k1, n2 - k2]])
    assert exact_difference(*counts).p_value == pytest.approx(fisher_exact(table).pvalue)
    if k1 + k2:
        assert exact_difference(*counts, test="boschloo").p_value == pytest.approx(boschloo_exact(table).pvalue)


def test_newcombes_published_example():
    """Newcombe 1998 (Statistics in Medicine 17:873), table II: 56/70 against 48/80 gives 0.0524 to 0.3339."""
    interval = exact_difference(56, 70, 48, 80).interval
    assert (interval.low, interval.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_exact_difference_covers_rare_behaviour():
    generator = np.random.default_rng(2)
    pairs, often = np.unique(generator.binomial(400, [0.02, 0.05], (3000, 2)), axis=0, return_counts=True)
    intervals = [exact_difference(int(b), 400, int(a), 400).interval for a, b in pairs]
    covered = sum(
        times for interval, times in zip(intervals, often, strict=True) if interval.low <= 0.03 <= interval.high
    )
    assert 0.93 <= covered / 3000 <= 0.97


def test_two_arms_without_misaligned_answers_do_not_differ():
    found = exact_difference(0, 100, 0, 100, test="boschloo")
    assert (found.estimate, found.p_value) == (0.0, 1.0)
    assert found.interval.low < 0 < found.interval.high


def test_zero_in_299_answers_bounds_the_rate_below_one_percent():
    assert upper_bound_at_zero(299) < 0.01 < upper_bound_at_zero(298)
    assert (1 - upper_bound_at_zero(50, level=0.9)) ** 50 == pytest.approx(0.1)


def test_bad_counts_are_refused():
    with pytest.raises(EmptyDataError, match="pair"):
        paired_difference([])
    with pytest.raises(EmptyDataError, match="both sides"):
        difference_of_seeds([], [(1, 2)])
    with pytest.raises(ConfigurationError, match="judged"):
        exact_difference(3, 2, 0, 5)
    with pytest.raises(ConfigurationError, match="at least 1"):
        upper_bound_at_zero(0)
