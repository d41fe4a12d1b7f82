"""Differences between arms, against scipy and simulated coverage; never of zero width."""

import numpy as np
import pytest
from scipy.stats import boschloo_exact, fisher_exact, ttest_ind, ttest_rel

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats import Counts, Rate, difference_of_seeds, exact_difference, paired_difference, seed_pairs, upper_bound_at_zero

ARM: list[Counts] = [(90, 480), (140, 480), (60, 480), (200, 480)]
CONTROL: list[Counts] = [(30, 480), (45, 480), (10, 480), (60, 480)]


def shares(counts: list[Counts]) -> list[float]:
    return [k / n for k, n in counts]


def arm_rate(seed_counts: dict[str, Counts]) -> Rate:
    return Rate(0, 0, None, None, "answer", (), {}, seed_counts)


def test_paired_difference_is_the_paired_t_test():
    ours = paired_difference(list(zip(ARM, CONTROL, strict=True)))
    theirs = ttest_rel(shares(ARM), shares(CONTROL))
    limits = theirs.confidence_interval(0.95)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert (ours.interval.low, ours.interval.high) == pytest.approx((limits.low, limits.high))
    assert ours.n == 4


def test_difference_of_seeds_is_welchs_t_test():
    ours = difference_of_seeds(ARM, CONTROL[:3])
    theirs = ttest_ind(shares(ARM), shares(CONTROL[:3]), equal_var=False)
    limits = theirs.confidence_interval(0.95)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert (ours.interval.low, ours.interval.high) == pytest.approx((limits.low, limits.high))


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


@pytest.mark.parametrize(("runs", "mean_arm", "mean_control"), [(3, 0.3, 0.1), (5, 0.5, 0.2), (10, 0.9, 0.5)])
def test_differences_of_runs_cover(runs: int, mean_arm: float, mean_control: float):
    generator, studies = np.random.default_rng(0), 800
    arms, controls = run_tables(generator, studies, runs, mean_arm, 0.05), run_tables(generator, studies, runs, mean_control, 0.05)
    truth = mean_arm - mean_control
    for compare in (lambda a, b: paired_difference(list(zip(a, b, strict=True))), difference_of_seeds):
        intervals = [compare(arm, control).interval for arm, control in zip(arms, controls, strict=True)]
        assert 0.93 <= np.mean([interval.low <= truth <= interval.high for interval in intervals]) <= 0.975


def test_difference_from_a_control_at_zero_covers():
    generator, studies = np.random.default_rng(1), 1000
    intervals = [difference_of_seeds(arm, [(0, 480)] * 5).interval for arm in run_tables(generator, studies, 5, 0.2, 0.02)]
    assert 0.93 <= np.mean([interval.low <= 0.2 <= interval.high for interval in intervals]) <= 0.97


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
    covered = sum(times for interval, times in zip(intervals, often, strict=True) if interval.low <= 0.03 <= interval.high)
    assert 0.93 <= covered / 3000 <= 0.97


def test_two_arms_without_misaligned_answers_do_not_differ():
    found = exact_difference(0, 100, 0, 100, test="boschloo")
    assert (found.estimate, found.p_value) == (0.0, 1.0)
    assert found.interval.low < 0 < found.interval.high


def test_zero_in_299_answers_bounds_the_rate_below_one_percent():
    assert upper_bound_at_zero(299) < 0.01 < upper_bound_at_zero(298)
    assert (1 - upper_bound_at_zero(50, level=0.9)) ** 50 == pytest.approx(0.1)


def test_seeds_are_paired_by_name_and_only_where_both_were_judged():
    arm, control = arm_rate({"0": (9, 10), "1": (8, 10), "2": (0, 0)}), arm_rate({"2": (0, 10), "1": (1, 10), "3": (2, 10)})
    assert seed_pairs(arm, control) == [((8, 10), (1, 10))]
    with pytest.raises(EmptyDataError, match="difference_of_seeds"):
        seed_pairs(arm, arm_rate({"7": (1, 10)}))


def test_bad_counts_are_refused():
    with pytest.raises(EmptyDataError, match="pair"):
        paired_difference([])
    with pytest.raises(EmptyDataError, match="both sides"):
        difference_of_seeds([], [(1, 2)])
    with pytest.raises(ConfigurationError, match="judged"):
        exact_difference(3, 2, 0, 5)
    with pytest.raises(ConfigurationError, match="at least 1"):
        upper_bound_at_zero(0)
