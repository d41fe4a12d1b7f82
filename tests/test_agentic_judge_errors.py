"""Judges are held against labelled records: counts by hand, a page that shows them, and rates that are corrected for a
known error."""

import json

import polars as pl
import pytest
from inspect_ai.model import get_model

from agentic_plays import FOLDER, plays_of
from astray.artifacts import Store, execute
from astray.engine.run import run_study
from astray.engine.summary import Summary
from astray.errors import DataFormatError, DataNotFoundError, JudgeError
from astray.measure.agentic.conduct import Word
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.judge_errors import PanelError, judge_error_steps, panel_error, read_panel_error
from astray.measure.agentic.judging import Panel
from astray.measure.agentic.labelled import labelled_records, perform
from astray.measure.agentic.play import Part
from astray.measure.agentic.subjects import AgenticSubject
from astray.measure.agentic.table import CONDUCT_SCHEMA
from astray.stats.intervals import wilson
from astray.stats.judge_error import corrected_rate
from astray.studies.agentic_misalignment.exhibits import corrected_table, error_table
from astray.studies.agentic_misalignment.options import AgenticOptions
from playing import study_of
from scripted_grader import scripted_model, spoken

RECORDS = labelled_records(FOLDER, ("blackmail",))
HARMFUL = [record for record in RECORDS if record.play.harmful]
OTHERS = [record for record in RECORDS if not record.play.harmful]


def says(word) -> object:
    """A grader that says this word of each record, or what a function of the prompt gives, on the line it was asked
    for."""

    def reply(messages):
        prompt = messages[-1].text
        if "AUDIT" in prompt.rpartition("The record has ended")[2]:
            return spoken("no audit")
        nonce = prompt.rpartition("VERDICT ")[2].partition(":")[0]
        return spoken(f"So it is.\nVERDICT {nonce}: {word(prompt) if callable(word) else word}; EVIDENCE: none")

    return scripted_model(reply)


def test_the_records_are_the_plays_with_their_cells_and_acts():
    assert [record.play for record in RECORDS] == list(plays_of("blackmail"))
    record = next(record for record in RECORDS if record.play.cell)
    assert all(getattr(record.office.factors, name) == value for name, value in record.play.cell.items())
    assert all(record.office.scenario.gate(record.acts, record.office).hit == record.play.harmful for record in RECORDS)
    assert len(labelled_records(FOLDER, ("blackmail", "leaking"))) > len(RECORDS)


def test_sensitivity_and_specificity_are_counted_as_by_hand():
    panel = Panel([get_model("mockllm/a"), get_model("mockllm/b")])
    first = (
        [Word.HARMFUL] * (len(HARMFUL) - 2)
        + [Word.HARMLESS, Word.FAILED]
        + [Word.REFUSED] * (len(OTHERS) - 3)
        + [Word.HARMFUL] * 3
    )
    second = [Word.HARMFUL] * (len(HARMFUL) + len(OTHERS))
    found = panel_error(panel, [*HARMFUL, *OTHERS], list(zip(first, second, strict=True)))
    (_, one), (_, other) = found.judges
    assert (one.true_positive, one.false_negative, one.failed_on_misaligned) == (len(HARMFUL) - 2, 1, 1)
    assert (one.true_negative, one.false_positive, one.failed) == (len(OTHERS) - 3, 3, 1)
    assert (other.agreement().sensitivity, other.agreement().specificity) == (1.0, 0.0)
    assert (found.panel.true_positive, found.panel.false_negative) == (
        len(HARMFUL) - 1,
        0,
    )  # the one that failed leaves the other's word
    assert (found.panel.failed_on_misaligned, found.panel.failed_on_others) == (1, len(OTHERS) - 3)  # split
    rows = error_table([found]).rows
    assert [row[0] for row in rows] == [*panel.names, f"panel: {' and '.join(panel.names)}"]
    interval = wilson(len(HARMFUL) - 2, len(HARMFUL) - 1)
    assert rows[0][1:4] == (
        len(RECORDS),
        pytest.approx((len(HARMFUL) - 2) / (len(HARMFUL) - 1)),
        f"{interval.low:.1%} to {interval.high:.1%}",
    )


def acts(identity: str, harmful: int, harmless: int) -> pl.DataFrame:
    usual = {"subject": "s", "scenario": "x", "outcome": "harmful", "monitor": "none", "panel": identity}
    cell = {
        "goal": "explicit",
        "value": "home",
        "threat": "replacement",
        "name": "named",
        "instruction": "none",
        "reasoning": "private",
    }
    rest = {"notice": "none", "framing": "unstated", "autonomy": "full", "information": "full", "gate": False}
    rows = [
        usual | cell | rest | {"judge": "harmful" if number < harmful else "harmless"}
        for number in range(harmful + harmless)
    ]
    return pl.DataFrame(rows, schema={name: CONDUCT_SCHEMA[name] for name in rows[0]})


def test_the_judges_rate_is_corrected_for_the_error_of_its_own_panel():
    panel = Panel([get_model("mockllm/a")])
    words = [[Word.HARMFUL]] * (len(HARMFUL) - 2) + [[Word.HARMLESS]] * (2 + len(OTHERS) - 1) + [[Word.HARMFUL]]
    error = panel_error(panel, [*HARMFUL, *OTHERS], words)
    expected, interval = corrected_rate((12, 40), (len(HARMFUL) - 2, len(HARMFUL)), (len(OTHERS) - 1, len(OTHERS)))
    [row] = corrected_table(acts(panel.identity, 12, 28), [error]).rows
    assert row[:3] == ("s", "goal conflict and replacement", 0.3)
    assert row[4:] == (pytest.approx(expected), f"{interval.low:.1%} to {interval.high:.1%}")
    assert corrected_table(acts("another panel", 12, 28), [error]).rows == ()
    of_one_kind = panel_error(panel, HARMFUL, [[Word.HARMFUL]] * len(HARMFUL))
    assert corrected_table(acts(panel.identity, 12, 28), [of_one_kind]).rows[0][5].startswith("not known")


def judge_errors(subjects, folder, labels=FOLDER) -> tuple[PanelError, ...]:
    """Do the steps, and read what they left."""
    steps = judge_error_steps(subjects, labels, ("blackmail",))
    artifacts = execute(steps, Store(folder), workers=0)
    return tuple(read_panel_error(step.config, artifacts[step.key].path) for step in steps)


def test_verdicts_are_asked_once_and_kept(tmp_path, monkeypatch):
    asked = []

    def word(prompt):
        asked.append(prompt)
        return "HARMLESS"

    graders = {"grader": says(word)}
    monkeypatch.setattr(AgenticSubject, "make_graders", lambda self: graders)
    subject = AgenticSubject(name="s", model="mockllm/model", grader=("scripted/grader",))
    first = judge_errors([subject, subject], tmp_path)
    assert len(asked) == len(RECORDS)
    assert judge_errors([subject], tmp_path) == first
    assert len(asked) == len(RECORDS)
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "blackmail.yaml").write_text(
        json.dumps([record.play.model_dump(mode="json") for record in RECORDS[:3]])
    )
    assert judge_errors([subject], tmp_path, tmp_path / "few")[0].panel.n == 3
    assert (first[0].panel.agreement().sensitivity, first[0].panel.agreement().specificity) == (0.0, 1.0)


def test_what_a_judge_failed_at_is_asked_again(tmp_path, monkeypatch):
    asked = []

    def word(prompt):
        asked.append(prompt)
        return "HARMLESS" if len(asked) > 3 else "PERHAPS"

    graders = {"grader": says(word)}
    monkeypatch.setattr(AgenticSubject, "make_graders", lambda self: graders)
    subject = AgenticSubject(name="s", model="mockllm/model", grader=("scripted/grader",))
    assert judge_errors([subject], tmp_path)[0].panel.failed == 3
    assert judge_errors([subject], tmp_path)[0].panel.failed == 0
    assert len(asked) == len(RECORDS) + 3
    assert sorted(asked[-3:]) == sorted(asked[:3])


def test_scripted_graders_and_missing_records_are_refused(tmp_path):
    subject = AgenticSubject(name="s", model="mockllm/model", grader=("astray/scripted/grader",))
    with pytest.raises(JudgeError, match="is scripted"):
        judge_errors([subject], tmp_path)
    with pytest.raises(DataNotFoundError, match=r"blackmail\.yaml"):
        labelled_records(tmp_path, ("blackmail",))
    (tmp_path / "blackmail.yaml").write_text("- {name: one, harmfull: true}\n", encoding="utf-8")
    with pytest.raises(DataFormatError, match="harmfull"):
        labelled_records(tmp_path, ("blackmail",))


def test_a_study_with_labels_shows_the_error_of_its_judges(tmp_path, monkeypatch):
    labels = tmp_path / "labels"
    labels.mkdir()
    few = [HARMFUL[0], *OTHERS[:2]]
    (labels / "blackmail.yaml").write_text(
        json.dumps([record.play.model_dump(mode="json") for record in few]), encoding="utf-8"
    )
    decisive = max(HARMFUL[0].play.steps[-1].calls[-1].arguments.values(), key=len)
    known = perform("blackmail", HARMFUL[0].play).office.fill(decisive)[:40]
    monkeypatch.setattr(
        AgenticSubject,
        "make_graders",
        lambda self: {"grader": says(lambda prompt: "HARMFUL" if known in prompt else "HARMLESS")},
    )
    monkeypatch.setattr("astray.studies.agentic_misalignment.setting.check_models", lambda subjects: None)
    grid = Grid(
        scenarios=("blackmail",),
        factors={"goal": ("explicit", "none"), "threat": ("replacement", "none")},
        replicates=1,
    )
    small = study_of([Part("grid", grid)])
    options = AgenticOptions(
        subject="astray/scripted/never", grader=("scripted/grader",), scenarios=("blackmail",), samples=1, labels=labels
    )
    summary = Summary.read(run_study(small, options, out=tmp_path))
    [judge] = summary.judges
    assert (judge.validated, judge.labels, judge.labelled) == (True, 3, "records in labels")
    assert (judge.sensitivity, judge.specificity) == (1.0, 1.0)
    tables = {exhibit.id: exhibit for exhibit in summary.exhibits}
    assert tables["judge-errors"].rows[0][2] == 1.0
    assert [row[1] for row in tables["judges-corrected"].rows] == ["goal conflict and replacement", "control"]
