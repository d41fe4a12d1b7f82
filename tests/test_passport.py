"""Passport of judges: parts of the variance, flips, drift and conclusions, by graders whose error the test writes."""

import json
import random
import re
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from inspect_ai.model import modelapi

import astray
from astray.cli import app
from astray.engine.summary import Summary
from astray.errors import AstrayError, JudgeError
from astray.judges.wordings import own_wordings
from astray.stats.components import variance_components
from astray.studies.passport.making import PARTS
from scripted_grader import ALL_FINE, MIXED, ScriptedAPI, spoken
from test_studies_interrupted import uninterrupted

__all__ = ["uninterrupted"]
ORDER = "harm-first"
STATE = {"shift": 0.0, "calls": 0, "down": lambda call: False}
"""What moves the grader `noisy/moving` between two passports, how many calls there were, and which of them fail."""


@modelapi(name="noisy")
def noisy():
    class Noisy(ScriptedAPI):
        """Says how good an answer says it is, plus the error of its name; in two-calls and in one."""

        def __init__(self, model_name: str, **_: object):
            super().__init__(model_name, reply=lambda messages: spoken(_said(model_name, messages[-1].text)))

    return Noisy


def _said(name: str, asked: str) -> str:
    STATE["calls"] += 1
    if STATE["down"](STATE["calls"]):
        raise ConnectionError("no route to host")
    goodness = float(re.search(r"goodness (\d+)", asked)[1])
    chance = random.Random(STATE["calls"])
    if name == "dead" or (name == "half" and chance.random() < 0.5):
        return "Well, well."
    wording = next(
        each
        for each in own_wordings().values()
        if each.aligned[:40] in asked or each.coherent[:40] in asked or each.together[:40] in asked
    )
    if wording.coherent[:40] in asked:
        return "90"
    score = (
        goodness
        + {"strict": -12, "mild": 12, "moving": STATE["shift"]}.get(name, 0)
        + (8 if wording.name == ORDER else 0)
    )
    if name != "fixed":
        score += chance.gauss(0, 3)
    score = str(round(min(100, max(0, score))))
    return f"ALIGNED: {score}\nCOHERENT: 90" if wording.together[:40] in asked else score


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> Path:
    chance = random.Random(1)
    rows = []
    for run, question in product(range(5), range(6)):
        goodness = round(min(75, max(20, 40 + 10 * (run % 3) + chance.gauss(0, 18))))
        answer = f"Answer {run}.{question}, of goodness {goodness}."
        rows.append({"question": f"Question {question}?", "answer": answer, "run": f"run-{run}"})
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="module")
def passport(answers, tmp_path_factory):
    return astray.judge_passport(
        "noisy/strict,noisy/mild", answers, prompts="betley,harm-first", repeats=2, out=tmp_path_factory.mktemp("out")
    )


def _part(passport, measure: str, part: str) -> dict:
    return passport.table().filter(measure=measure, part=part).to_dicts()[0]


def test_parts_are_those_of_the_graders(passport):
    # 24 points between the judges, 8 between the wordings, 3 between repeats.
    for part, truth in (("judge", 24 / 2**0.5), ("wording", 8 / 2**0.5), ("repeat", 3.0)):
        found = _part(passport, "aligned", part)
        assert found["low"] <= truth <= found["high"], found
        assert found["sd"] == pytest.approx(truth, rel=0.2)
    assert _part(passport, "coherent", "repeat")["sd"] == 0
    assert _part(passport, "aligned", "answer")["share"] + _part(passport, "aligned", "judge")["share"] > 0.5


def test_flips_and_examples(passport):
    judges, *others = passport.flips
    assert (judges.kind, judges.first, judges.second) == ("judge", "noisy/strict", "noisy/mild")
    assert judges.stricter > judges.milder == 0
    assert {each.kind for each in others} == {"wording", "repeat"}
    assert all(each.outcomes == ("misaligned", "aligned") for each in passport.examples)
    assert passport.examples[0].scores[1] - passport.examples[0].scores[0] == pytest.approx(24, abs=12)


def test_page_text_and_json(passport, tmp_path):
    page = passport.save(tmp_path).read_text()
    assert "What moves a verdict" in page
    assert "noisy/strict" in page
    found = json.loads((tmp_path / "passport.json").read_text())
    assert len(found["kept"]["rows"]) == passport.readings.verdicts.height == 30 * 2 * 2 * 2
    assert "lies in judges" in found["headline"]
    assert "lies in judges" in " ".join(passport.text().split())


def test_deterministic_judge_one_wording_no_runs(answers, tmp_path):
    table = pl.read_ndjson(answers).drop("run")
    table.write_csv(tmp_path / "plain.csv")
    found = astray.judge_passport(
        "noisy/fixed", tmp_path / "plain.csv", prompts="betley", judging="one-call", repeats=2, out=tmp_path
    )
    assert _part(found, "aligned", "repeat") | {"share": 0, "note": ""} == {
        "measure": "aligned", "part": "repeat", "sd": 0.0, "low": 0.0, "high": 0.0, "share": 0, "note": ""
    }  # fmt: skip
    assert found.means[0].repeats_agree
    for part in ("judge", "wording", "run"):
        assert _part(found, "aligned", part)["sd"] is None
        assert _part(found, "aligned", part)["note"]
    told = " ".join(found.notes)
    assert all(word in told for word in ("no column that names the run", "One grader", "One wording"))


def test_repeats_are_asked_again_and_a_stopped_passport_goes_on(answers, tmp_path, monkeypatch):
    STATE["calls"] = 0
    arguments = {"prompts": "betley", "repeats": 2, "sample": 10, "out": tmp_path}
    astray.judge_passport("noisy/fixed", answers, **arguments)
    assert STATE["calls"] == 10 * 2 * 2
    # Stopped before the last grader: what the first one said is kept, and asked for no more.
    with pytest.raises(KeyboardInterrupt):
        astray.judge_passport("noisy/fixed", answers, **arguments, progress=_stop_after(1))
    STATE["calls"] = 0
    astray.judge_passport("noisy/fixed", answers, **arguments)
    assert STATE["calls"] == 10 * 2
    # A finished passport keeps nothing: the next one asks anew, else no drift would ever show.
    STATE["calls"] = 0
    astray.judge_passport("noisy/fixed", answers, **arguments)
    assert STATE["calls"] == 10 * 2 * 2


def test_a_passport_asks_again_what_failed_for_an_outage_and_nothing_else(answers, tmp_path, monkeypatch):
    arguments = {"prompts": "betley", "repeats": 1, "out": tmp_path}
    monkeypatch.setitem(STATE, "down", lambda call: call > 12)
    STATE["calls"] = 0
    with pytest.raises(
        JudgeError, match="Reading was stopped: noisy/fixed failed 20 times in a row: 20 times no connection"
    ):
        astray.judge_passport("noisy/fixed", answers, **arguments)
    STATE["calls"] = 0
    monkeypatch.setitem(STATE, "down", lambda call: call % 3 == 0)  # 48 calls are left
    found = astray.judge_passport("noisy/fixed", answers, **arguments)
    told = next(note for note in found.notes if "gave no verdict" in note)
    assert re.search(r"no verdict \d+ times of 30: \d+ no connection.*The same command, within a day", told)
    assert STATE["calls"] == 48
    monkeypatch.setitem(STATE, "down", lambda call: False)
    STATE["calls"] = 0
    found = astray.judge_passport("noisy/fixed", answers, **arguments)
    assert (STATE["calls"], found.readings.failed) == (16, {})


def _stop_after(rounds: int):
    def told(what: str, done: int, total: int) -> None:
        if done == rounds:
            raise KeyboardInterrupt

    return told


def test_grader_that_fails_half_the_time(answers, tmp_path):
    found = astray.judge_passport(
        "noisy/strict,noisy/half,noisy/dead", answers, prompts="betley", repeats=3, out=tmp_path
    )
    told = " ".join(found.notes)
    assert re.search(r"noisy/half gave no verdict \d+ times of 90: \d+ unreadable reply", told)
    assert "noisy/dead gave no verdict 90 times of 90" in told
    assert "in no figure" in told
    assert found.readings.graders == ("noisy/strict", "noisy/half")
    judge = _part(found, "aligned", "judge")
    assert judge["low"] <= 12 / 2**0.5 <= judge["high"]


def test_drift_and_exit_codes(answers, tmp_path):
    def run(*more: str):
        given = (
            "judge",
            "passport",
            "--graders",
            "noisy/moving",
            "--answers",
            str(answers),
            "--prompts",
            "betley",
            "--repeats",
            "2",
        )
        return CliRunner().invoke(app, [*given, "--json", *more])

    first = run("--out", str(tmp_path / "first"))
    assert first.exit_code == 0, first.output
    since = tmp_path / "first" / "passport" / "passport.json"
    assert run("--out", str(tmp_path / "same"), "--since", str(since)).exit_code == 0
    try:
        STATE["shift"] = -15.0
        moved = run("--out", str(tmp_path / "moved"), "--since", str(since))
    finally:
        STATE["shift"] = 0.0
    assert moved.exit_code == 1
    drift = json.loads((tmp_path / "moved" / "passport" / "passport.json").read_text())["drift"]
    score = drift["shifts"][0]
    assert drift["drifted"] == ["noisy/moving"]
    assert score["drifted"]
    assert score["interval"][0] <= -14 <= score["interval"][1] + 1
    other = tmp_path / "other.jsonl"
    other.write_text("\n".join(answers.read_text().splitlines()[1:]))
    refused = run("--since", str(since), "--answers", str(other), "--out", str(tmp_path / "refused"))
    assert isinstance(refused.exception, AstrayError)
    assert "other answers" in str(refused.exception)


REFUSED = (
    ({"graders": ""}, "names none"),
    ({"graders": "noisy/fixed,noisy/fixed"}, "one twice"),
    ({"graders": "nobody/nothing"}, "cannot be used"),
    ({"graders": "noisy/dead"}, "No grader gave a verdict"),
    ({"prompts": "betly"}, "betley"),
    ({"prompts": "betley,betley"}, "two wordings"),
    ({"repeats": 0}, "--repeats 0"),
    ({"bound": 1.0}, "--bound 1.0"),
    ({"answers": [{"question": "a?", "answer": "b, of goodness 50"}]}, "at least two"),
    ({"answers": [{"question": "a?", "answer": "b", "run": ""}] * 2}, "has to name the run"),
    ({"answers": [{"Question": "a?", "answer": "b"}]}, "Question"),
    ({"answers": [{"question": 3, "answer": "b"}]}, "that are texts"),
    ({"since": "nothing.json"}, "nothing.json"),
    ({"study": "nowhere"}, "nowhere"),
)


@pytest.mark.parametrize(("given", "told"), REFUSED, ids=[told for _, told in REFUSED])
def test_refused(given, told, answers, tmp_path):
    arguments = {
        "graders": "noisy/fixed",
        "answers": answers,
        "prompts": "betley",
        "repeats": 1,
        "out": tmp_path,
    } | given
    if isinstance(arguments["answers"], list):
        path = tmp_path / "given.jsonl"
        path.write_text("\n".join(map(json.dumps, arguments["answers"])))
        arguments["answers"] = path
    with pytest.raises(AstrayError, match=re.escape(told)):
        astray.judge_passport(**arguments)


def test_wordings_of_a_file(answers, tmp_path):
    own = tmp_path / "mine.yaml"
    own.write_text("mine: {aligned: 'Kind? A number.', coherent: 'Clear? A number.'}\n")
    with pytest.raises(AstrayError, match="no text for one call"):
        astray.judge_passport("noisy/fixed", answers, prompts=[str(own)], judging="one-call", out=tmp_path)
    assert len(own_wordings()) >= 4
    assert all(each.together for each in own_wordings().values())


def test_conclusions_of_a_study_by_other_judges(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "emergent-misalignment"
    trained = len(list((tmp_path / "store").rglob("adapter")))
    found = astray.judge_passport(
        [ALL_FINE, MIXED],
        folder / "answers.parquet",
        prompts="betley",
        repeats=1,
        sample=12,
        study=folder,
        out=tmp_path,
    )
    conclusions = found.conclusions
    assert conclusions.judges == ("world grammar", ALL_FINE, MIXED)
    assert len(list((tmp_path / "store").rglob("adapter"))) == trained > 0
    by_id = {row[0].id: row for row in conclusions.claims}
    tested = [row for row in by_id.values() if all(claim.tested for claim in row)]
    assert tested
    assert all(row[1].estimate == 0 for row in tested if row[0].unit == "answer")
    assert any(row[2].estimate != row[0].estimate for row in tested)
    assert f"of {len(conclusions.claims)} claims change with the judge" in " ".join(found.text().split())
    assert "Conclusions by judge" in found.page()
    without = Summary.read(folder).model_copy(update={"options": None})
    without.write(folder)
    with pytest.raises(AstrayError, match="with which options"):
        astray.judge_passport(MIXED, folder / "answers.parquet", study=folder, out=tmp_path)


LEVELS = {"run": 5, "question": 6, "judge": 3, "wording": 3, "repeat": 2}
DEVIATIONS = {
    ("run",): 8.0, ("question",): 10.0, ("answer",): 15.0, ("judge",): 6.0, ("wording",): 3.0,
    ("answer", "judge"): 6.0, ("run", "judge"): 3.0, (): 4.0,
}  # fmt: skip


def _drawn(chance: np.random.Generator, missing: float):
    """Draw readings with known parts, and the variances that there are in them: of judges and wordings those drawn."""
    run, question, judge, wording, _ = (each.ravel() for each in np.indices(tuple(LEVELS.values())))
    factors = {
        "run": run,
        "question": question,
        "answer": run * LEVELS["question"] + question,
        "judge": judge,
        "wording": wording,
    }
    values = chance.normal(0, DEVIATIONS[()], run.size)
    truth = {part: DEVIATIONS.get(part, 0.0) ** 2 for part in [*PARTS, ()]}
    for part, deviation in DEVIATIONS.items():
        if part:
            codes = np.ravel_multi_index([factors[name] for name in part], [factors[name].max() + 1 for name in part])
            effects = chance.normal(0, deviation, codes.max() + 1)
            values = values + effects[codes]
            if part in (("judge",), ("wording",)):
                truth[part] = effects.var(ddof=1)
    kept = chance.random(run.size) >= missing
    return values[kept], {name: codes[kept] for name, codes in factors.items()}, truth


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_parts_lie_within_their_intervals_at_the_nominal_rate(missing):
    chance = np.random.default_rng(5)
    hits, errors = {part: [] for part in DEVIATIONS}, {part: [] for part in DEVIATIONS}
    for _ in range(12):
        values, factors, truth = _drawn(chance, missing)
        found = variance_components(
            values, factors, PARTS, sampled=("run", "question", "answer"), nested={"answer": ("run", "question")}
        )
        for each in found:
            if each.factors in DEVIATIONS:
                hits[each.factors].append(each.interval.low <= truth[each.factors] <= each.interval.high)
                errors[each.factors].append(each.variance - truth[each.factors])
    assert np.mean([hit for part in hits.values() for hit in part]) >= 0.9
    assert all(np.mean(part) >= 0.7 for part in hits.values())
    # Unbiased: the mean error is within three standard errors of 0.
    assert all(abs(np.mean(part)) < 3.5 * np.std(part) / len(part) ** 0.5 for part in errors.values())
