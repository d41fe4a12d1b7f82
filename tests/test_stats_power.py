"""Power by enumeration, against a plain double loop over Fisher's test, and by simulation of whole designs."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import binom, fisher_exact, nct, t, ttest_rel

from astray.errors import ConfigurationError
from astray.stats import Design, power, required_n, seed_power
from astray.stats.intervals import Counts, mean_over_runs, wilson
from astray.stats.power import n_to_decide, simulated_counts


@pytest.mark.parametrize(("p_control", "p_arm", "n"), [(0.0, 0.01, 790), (0.0, 0.05, 157), (0.01, 0.05, 302)])
def test_published_sample_sizes(p_control: float, p_arm: float, n: int):
    assert required_n(p_control, p_arm) == n
    assert required_n(p_arm, p_control) == n


@pytest.mark.parametrize(
    ("p_control", "p_arm", "n", "alpha"),
    [(0.1, 0.4, 12, 0.05), (0.5, 0.9, 9, 0.05), (0.9, 0.97, 15, 0.01), (1.0, 0.5, 7, 0.05), (0.5, 0.5, 11, 0.1)],
)
def test_power_is_the_sum_over_all_rejected_tables(p_control: float, p_arm: float, n: int, alpha: float):
    expected = sum(
        binom.pmf(i, n, p_control) * binom.pmf(j, n, p_arm)
        for i in range(n + 1)
        for j in range(n + 1)
        if fisher_exact([[i, j], [n - i, n - j]]).pvalue <= alpha * (1 + 1e-9)
    )
    assert power(p_control, p_arm, n, alpha=alpha) == pytest.approx(float(expected), abs=1e-8)


def test_required_n_is_the_smallest_in_spite_of_the_teeth():
    found = required_n(0.2, 0.7)
    enough = [n for n in range(2, 60) if power(0.2, 0.7, n) >= 0.8]
    assert found == enough[0]


def test_a_test_on_equal_rates_rejects_at_most_at_its_level():
    assert power(0.1, 0.1, 300) <= 0.05


def test_more_runs_find_more():
    few, many = (Design(runs=runs, questions=8, samples=20, seed_sd=0.05, question_icc=0.2) for runs in (3, 6))
    assert seed_power(0.0, 0.1, few, simulations=500) < seed_power(0.0, 0.1, many, simulations=500)


def test_more_samples_do_not_replace_runs_that_differ():
    few, many = (Design(runs=3, questions=8, samples=samples, seed_sd=0.1, question_icc=0.2) for samples in (50, 500))
    assert seed_power(0.0, 0.2, many, simulations=500) - seed_power(0.0, 0.2, few, simulations=500) < 0.07


def test_a_difference_that_is_not_there_is_seldom_found():
    design = Design(runs=5, questions=8, samples=50, seed_sd=0.1, question_icc=0.2)
    assert 0.01 <= seed_power(0.2, 0.2, design, simulations=2000) <= 0.04, "a claim of one direction: 2.5%"


DRAWN = [(0.2, 0.05, 0.2), (0.2, 0.05, 0.0), (0.2, 0.15, 0.6), (0.02, 0.02, 0.2), (0.9, 0.1, 0.3), (0.5, 0.02, 0.9)]
"""Mean, standard deviation between runs, and intraclass correlation within questions."""


@pytest.mark.parametrize(("mean", "sd", "icc"), DRAWN)
def test_what_is_drawn_has_the_mean_and_the_spread_that_were_asked_for(mean: float, sd: float, icc: float):
    one_question = Design(runs=3, questions=1, samples=1000, seed_sd=sd, question_icc=icc)
    many = Design(runs=3, questions=600, samples=50, seed_sd=sd, question_icc=icc)
    [counts] = simulated_counts([mean], many, 700, 0)
    rates = counts / 30_000
    assert rates.mean() == pytest.approx(
        mean, abs=4 * math.hypot(sd, math.sqrt(icc * mean * (1 - mean) / 600)) / math.sqrt(700)
    )
    between = math.sqrt(np.mean(rates.var(axis=1, ddof=1)) - mean * (1 - mean) / 30_000)
    assert between == pytest.approx(sd, rel=0.12), "questions are the same in all runs and add nothing"
    [counts] = simulated_counts([mean], one_question, 4000, 1)
    total = np.var(counts[:, 0] / 1000) - mean * (1 - mean) / 1000
    assert total == pytest.approx(sd**2 + icc * mean * (1 - mean), rel=0.25), (
        "exact at the mean rate, about so over runs"
    )


def test_simulated_power_is_the_noncentral_t_power():
    """With one question, no question effect and many samples the run rates are all that varies: closed form for the
    paired t test."""
    runs, sd, effect = 6, 0.03, 0.04

    def t_test(arm: Sequence[Counts], control: Sequence[Counts]) -> bool:
        return bool(ttest_rel([k / n for k, n in arm], [k / n for k, n in control]).pvalue < 0.05)

    found = seed_power(0.5, 0.5 + effect, Design(runs, 1, 100_000, sd, 0.0), verdict=t_test, simulations=2000)
    noncentrality, critical = effect / (sd * (2 / runs) ** 0.5), t.isf(0.025, runs - 1)
    assert found == pytest.approx(
        nct.sf(critical, runs - 1, noncentrality) + nct.cdf(-critical, runs - 1, noncentrality), abs=0.035
    )


def test_the_same_seed_gives_the_same_power():
    design = Design(3, 4, 10, 0.05, 0.2)
    assert seed_power(0.0, 0.2, design, simulations=200, seed=5) == seed_power(
        0.0, 0.2, design, simulations=200, seed=5
    )


def test_a_first_arm_that_is_drawn_once_leaves_the_others_as_they_were():
    """Drawn as if it were drawn anew each time, number by number."""
    design = Design(3, 8, 4, 0.05, 0.2)
    simulated_counts((0.2, 0.01), design, 4, 0)
    arm, control = simulated_counts((0.2, 0.1), design, 4, 0)
    assert arm.tolist() == [[4, 8, 6], [3, 3, 7], [8, 8, 9], [5, 2, 5]]
    assert control.tolist() == [[3, 4, 8], [0, 1, 2], [1, 3, 3], [2, 1, 2]]


def test_impossible_plans_are_refused():
    with pytest.raises(ConfigurationError, match="not there"):
        required_n(0.1, 0.1)
    with pytest.raises(ConfigurationError, match=r"5% is 0\.05"):
        power(0.0, 5.0, 10)
    with pytest.raises(ConfigurationError, match="at least 1"):
        power(0.0, 0.5, 0)
    with pytest.raises(ConfigurationError, match="power of 80"):
        required_n(0.0, 0.5, power=80.0)
    with pytest.raises(ConfigurationError, match="larger difference"):
        required_n(0.5, 0.5001)
    with pytest.raises(ConfigurationError, match="at least 2 runs"):
        seed_power(0.0, 0.2, Design(1, 4, 10, 0.05, 0.2))
    with pytest.raises(ConfigurationError, match="standard deviation"):
        seed_power(0.0, 0.2, Design(3, 4, 10, 0.5, 0.2))
    with pytest.raises(ConfigurationError, match="intraclass"):
        seed_power(0.0, 0.2, Design(3, 4, 10, 0.05, 1.0))


def test_the_number_of_units_that_decides_is_the_first_whose_interval_leaves_the_border():
    """Against intervals of values with the same mean and spread, made with `mean_over_runs` for every number of
    runs."""

    def limits(n: int) -> tuple[float, float]:
        base = np.linspace(-1, 1, n)
        found = mean_over_runs(list(0.10 + 0.10 * base / base.std(ddof=1)))
        assert found is not None
        return found.low, found.high

    enough = next(n for n in range(5, 100) if limits(n)[0] >= 0.03)
    assert n_to_decide(0.10, limits(5), 5, (0.03, None)) == enough
    assert n_to_decide(0.10, limits(5), 5, (None, 0.17)) == enough, "the same distance on the other side"
    assert n_to_decide(0.10, limits(5), 5, (0.03, 0.11)) > enough, (
        "both borders are crossed, and the nearer one decides"
    )


def test_of_answers_the_number_is_that_of_the_normal_quantile():
    found = wilson(60, 400)
    needed = n_to_decide(0.15, (found.low, found.high), 400, (0.13, None))
    assert needed == pytest.approx(400 * ((0.15 - found.low) / 0.02) ** 2, rel=0.01)


@pytest.mark.parametrize(
    ("estimate", "limits", "n", "region"),
    [
        (0.3, (0.2, 0.4), 5, (0.1, None)),  # decided
        (0.1, (0.0, 0.2), 1, (0.05, None)),  # one unit tells no spread
        (0.1, (0.0, 0.2), 5, (0.1, None)),  # no number takes the interval off its own estimate
        (0.1, (0.0, 0.2), 5, (0.0999, None)),  # more than a hundred times as many
        (0.1, (0.0, 0.2), 5, (None, None)),  # of a summary without regions
    ],
)
def test_where_no_number_is_known_there_is_none(
    estimate: float, limits: tuple[float, float], n: int, region: tuple[float | None, float | None]
):
    assert n_to_decide(estimate, limits, n, region) is None
