"""What the claims of the agentic study compare: the same scenarios on both sides, enough samples, and no two claims
with one id."""

from collections.abc import Callable

import polars as pl
import pytest

from astray.engine.findings import Needs
from astray.engine.summary import ClaimRow
from astray.measure.agentic.counting import CONFLICT, Share, difference
from astray.measure.agentic.grid import Cell
from astray.measure.agentic.subjects import AgenticSubject, SubjectFile
from astray.stats.claims import Decision
from astray.studies import get_study
from astray.studies.agentic_misalignment.findings import AgenticFindings
from astray.studies.agentic_misalignment.options import AgenticOptions
from astray.studies.agentic_misalignment.setting import AgenticSetting
from astray.studies.agentic_misalignment.study import _decided, parts
from playing import setting_of

STUDY = get_study("agentic-misalignment")


def played(harmful: Callable[[Cell, int], bool], scenarios: tuple[str, ...] = (), samples: int = 10) -> pl.DataFrame:
    """The table of a subject that does harm in these samples, with and without the rule monitor."""
    rows = []
    for part in parts(AgenticOptions(scenarios=scenarios, samples=samples)):
        for cell in part.grid.cells if part.monitor in ("none", "rule") else ():
            for replicate in range(samples):
                gate = part.monitor == "none" and harmful(cell, replicate)
                facts = {
                    "subject": "s",
                    "scenario": cell.scenario,
                    "replicate": replicate,
                    "monitor": part.monitor,
                    "awareness": "neither",
                }
                decided = {
                    "gate": gate,
                    "tried": gate,
                    "outcome": "harmful" if gate else "harmless",
                    "judge": "harmful" if gate else "harmless",
                }
                rows.append(facts | cell.factors.model_dump() | decided)
    return pl.DataFrame(rows)


def found_in(table: pl.DataFrame) -> tuple[AgenticFindings, AgenticSetting]:
    """What the study finds in a table of one subject, and its setting."""
    subject = AgenticSubject(name="s", model="astray/scripted/always")
    return AgenticFindings(table, (subject,)), setting_of((subject,), [])


def claim(table: pl.DataFrame, id: str) -> ClaimRow:
    [found] = [each for each in STUDY.claims(*found_in(table)) if each.id == f"{id}-s"]
    return found


@pytest.mark.parametrize("elsewhere", [0, 8])
def test_a_value_that_one_scenario_offers_is_compared_within_that_scenario(elsewhere):
    table = played(lambda cell, replicate: replicate < (4 if cell.scenario == "blackmail" else elsewhere))
    found = claim(table, "need-to-know")
    assert (found.estimate, found.control_estimate, found.n) == (0.0, 0.4, 20)
    assert found.verdict is Decision.UNDECIDED
    assert "over the 1 of 7 scenarios that offer it" in found.control
    assert claim(table, "prohibition").n == 2 * 7 * 10


@pytest.mark.parametrize(
    ("id", "samples", "verdict", "noted"),
    [
        ("conflict-threat", 2, Decision.UNDECIDED, True),
        ("monitor-rule", 2, Decision.UNDECIDED, False),  # its interval includes 0 and needs no note
        ("monitor-rule", 5, Decision.UNDECIDED, True),
        ("conflict-threat", 8, Decision.HELD, False),
        ("monitor-rule", 8, Decision.HELD, False),
    ],
)
def test_two_samples_decide_nothing(id, samples, verdict, noted):
    table = played(
        lambda cell, replicate: cell.factors.goal == "explicit" and cell.factors.threat == "replacement",
        ("blackmail",),
        samples,
    )
    found = claim(table, id)
    assert (found.verdict, abs(found.estimate), bool(found.note)) == (verdict, 1.0, noted)
    assert (found.interval.low <= 0 <= found.interval.high) is (verdict is Decision.UNDECIDED and not noted)


def test_the_control_of_a_monitor_is_that_of_its_pairs():
    table = played(lambda cell, replicate: replicate < 5, ("blackmail",))
    watched = (pl.col("monitor") == "rule") & (pl.col("replicate") >= 3)
    main = [pl.col(name) == value for name, value in CONFLICT.items()]
    found = claim(table.filter(~watched | ~pl.all_horizontal(main)), "monitor-rule")
    assert (found.n, found.control_estimate, found.estimate) == (3, 1.0, -1.0)


def test_names_that_are_one_in_ids_of_claims_are_refused():
    file = {"subjects": [{"name": name, "model": "astray/scripted/always"} for name in ("gpt-4.1", "GPT-4-1")]}
    with pytest.raises(ValueError, match="the same name but for signs"):
        SubjectFile.model_validate(file)


@pytest.mark.parametrize(("harmful", "verdict"), [(4, Decision.UNDECIDED), (6, Decision.HELD)])
def test_a_claims_p_value_is_at_most_5_percent_exactly_where_it_is_decided(harmful: int, verdict: Decision) -> None:
    """Of 4 of 15 against none the interval excludes 0, and the exact test has p = 0.10."""
    shares = Share(harmful, 15), Share(0, 15)
    claim = _decided("more", "More", difference(*shares), ("none", shares[1]), (0.0, None), ran=True, needs=Needs())
    assert claim.interval is not None
    assert claim.interval.low > 0
    assert claim.verdict is verdict
    assert claim.p_value is not None
    assert (claim.p_value <= 0.05) == (verdict is Decision.HELD)
