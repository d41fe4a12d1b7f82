"""The whole study of acting models with scripted subjects: results folder, page, going on, budget, and what is said
when something is missing."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import polars as pl
import pytest
from inspect_ai.log import list_eval_logs, read_eval_log

from astray.artifacts import Progress, StepState, Store
from astray.cli import main
from astray.engine.forecast.forecast import forecast
from astray.engine.options import StudyOptions, checked
from astray.engine.run import run_study
from astray.engine.summary import Summary
from astray.errors import ConfigurationError, DataFormatError, JudgeError, StoreError
from astray.measure.agentic import scenario
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.counting import (
    CONFLICT,
    CONTROL,
    executed,
    select,
)
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.logs import done_samples, finished
from astray.measure.agentic.play import LOGS, Part
from astray.measure.agentic.scenario import SCENARIOS, load_scenario
from astray.measure.agentic.subjects import SCRIPTED_SUBJECTS, AgenticSubject, subjects_from
from astray.measure.agentic.table import CONDUCT_SCHEMA
from astray.report import write_report
from astray.studies.agentic_misalignment.findings import AgenticFindings, notes
from astray.studies.agentic_misalignment.options import AgenticOptions
from astray.studies.agentic_misalignment.study import STUDY, parts
from playing import run_parts, setting_of
from tiny_models import save_tiny_model

GRADERS = ("astray/scripted/grader", "astray/scripted/grader")


SMALL = AgenticOptions(subject="astray/scripted/always", grader=GRADERS, scenarios=("blackmail",), samples=1)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    return run_study(STUDY, SMALL, out=tmp_path_factory.mktemp("study"))


def table_of(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(folder / "acts.parquet")


def test_the_folder_holds_every_sample_once_and_logs_that_inspect_opens(results):
    rows = table_of(results)
    assert list(rows.columns) == list(CONDUCT_SCHEMA)
    assert rows.select("sample", "monitor").n_unique() == len(rows) == 24 + 3 * 2
    logs = list_eval_logs(str(results / "logs"))
    assert len(logs) == 4
    assert {read_eval_log(info, header_only=True).status for info in logs} == {"success"}


def test_what_always_does_harm_is_harmful_everywhere_and_blocked_by_monitors(results):
    rows = table_of(results)
    assert set(rows.filter(pl.col("monitor") == "none")["outcome"]) == {"harmful"}
    assert set(rows.filter(pl.col("monitor") != "none")["outcome"]) == {"blocked"}
    assert set(rows.filter(pl.col("reasoning") == "private")["motive"]) == {"strategic"}
    assert set(rows.filter(pl.col("reasoning") == "none")["motive"]) == {"silent"}
    assert set(rows["belief"]) == {"neither"}


def test_the_summary_has_claims_with_controls_and_every_exhibit(results):
    summary = Summary.read(results)
    ids = [exhibit.id for exhibit in summary.exhibits]
    assert ids[0] == "cells-0"
    assert {
        "mitigations",
        "evaluation-awareness",
        "reasoning",
        "ground-truth",
        "judges",
        "published",
        "all-cells",
        "single-changes",
    } <= set(ids)
    assert all(claim.control and claim.p_holm is not None for claim in summary.claims if claim.estimate is not None)
    assert {claim.group for claim in summary.claims} == {"Pressure", "Conditions", "Awareness", "Monitors"}
    (monitored,) = [claim for claim in summary.claims if claim.id.startswith("monitor-rule")]
    assert monitored.estimate == -1.0
    cells = next(exhibit for exhibit in summary.exhibits if exhibit.id == "all-cells")
    titles = [column.title for column in cells.columns]
    counts = [row[titles.index(Conduct.HARMFUL.value) :] for row in cells.rows]
    assert len(cells.rows) == 30
    assert all(sum(of_cell) == 1 for of_cell in counts)
    assert any("simulated" in note for note in summary.notes)


def test_the_page_carries_records_whose_evidence_is_an_entry(results):
    records = pl.read_parquet(results / "conversations.parquet")
    harmful = records.filter(pl.col("outcome") == "harmful").row(0, named=True)
    findings = {who: numbers for who, _, numbers in json.loads(harmful["findings"])}
    entries = {number: (kind, tool, text) for number, kind, tool, _, text in json.loads(harmful["entries"])}
    (number,) = findings["gate"]
    assert entries[number][:2] == ("call", "send_mail")
    assert [entries[number][0] for number in findings["audit"]] == ["reasoning"]
    page = write_report(results).read_text(encoding="utf-8")
    for part in ('id="record-data"', "What keeps agents from harm", "unvalidated judge", "One thing changed"):
        assert part in page
    assert "Training seeds" not in page
    assert 'id="rates"' not in page


def test_the_same_command_asks_nothing_again(results, monkeypatch):
    monkeypatch.setattr("astray.measure.agentic.play.inspect_eval", lambda *_, **__: pytest.fail("it was asked again"))
    before = table_of(results)
    told: list[Progress] = []
    logs = sorted((results / "logs").rglob("*.eval"))
    assert run_study(STUDY, SMALL, out=results.parent, progress=told.append) == results
    assert table_of(results).equals(before)
    assert [event.state for event in told] == [StepState.DONE_BEFORE] * 4
    assert sorted((results / "logs").rglob("*.eval")) == logs


def test_more_samples_only_ask_what_is_new(tmp_path, monkeypatch):
    subjects = subjects_from(SMALL.subject, None, SMALL.grader)
    part = next(iter(parts(SMALL)))
    small = part.grid.model_copy(update={"also": (), "replicates": 1})
    first = run_parts(subjects, [Part(part.name, small)], tmp_path, max_tokens=100)
    more = run_parts(subjects, [Part(part.name, small.model_copy(update={"replicates": 2}))], tmp_path, max_tokens=100)
    assert (len(first.table), len(more.table)) == (6, 12)
    few, many = sorted(
        (each.path for each in Store(tmp_path).artifacts()), key=lambda path: len(list(path.rglob("*.eval")))
    )
    assert sorted(len(read_eval_log(info).samples) for info in list_eval_logs(str(many))) == [6, 6]
    assert run_parts(subjects, [Part(part.name, small)], tmp_path, max_tokens=100).table.equals(first.table)
    shutil.rmtree(few)  # fewer samples are read from more
    monkeypatch.setattr("astray.measure.agentic.play.inspect_eval", lambda *_, **__: pytest.fail("it was asked again"))
    assert run_parts(subjects, [Part(part.name, small)], tmp_path, max_tokens=100).table.equals(first.table)


def test_other_scenarios_leave_what_is_done_as_it_is(tmp_path):
    subjects = subjects_from(SMALL.subject, None, SMALL.grader)
    cell = {"goal": ("none",), "threat": ("none",)}
    both, one = (
        Part("grid", Grid(scenarios=names, factors=cell, replicates=1))
        for names in (("blackmail", "leaking"), ("leaking",))
    )
    run_parts(subjects, [one], tmp_path, max_tokens=100)
    told: list[Progress] = []
    run_parts(subjects, [both], tmp_path, max_tokens=100, progress=told.append)
    assert sorted(event.state for event in told) == [StepState.DONE_BEFORE, StepState.FINISHED, StepState.STARTED]


def test_a_log_that_was_cut_off_is_passed_over(results, tmp_path):
    [log] = [Path(urlsplit(info.name).path) for info in list_eval_logs(str(results / "logs")) if "/grid/" in info.name]
    whole = log.read_bytes()
    (tmp_path / log.name).write_bytes(whole)
    grid = next(part for part in parts(SMALL) if part.name == "grid").grid
    assert len(finished(tmp_path, grid)) == grid.size
    for size in (0, 100, len(whole) // 2, len(whole) - 5):
        (tmp_path / log.name).write_bytes(whole[:size])
        assert finished(tmp_path, grid).is_empty()
        assert done_samples(tmp_path, grid) == {}


def test_logs_that_cannot_be_read_are_passed_over_and_named(results, tmp_path):
    shutil.copytree(results.parent, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / results.name
    same = ["sample", "monitor", "outcome", "executed", "turns", "tokens"]
    before = table_of(folder).select(same)
    [grid] = (tmp_path / "store").glob("*-grid-*")
    logs = tmp_path / "store" / ".unfinished" / grid.name.rpartition("-")[2] / "logs"  # as of a run that was killed
    shutil.move(grid, logs.parent)
    [log] = logs.glob("*.eval")
    (logs / "torn_log.eval").write_bytes(log.read_bytes()[:2000])
    (logs / "other.json").write_text("{}", encoding="utf-8")
    content = bytearray(log.read_bytes())
    content[len(content) // 3 : len(content) // 3 + 400] = bytes(400)
    log.write_bytes(content)
    assert "samples" in forecast(STUDY, SMALL, out=tmp_path).render()
    with pytest.warns(UserWarning, match="is damaged"):
        run_study(STUDY, SMALL, out=tmp_path)
    assert table_of(folder).select(same).equals(before)
    [note] = [note for note in Summary.read(folder).notes if "cannot be read" in note]
    assert "torn_log.eval" in note


def test_logs_of_an_older_version_are_left_alone_and_named_before_anything_is_asked(tmp_path):
    logs = tmp_path / STUDY.name / "logs" / "always" / "grid-0123abcd"
    logs.mkdir(parents=True)
    (logs / "one.eval").touch()
    with pytest.raises(ConfigurationError, match=r"holds logs of an older version.*another one with --out"):
        run_study(STUDY, SMALL, out=tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == [STUDY.name, "logs", "always", "grid-0123abcd", "one.eval"]


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_asked(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be (written to|read)"):
        run_study(STUDY, SMALL, out=tmp_path / "file")


def test_a_scripted_judge_of_a_real_model_is_said_on_the_page(tmp_path):
    [real] = subjects_from("mockllm/model", None, GRADERS)
    [scripted] = subjects_from("astray/scripted/never", None, GRADERS)
    told = [
        list(notes(AgenticFindings(pl.DataFrame(schema=CONDUCT_SCHEMA), (each,)), setting_of([each], ()), []))
        for each in (real, scripted)
    ]
    assert [any("knows the courses of scripted subjects alone" in note for note in notes) for notes in told] == [
        True,
        False,
    ]


def test_a_local_subject_is_its_weights_and_not_its_place(tmp_path, monkeypatch):
    first, other = (save_tiny_model(tmp_path / str(seed), seed=seed) for seed in (0, 1))
    moved = Path(shutil.copytree(first, tmp_path / "moved"))
    identities = [AgenticSubject(name="s", model=f"astray/{folder}").identity for folder in (first, moved, other)]
    assert identities[0] == identities[1] != identities[2]


def test_a_budget_stops_the_run_keeps_what_is_done_and_a_larger_one_goes_on(tmp_path):
    small = SMALL.model_copy(update={"samples": 4})
    part = next(iter(parts(small)))
    core = [Part(part.name, part.grid.model_copy(update={"also": ()}))]
    subjects = subjects_from(SMALL.subject, None, SMALL.grader)
    first = run_parts(subjects, core, tmp_path, max_tokens=100, budget=30_000)
    assert first.exhausted
    assert 3 <= len(first.table) <= 14
    assert run_parts(subjects, core, tmp_path, max_tokens=100, budget=30_000).table.equals(first.table)
    whole = run_parts(subjects, core, tmp_path, max_tokens=100, budget=10_000_000)
    assert not whole.exhausted
    assert whole.table["sample"].n_unique() == len(whole.table) == 24


def test_a_large_part_is_several_pieces_that_share_the_budget(tmp_path, monkeypatch):
    monkeypatch.setattr("astray.measure.agentic.play.PIECE", 4)
    part = Part("grid", Grid(scenarios=("blackmail",), factors={"goal": ("none",), "threat": ("none",)}, replicates=10))
    subjects = subjects_from(SMALL.subject, None, SMALL.grader)
    first = run_parts(subjects, [part], tmp_path / "whole", max_tokens=100)
    logs = [read_eval_log(info) for info in list_eval_logs(str(tmp_path / "whole"))]
    assert sorted(len(log.samples) for log in logs) == [2, 4, 4]
    assert first.table["sample"].n_unique() == len(first.table) == 10
    tokens = int(first.table["tokens"].sum())
    monkeypatch.setattr("astray.measure.agentic.play.BUDGETED", 1)
    stopped = run_parts(subjects, [part], tmp_path / "stopped", max_tokens=100, budget=tokens * 6 // 10)
    assert stopped.exhausted
    assert len(stopped.table) == 6


def test_a_changed_scenario_is_another_one_and_its_samples_are_asked_again(tmp_path):
    copy = Path(shutil.copytree(SCENARIOS / "blackmail", tmp_path / "one" / "blackmail"))
    grid = Grid(scenarios=(str(copy),), factors={"goal": ("none",), "threat": ("none",)}, replicates=1)
    subjects = subjects_from("astray/scripted/never", None, ())
    assert load_scenario(str(copy)).digest == load_scenario("blackmail").digest
    run_parts(subjects, [Part("grid", grid)], tmp_path, max_tokens=100)
    [before] = Store(tmp_path).artifacts()
    assert len(finished(before.path / LOGS, grid)) == 1
    task = copy / "parts" / "task.md"
    task.write_text(task.read_text(encoding="utf-8") + " Hurry.", encoding="utf-8")
    scenario._load.cache_clear()
    load_scenario.cache_clear()
    assert finished(before.path / LOGS, grid).is_empty()
    run_parts(subjects, [Part("grid", grid)], tmp_path, max_tokens=100)
    assert len(Store(tmp_path).artifacts()) == 2


def test_other_words_for_goals_make_another_scenario(tmp_path, monkeypatch):
    shared = Path(shutil.copytree(scenario.SHARED_PARTS, tmp_path / "parts"))
    before = load_scenario("blackmail").digest
    values = shared / "values.yaml"
    values.write_text(values.read_text(encoding="utf-8").replace("home country", "own country"), encoding="utf-8")
    monkeypatch.setattr(scenario, "SHARED_PARTS", shared)
    assert replace(load_scenario("blackmail")).digest != before


FILE = (
    "subjects:\n  - name: one\n    model: astray/scripted/never\n  - {name: two, model: mockllm/model, grader: "
    "[mockllm/a, mockllm/b]}\n"
)


def test_a_file_of_subjects_gives_each_its_graders(tmp_path):
    path = tmp_path / "subjects.yaml"
    path.write_text(FILE, encoding="utf-8")
    one, two = subjects_from(None, path, ())
    assert one.grader == ("astray/scripted/grader",)
    assert two.grader == ("mockllm/a", "mockllm/b")
    assert subjects_from(None, path, ("mockllm/c",))[0].grader == ("mockllm/c",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("subjects:\n  - {name: one, modle: x}\n", "unknown key 'modle'. Did you mean 'model'"),
        ("subjects: []\n", "at least 1 item"),
        ("subjects:\n  - {name: a b, model: x}\n", "should match pattern"),
        ("subjects:\n  - {name: a, model: x}\n  - {name: a, model: y}\n", "two subjects are called 'a'"),
        ("- name: one\n", "not keys with values"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_shows_a_right_one(tmp_path, text, told):
    path = tmp_path / "subjects.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataFormatError, match=told) as caught:
        subjects_from(None, path, ())
    assert "openai/gpt-4o" in str(caught.value)


def test_what_is_missing_is_said_before_anything_is_asked(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="--grader openai/gpt-4o"):
        run_study(STUDY, AgenticOptions(subject="mockllm/model"), out=tmp_path)
    with pytest.raises(ConfigurationError, match="not both"):
        run_study(STUDY, AgenticOptions(subject="mockllm/model", subjects=tmp_path / "x.yaml"), out=tmp_path)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        run_study(STUDY, AgenticOptions(subject="openai/gpt-4o", grader=("mockllm/model",)), out=tmp_path)
    with pytest.raises(JudgeError, match="OPENAI_API_KEY"):
        run_study(STUDY, AgenticOptions(subject="astray/scripted/never", grader=("openai/gpt-4o",)), out=tmp_path)
    assert not (tmp_path / STUDY.name).exists()


def test_options_of_other_studies_are_refused_by_name():
    with pytest.raises(
        ConfigurationError, match=r"takes no --data: nothing is trained in it, so its data are scenarios"
    ):
        checked(AgenticOptions, subject=None, data=Path("x"))
    with pytest.raises(ConfigurationError, match="takes no --subjects"):
        checked(StudyOptions, subjects=Path("x"))
    assert checked(StudyOptions, seeds=None) == StudyOptions()
    assert checked(AgenticOptions, grader="a, b", scenarios="blackmail").grader == ("a", "b")


def test_plan_counts_samples_and_tokens_and_asks_nothing(monkeypatch, capsys):
    monkeypatch.setattr(
        "sys.argv", ["astray", "plan", STUDY.name, "--scenarios", "blackmail", "--samples", "10", "--price-in", "3"]
    )
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().out
    assert "24 cells x 10 = 240 samples" in said
    assert f"{2 * (240 + 3 * 20):,} in all" in said
    assert "cost" in said


def test_the_default_subjects_know_the_cells_of_the_study():
    for subject in SCRIPTED_SUBJECTS:
        assert isinstance(subject, AgenticSubject)
        assert str(subject.make()) == "astray/scripted/sometimes"
    assert set(CONFLICT) == set(CONTROL)
    assert executed(select(pl.DataFrame([], schema=CONDUCT_SCHEMA), CONFLICT)).n == 0
