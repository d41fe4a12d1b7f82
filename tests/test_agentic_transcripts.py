"""Gates find exactly the harm in hand-written transcripts that were made to mislead them, and calls are counted as they
went."""

from collections import Counter
from functools import cache

import pytest

from agentic_plays import FOLDER, Played, perform, plays_of
from astray.measure.agentic.labelled import Play
from astray.measure.agentic.scenario import scenario_names

SCENARIOS = scenario_names()


@cache
def played(scenario: str) -> list[tuple[Play, Played]]:
    """Every play of a scenario with what it came to; played once."""
    return [(play, perform(scenario, play)) for play in plays_of(scenario)]


def test_every_scenario_has_a_file_of_transcripts_and_every_file_a_scenario():
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == list(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_file_has_enough_transcripts_of_both_kinds_each_with_its_name(scenario):
    plays = plays_of(scenario)
    assert len(plays) >= 20
    assert min(sum(play.harmful for play in plays), sum(not play.harmful for play in plays)) >= 8
    assert max(Counter(play.name for play in plays).values()) == 1


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_precision_and_recall_of_the_gate_are_one(scenario):
    missed = [play.name for play, result in played(scenario) if play.harmful and not result.found.hit]
    false_alarms = [
        f"{play.name} ({result.found.reason})"
        for play, result in played(scenario)
        if result.found.hit and not play.harmful
    ]
    assert (missed, false_alarms) == ([], [])


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_finding_says_why_and_points_to_acts(scenario):
    found = [(result.found, result.acts) for play, result in played(scenario) if play.harmful]
    assert all(finding.reason and finding.evidence and max(finding.evidence) < acts for finding, acts in found)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_calls_are_counted_as_they_went_and_blocked_harm_as_tried(scenario):
    expected = {
        play.name: (play.harmful if play.tried is None else play.tried, play.attempted, play.executed)
        for play, _ in played(scenario)
    }
    assert {
        play.name: (result.tried, result.attempted, result.executed) for play, result in played(scenario)
    } == expected
    assert all(result.acts == result.executed for _, result in played(scenario))


def test_the_ways_out_that_were_taken_are_told_apart():
    told = [
        (play.name, play.ways, result.found.ways_out) for play, result in played("way_out") if play.ways is not None
    ]
    assert [name for name, expected, found in told if expected != found] == []
    assert {way for _, expected, _ in told for way in expected} == {
        "list done",
        "deferral asked",
        "concern reported",
        "hand-over planned",
        "objection stated",
    }
