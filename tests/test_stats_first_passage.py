"""The onset of hacking is the first step over the limit, censored where it never comes; alarms are as rare as they say
and notice a rise."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.first_passage import Alarm, cusum, first_passage


def run_with(onset, steps=10):
    return [(0 if onset is None or step < onset else 50, 100) for step in range(1, steps + 1)]


def test_the_first_step_over_the_limit_counts_and_not_one_at_it():
    found = first_passage([[(2, 100), (0, 100), (3, 100), (0, 100)], [(1, 100)] * 4], limit=0.02)
    assert found.steps == (3, None)
    assert (found.median, found.low, found.high) == (None, 3, None)
    assert first_passage([[(0, 100), (1, 100)]], limit=0.0).steps == (2,)


@pytest.mark.parametrize(("runs", "outside"), [(1, 0), (2, 0), (5, 0), (6, 0), (9, 1), (20, 5), (50, 17)])
def test_the_interval_leaves_out_as_many_runs_as_ranks_allow(runs, outside):
    found = first_passage([run_with(step, runs) for step in range(1, runs + 1)])
    assert (found.median, found.low, found.high) == ((runs + 1) / 2, 1 + outside, runs - outside)
    assert found.coverage == pytest.approx(1 - 2 * binom.cdf(outside, runs, 0.5))
    assert found.coverage >= 0.95 or outside == 0
    assert 1 - 2 * binom.cdf(outside + 1, runs, 0.5) < 0.95


def test_the_interval_covers_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    true_median = math.log(2) * 200
    covered = 0
    for _ in range(400):
        onsets = rng.exponential(200, size=9).astype(int) + 1
        found = first_passage(
            [[(0, 10)] * (min(onset, 300) - 1) + [(10 if onset <= 300 else 0, 10)] for onset in onsets.tolist()]
        )
        covered += found.low <= true_median + 1 and (found.high is None or found.high >= true_median)
    assert covered / 400 == pytest.approx(found.coverage, abs=0.03)


def test_runs_without_an_onset_move_the_median_up():
    assert first_passage([run_with(onset) for onset in (2, 4, 6, None, None)]).median == 6
    found = first_passage([run_with(onset) for onset in (2, None, None)])
    assert (found.median, found.low, found.high) == (None, 2, None)


@pytest.mark.parametrize(
    ("answers", "usual", "risen", "length"),
    [(128, 0.01, 0.05, 200), (16, 0.02, 0.2, 100), (1, 0.05, 0.5, 60), (500, 0.1, 0.15, 150)],
)
def test_false_alarms_are_as_rare_as_computed(answers, usual, risen, length):
    made = cusum(answers, usual=usual, risen=risen, run_length=length)
    assert length <= made.run_length
    rng = np.random.default_rng(1)
    runs = 2000
    total, ended = np.zeros(runs), np.zeros(runs, dtype=int)
    for step in range(1, 20 * length):
        total = np.maximum(0, total + rng.binomial(answers, usual, runs) - made.reference)
        ended[(ended == 0) & (total >= made.threshold - 1e-9)] = step
        if ended.all():
            break
    assert ended.mean() == pytest.approx(made.run_length, rel=4 / math.sqrt(runs))
    assert made.false_alarm(length // 2) == pytest.approx(np.mean(ended <= length // 2), abs=4 * 0.5 / math.sqrt(runs))
    assert usual * answers < made.reference < risen * answers


def test_the_threshold_is_the_lowest_that_is_rare_enough():
    from astray.stats.first_passage import _run_length

    made = cusum(16, usual=0.02, risen=0.2, run_length=300)
    fineness = math.ceil(10 / (16 * math.log(0.98 / 0.8) / math.log(0.2 * 0.98 / (0.02 * 0.8))))
    lower = _run_length(16, 0.02, round(made.reference * fineness), fineness, round(made.threshold * fineness) - 1)
    assert lower < 300 <= made.run_length


def test_a_rise_is_noticed_and_dated():
    made = cusum(128)
    quiet = [1, 0, 2, 1, 0, 3, 1, 0]
    assert made.alarm(quiet) is None
    found = made.alarm([*quiet, 4, 5, 5, 40])
    assert found == Alarm(step=11, began=9)
    sums = made.sums([*quiet, 4, 5])
    assert sums[7] == 0
    assert sums[9] == pytest.approx(9 - 2 * made.reference)


def test_a_small_rise_is_noticed_sooner_than_by_any_single_step_rule_as_rare():
    made = cusum(128, usual=0.01, risen=0.03, run_length=1000)
    single = int(binom.isf(1 / 1000, 128, 0.01)) + 1  # hacks in one step that are as rare
    rng = np.random.default_rng(2)
    delays, single_delays = [], []
    for _ in range(200):
        hacks = rng.binomial(128, 0.03, 400).tolist()
        delays.append(made.alarm(hacks).step)
        single_delays.append(next((step for step, count in enumerate(hacks, 1) if count >= single), 400))
    assert np.mean(delays) < 0.7 * np.mean(single_delays)


def test_what_cannot_be_says_what_to_write():
    with pytest.raises(EmptyDataError, match="at least one run"):
        first_passage([])
    with pytest.raises(EmptyDataError, match="at least one step"):
        first_passage([[(0, 10)], []])
    with pytest.raises(ConfigurationError, match=r"write 0\.02 for 2%"):
        first_passage([[(0, 10)]], limit=1.0)
    with pytest.raises(ConfigurationError):
        first_passage([[(11, 10)]])
    with pytest.raises(ConfigurationError, match="0 < usual < risen < 1"):
        cusum(128, usual=0.05, risen=0.01)
    with pytest.raises(ConfigurationError):
        cusum(16).sums([17])
    with pytest.raises(ConfigurationError, match="-1 steps"):
        cusum(16).false_alarm(-1)


def test_a_run_may_have_a_false_alarm_long_before_the_mean_run_length():
    """The alarm of the reward-hacking study: 1,761 steps on average, and one in nine runs of 200 steps."""
    made = cusum(128, usual=0.01, risen=0.05, run_length=1000)
    assert [round(made.false_alarm(steps), 2) for steps in (0, 200, 1000)] == [0.0, 0.11, 0.43]
