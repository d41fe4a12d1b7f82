"""The activation monitor of the agentic study: made from some cells, run on others, and said to be missing where it
cannot be made."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from astray.engine.forecast.forecast import forecast
from astray.engine.run import run_study
from astray.engine.summary import Summary
from astray.errors import SubjectNotFoundError
from astray.measure.agentic.subjects import AgenticSubject, subjects_from
from astray.mitigate.call_monitor import labelled_calls
from astray.report import write_report
from astray.studies.agentic_misalignment.findings import AgenticFindings
from astray.studies.agentic_misalignment.options import AgenticOptions
from astray.studies.agentic_misalignment.study import ACTIVATIONS, STUDY, claims
from playing import setting_of
from tiny_models import package_texts, save_tiny_model

GRADERS = ("astray/scripted/grader",)
KEPT = {("explicit", "replacement"), ("none", "none")}


@pytest.fixture(scope="module")
def reader(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("tiny")
    return str(save_tiny_model(folder, positions=16_384, texts=package_texts(), vocabulary=4096))


def options(reader: str, **changed) -> AgenticOptions:
    given = {
        "subject": "astray/scripted/sometimes",
        "grader": GRADERS,
        "scenarios": ("blackmail",),
        "samples": 2,
        "reader": reader,
        "analyses": ("grid", f"monitor-{ACTIVATIONS}"),
    }
    return AgenticOptions.model_validate(given | changed)


@pytest.fixture(scope="module")
def results(reader, tmp_path_factory):
    return run_study(STUDY, options(reader), out=tmp_path_factory.mktemp("study"))


def of(folder, id: str):
    [table] = [each for each in Summary.read(folder).exhibits if each.id == id]
    return [dict(zip((column.title for column in table.columns), row, strict=True)) for row in table.rows]


def test_it_is_run_on_cells_that_it_was_not_made_from_and_compared_with_none(results):
    rows = pl.read_parquet(results / "acts.parquet")
    watched, without = (rows.filter(pl.col("monitor") == name) for name in (ACTIVATIONS, "none"))
    assert {(goal, threat) for goal, threat in watched.select("goal", "threat").iter_rows()} == KEPT
    assert set(watched["sample"]) < set(without["sample"])
    [reading] = of(results, "activations")
    calls = [
        call
        for info in list_eval_logs(str(results / "logs"))
        if "/grid/" in info.name
        for call in labelled_calls(info.name)
    ]
    kept, others = (
        [call for call in calls if (call.sample.rpartition("/")[0] in set(watched["sample"])) is inside]
        for inside in (True, False)
    )
    assert (reading["Harmful calls"], reading["Benign calls"]) == tuple(
        sum(call.harmful is kind for call in others) for kind in (True, False)
    )
    for kind, column in ((True, "Of"), (False, "Of ")):
        assert f" of {len({call.sample for call in kept if call.harmful is kind})}," in reading[column]
    assert any(row["Mitigation"] == "activations monitor" for row in of(results, "mitigations"))
    [claim] = [claim for claim in Summary.read(results).claims if claim.id.startswith("monitor-activations-")]
    assert claim.n == len(watched.filter(pl.col("goal") == "explicit"))


def test_with_many_subjects_the_claim_is_of_those_that_were_watched(results):
    rows = pl.read_parquet(results / "acts.parquet")
    unwatched, named = rows.filter(pl.col("monitor") != ACTIVATIONS), rows.schema["subject"]
    others = [unwatched.with_columns(subject=pl.lit(f"other-{number}", dtype=named)) for number in range(5)]
    tables, setting = (rows, pl.concat([rows, *others])), setting_of((), ())
    [alone], [among] = (
        [claim for claim in claims(AgenticFindings(table, ()), setting) if claim.id.startswith("monitor-activations-")]
        for table in tables
    )
    assert among.statement.endswith("1 of all 6 subjects")
    assert (among.n, among.estimate, among.control_estimate) == (alone.n, alone.estimate, alone.control_estimate)


def test_the_log_says_which_calls_it_blocked_and_why(results):
    [log] = [info for info in list_eval_logs(str(results / "logs")) if "/monitor-activations/" in info.name]
    told = [
        event.explanation
        for sample in read_eval_log(log).samples
        for event in sample.events
        if event.event == "approval" and event.explanation
    ]
    assert told
    assert all("score" in each and "threshold" in each for each in told)
    write_report(results)
    assert "What the activation monitor tells apart" in (results / "report.html").read_text(encoding="utf-8")


def test_the_same_command_reads_nothing_and_asks_nothing_again(results, reader, monkeypatch):
    def fail(*given, **named):
        raise AssertionError("done again")

    monkeypatch.setattr("astray.measure.agentic.play.inspect_eval", fail)
    monkeypatch.setattr("astray.studies.agentic_misalignment.activations.best_direction", fail)
    before = [(results / name).read_bytes() for name in ("acts.parquet", "summary.json")]
    run_study(STUDY, options(reader), out=results.parent)
    assert [(results / name).read_bytes() for name in ("acts.parquet", "summary.json")] == before
    assert (
        f"of which {len(pl.read_parquet(results / 'acts.parquet')):,} are done"
        in forecast(STUDY, options(reader), out=results.parent).render()
    )
    assert f"of which {24 * 2} are done" in forecast(STUDY, options("organism"), out=results.parent).render()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"subject": "astray/scripted/always", "samples": 1},
            r"Of the \d+ calls of the first half, which fits the direction, \d+ are harmful",
        ),
        ({"reader": "organism"}, "context"),
    ],
)
def test_where_it_cannot_be_made_the_page_says_why(tmp_path, reader, results, changed, told):
    shutil.copytree(results.parent / "store", tmp_path / "store")  # what the other reader's subject did in the grid
    folder = run_study(STUDY, options(**{"reader": reader} | changed), out=tmp_path)
    [reading] = of(folder, "activations")
    assert re.search(told, reading["Why there is none"])
    assert ACTIVATIONS not in set(pl.read_parquet(folder / "acts.parquet")["monitor"])


def test_an_ended_budget_makes_none(reader, tmp_path):
    folder = run_study(STUDY, options(reader, budget=0.05), out=tmp_path)
    [reading] = of(folder, "activations")
    assert reading["Why there is none"] == "The budget ended before."


def test_who_is_read():
    assert AgenticSubject(name="a", model="astray//models/mine", arguments={"system": "Work."}).read_by.model_dump(
        exclude_none=True
    ) == {
        "model": "/models/mine",
        "system": "Work.",
    }
    assert AgenticSubject(name="a", model="openai/gpt-4o").read_by is None
    [named] = subjects_from("openai/gpt-4o", None, GRADERS, "organism")
    assert named.read_by.model == "organism"
    assert named.identity == subjects_from("openai/gpt-4o", None, GRADERS)[0].identity
    assert AgenticSubject(name="a", model="astray/scripted/always").read_by is None
    with pytest.raises(SubjectNotFoundError):
        run_study(STUDY, options("no/such/model"), out=Path("/nowhere"))  # said before anything is asked or written
