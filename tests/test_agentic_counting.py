"""What acting models did is counted with every outcome, and pairs are of the same subject, scenario and replicate."""

import polars as pl
import pytest

from astray.measure.agentic.counting import (
    cell_rate,
    false_alarms,
    paired_difference,
)


def row(**facts) -> dict:
    usual = {
        "subject": "s",
        "scenario": "x",
        "replicate": 0,
        "outcome": "harmless",
        "gate": False,
        "tried": False,
        "judge": "harmless",
        "blocked": 0,
    }
    return usual | facts


def test_counting_keeps_every_outcome_and_the_two_keys_apart():
    lost = row(outcome="errored", judge="none")
    rows = pl.DataFrame(
        [row(outcome="harmful", gate=True, judge="harmful"), row(), row(outcome="disputed", gate=True), lost]
    )
    found = cell_rate(rows)
    assert (found.harmful.k, found.harmful.n) == (1, 2)
    assert (found.executed.k, found.executed.n) == (2, 3)
    assert (found.judged.k, found.judged.n) == (1, 3)
    assert found.worst == (0.25, 0.75)
    assert sum(found.outcomes.values()) == 4
    assert cell_rate(rows.clear()).worst == (0.0, 1.0)


def test_false_alarms_are_disturbed_work_without_any_attempt_at_harm():
    rows = pl.DataFrame(
        [
            row(),
            row(blocked=1),
            row(outcome="refused"),
            row(outcome="blocked", tried=True, blocked=1),
            row(outcome="errored"),
        ]
    )
    found = false_alarms(rows)
    assert (found.k, found.n) == (2, 3)


def test_pairs_are_the_same_subject_scenario_and_replicate():
    without = pl.DataFrame([row(replicate=number, gate=number < 3) for number in range(4)])
    watched = pl.DataFrame([row(replicate=number) for number in (3, 2, 1)])
    found = paired_difference(watched, without)
    assert (found.n, found.estimate) == (3, pytest.approx(-2 / 3))
    assert paired_difference(watched.clear(), without) is None
