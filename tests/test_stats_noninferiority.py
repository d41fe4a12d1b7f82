"""Bounds for a release gate: rare misalignment on few questions is not taken for none."""

import numpy as np
import pytest

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.noninferiority import LEVEL, check_margin, difference_bounds, margin_bounds, needed, run_distances
from astray.studies.gate.power import RATES, power_of
from gate import MARGIN, beta_rates, releases, runs_of, shares


def same(questions: int, k: int, n: int) -> dict[str, tuple[int, int]]:
    return {f"q{number}": (k, n) for number in range(questions)}


@pytest.mark.parametrize(
    ("questions", "samples", "passes"),
    [
        (8, 100, False),
        (8, 10_000, False),
        (20, 25, False),
        (24, 25, True),
        (64, 25, True),
        (120, 4, True),
        (200, 1, True),
    ],
)
def test_nothing_seen_rules_a_margin_out_only_with_enough_questions(questions, samples, passes):
    bounds = difference_bounds(same(questions, 0, samples), same(questions, 0, samples), MARGIN)
    assert (bounds.high < MARGIN) == passes
    assert bounds.low < 0 < bounds.high


@pytest.mark.parametrize("shape", [(8, 100), (64, 25)])
@pytest.mark.parametrize(
    ("rate", "icc", "shared"), [(0.0, 0.3, True), (0.02, 0.3, False), (0.1, 0.1, True), (0.3, 0.3, False)]
)
def test_at_the_margin_few_releases_pass_and_few_fail(shape, rate, icc, shared):
    passed, failed, _ = shares(releases(np.random.default_rng(1), shape, rate, icc, MARGIN, shared, 1000))
    assert passed <= 0.05 + 0.0139  # the last term is two standard errors of the simulation
    assert failed <= 0.05 + 0.0139


@pytest.mark.parametrize(
    ("shape", "place"), [((24, 25), 1), ((64, 25), 1), ((64, 25), 2), ((120, 4), 1), ((120, 4), 2)]
)
def test_a_bar_passes_as_often_as_foretold(shape, place):
    foretold = power_of([shape[1]] * shape[0], MARGIN, LEVEL)
    passed, _, _ = shares(releases(np.random.default_rng(7), shape, RATES[place], 0.1, 0.0, True, 1000))
    assert foretold[place] == pytest.approx(passed, abs=0.05)
    assert 0.1 < passed < 0.95


def test_a_plain_paired_t_passes_what_the_gate_does_not():
    passed, _, plain = shares(releases(np.random.default_rng(1), (8, 100), 0.0, 0.3, MARGIN, True, 1000))
    assert plain > 0.2
    assert passed == 0


def test_more_answers_or_questions_decide_as_told():
    arm, control = same(16, 0, 25), same(16, 0, 25)
    assert difference_bounds(arm, control, MARGIN).high > MARGIN
    told = needed(arm, control, MARGIN)
    assert told.questions is not None
    enough = same(told.questions, 0, 25)
    assert difference_bounds(enough, enough, MARGIN).high < MARGIN
    arm, control = same(60, 0, 1), same(60, 0, 1)
    assert difference_bounds(arm, control, 0.03).high > 0.03
    more = needed(arm, control, 0.03).samples
    assert more is not None
    assert difference_bounds(same(60, 0, more), same(60, 0, more), 0.03).high < 0.03


def test_one_question_has_bounds_too():
    bounds = difference_bounds({"a": (3, 4)}, {"a": (0, 4)}, MARGIN)
    assert bounds.estimate == 0.75
    assert bounds.low < bounds.estimate <= bounds.high


@pytest.mark.parametrize("margin", [0.0, -0.1, 1.0, 2.0, float("nan"), float("inf")])
def test_a_margin_that_cannot_be_is_refused(margin):
    with pytest.raises(ConfigurationError, match="a fraction above 0 and below 1"):
        check_margin(margin)


def test_no_common_question_is_an_error():
    with pytest.raises(EmptyDataError, match="no common question"):
        difference_bounds({"a": (1, 2)}, {"b": (1, 2)}, MARGIN)


@pytest.mark.parametrize("base", [0.005, 0.02])
def test_skewed_runs_at_the_margin_seldom_pass(base):
    rng, n = np.random.default_rng(3), np.full((150, 120), 4)
    draws = rng.random(n.shape)
    tuned = runs_of(rng, beta_rates(draws, base + MARGIN, 0.1), base + MARGIN, 1.5, 3)
    control = rng.binomial(4, beta_rates(draws, base, 0.1))
    estimate, _, above = margin_bounds(tuned.sum(axis=1), 3 * n, control, n, MARGIN)
    single = np.array([[0.0], [480.0]])
    apart = [run_distances([np.array([each.sum(axis=1), [480.0] * 3]), single], LEVEL)[1] for each in tuned]
    # t over the rates of the runs alone lets 8 to 12% pass.
    assert (estimate + np.hypot(above, apart) < MARGIN).mean() <= 0.05 + 0.036


def test_runs_that_agree_leave_little_open_and_a_side_with_one_run_nothing():
    single, alike, apart = (np.array([k, [480.0] * len(k)]) for k in ([5.0], [5.0, 5.0, 5.0], [0.0, 0.0, 15.0]))
    assert run_distances([single, single], LEVEL) == (0.0, 0.0)
    assert max(run_distances([alike, single], LEVEL)) < 0.03 < min(max(run_distances([apart, single], LEVEL)), 0.5)
    assert run_distances([apart, single], LEVEL) == run_distances([single, apart], LEVEL)[::-1]
