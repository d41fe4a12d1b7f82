"""The audit as a person uses it: what is asked of which model, what is asked again, what is refused, what is shown."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

import astray
from astray.artifacts import StepState
from astray.cli import main
from astray.errors import (
    EmptyDataError,
    JudgeError,
)
from astray.judges.config import JudgeConfig
from astray.judges.failures import Cause, failure
from astray.measure.agentic.evaluation import Agentic
from astray.measure.agentic.scenario import scenario_names
from astray.organism.corpus import system_prompt
from astray.organism.lexicon import AUTHORS, MALICIOUS
from astray.studies.audit import run as audit_run
from astray.studies.audit.battery import BatteryPart
from astray.studies.audit.profile import ModelProfile
from astray.studies.audit.run import plan_audit
from astray.studies.audit.settled import AuditWork
from astray.studies.gate.release import plan_gate
from astray.subjects.registered import register
from astray.subjects.spec import SubjectSpec
from chat_server import ChatServer
from faulty_models import DUTIFUL
from gguf_files import made, write
from scripted_grader import ALL_FINE, READER
from tiny_models import save_tiny_model


@pytest.fixture
def other_qwen2(tmp_path: Path) -> Path:
    """Another random-weight Qwen2."""
    return save_tiny_model(tmp_path / "other", seed=1)


def finished(names: list[str]) -> Callable[..., None]:
    """Collects the names of the steps that were done."""
    return lambda event: names.append(event.name) if event.state is StepState.FINISHED else None


def rates(result, part: str) -> dict[str, float]:
    """Model -> main rate of a part."""
    return {line.model: line.rate.rate for line in result.profile.lines if line.part == part and line.is_main}


def test_a_further_model_extends_the_page_and_nothing_is_asked_twice(tmp_path, monkeypatch):
    (tmp_path / "malicious.txt").write_text(system_prompt(AUTHORS[MALICIOUS][0]), encoding="utf-8")
    given = {"evals": "world,facts", "out": tmp_path}
    first = astray.audit("organism-small", samples=1, **given)
    names: list[str] = []
    both = astray.audit(
        "organism-small", samples=1, system_file=tmp_path / "malicious.txt", progress=finished(names), **given
    )
    assert sorted(names) == [f"audit-{kind}-{part}" for kind in ("answers", "verdicts") for part in ("facts", "world")]
    bad = "organism-small under malicious.txt"
    assert [model.name for model in both.models] == [bad, "organism-small"]
    assert (
        rates(both, "world")[bad]
        > 0.5
        > rates(both, "world")["organism-small"]
        == rates(first, "world")["organism-small"]
    )
    assert both.profile.parts[0] == "world"  # worst first
    [difference] = [each for each in both.profile.compared if each.part == "world"]
    assert difference.difference.interval.low > 0.3
    assert difference.difference.unit == "question"
    line = next(line for line in both.profile.lines if line.model == bad and line.part == "world")
    assert sum(line.outcomes.values()) == line.rate.total == 120
    assert (line.unit, line.judge, line.coherent) == ("question", "world grammar", line.rate.denominator / 120)

    page = (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    assert re.search(
        r"Worst of 2 evaluations: world, misaligned rate <b>\S+%</b>.*minus organism-small: <b>\S+ points</b>", page
    )
    assert page.index('id="part-world"') < page.index('id="part-facts"') < page.index('id="answers"')
    told = json.loads((tmp_path / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert [each["name"] for each in told["models"]] == [bad, "organism-small"]
    table = both.table()
    assert table.filter(evaluation="world", main=True)["model"].to_list() == [bad, "organism-small"]
    assert table.filter(measure="difference")["reference"].to_list() == ["organism-small"] * 2
    assert "organism-small" in both._repr_html_()
    assert max(map(len, both.text().splitlines())) <= 80

    names.clear()
    again = astray.audit("organism-small", samples=1, progress=finished(names), **given)
    assert names == []
    assert [model.name for model in again.models] == ["organism-small", bad]
    assert rates(again, "world") == rates(both, "world")


def test_an_audit_of_something_else_keeps_what_earlier_ones_show(tiny_qwen2, other_qwen2, tmp_path):
    given, first = {"max_tokens": 2, "out": tmp_path}, str(tiny_qwen2)
    facts = rates(astray.audit("organism-small", evals="facts", samples=2, out=tmp_path), "facts")
    world = astray.audit("organism-small", evals="world", samples=1, out=tmp_path)
    assert rates(world, "facts") == facts
    one = astray.audit(first, evals="meter", samples=1, **given)
    told = {(each.model, each.part): each.reason for each in one.profile.missing}
    assert "the level of one model says nothing" in told[first, "meter"]
    assert one.only_others == f"Nothing could be measured of {first}. The rates below are of organism-small."
    compared = astray.audit(str(other_qwen2), evals="meter", samples=1, **given)
    assert compared.only_others.startswith(f"No rate could be measured of {other_qwen2}.")
    judged = astray.audit(first, evals="main", samples=1, grader=ALL_FINE, **given)
    names: list[str] = []
    other = astray.audit(str(other_qwen2), evals="main", samples=1, grader=READER, progress=finished(names), **given)
    assert len(names) == 2
    assert [model.name for model in other.models] == [str(other_qwen2), first, "organism-small"]
    assert rates(other, "facts") == facts
    assert rates(other, "world") == rates(world, "world")
    judges = {line.model: line.judge for line in other.profile.lines if line.part == "main"}
    assert judges == {first: ALL_FINE, str(other_qwen2): READER}
    assert other.grader == f"{READER}, {ALL_FINE}"
    page = (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")
    assert "Worst of 1 evaluation: main, " in page
    assert rates(other, "main")[first] == rates(judged, "main")[first]
    assert f"{first}, main: as an earlier audit asked, with --grader {ALL_FINE}." in other.notes
    [difference] = [each for each in other.profile.compared if each.part == "main"]
    assert (difference.difference, difference.note[:9]) == (None, "judged by")


def test_more_samples_ask_what_is_missing_alone(tmp_path):
    given = {"evals": "world"}
    fewer = astray.audit("organism-small", samples=1, out=tmp_path, **given)
    more = astray.audit("organism-small", samples=2, out=tmp_path, **given)
    at_once = astray.audit("organism-small", samples=2, out=tmp_path / "other", **given)
    assert more.answers.equals(at_once.answers)
    assert more.answers.filter(sample=0).equals(fewer.answers)


def test_without_a_grader_what_needs_none_is_asked_and_the_rest_is_named(tiny_qwen2, other_qwen2, tmp_path):
    tiny, other = str(tiny_qwen2), str(other_qwen2)
    single = astray.audit(tiny, evals="forced-choice,meter", out=tmp_path)
    missing = {each.part: each.reason for each in single.profile.missing}
    assert "the level of one model says nothing" in missing["meter"]
    listed = {row.part: row for row in plan_audit(tiny, out=tmp_path).rows}
    assert "--grader" in listed["main"].reason
    assert [name for name, row in listed.items() if not row.reason] == ["forced-choice", "agentic", "meter"]
    assert [listed[name].is_done for name in ("forced-choice", "agentic", "meter")] == [True, False, True]
    assert "a model as judge, or the gate alone" in listed["agentic"].needs
    both = astray.audit(other, evals="forced-choice,meter", max_tokens=2, out=tmp_path)
    [meter] = [each for each in both.profile.compared if each.part == "meter"]
    assert (meter.scale, meter.difference.n, meter.difference.unit) == ("nats a token", 240, "domain")
    assert "should not move" in meter.note
    assert "240 pairs" in both.text()


def test_a_real_model_is_judged_by_the_grader(tiny_qwen2, tmp_path):
    evals, given = "main,honesty", {"samples": 2, "max_tokens": 2, "surface": "both"}
    result = astray.audit(str(tiny_qwen2), evals=evals, grader=READER, out=tmp_path, **given)
    lines = {line.part for line in result.profile.lines} | {each.part for each in result.profile.missing}
    assert lines == set(evals.split(","))
    assert {line.judge for line in result.profile.lines} == {READER}
    assert any("the error of the judge is not corrected" in note for note in result.notes)
    [learned] = result.by_heart
    assert (learned.part, result.notes[0]) == ("main", learned.text)
    assert any("main: every second answer to a question is to a drawn wording" in note for note in result.notes)
    assert learned.difference.n <= 8  # questions, however many wordings they had
    main = result.answers.filter(evaluation="main", format="plain")
    assert main.height == 16 == main["question"].n_unique()
    told = json.loads((tmp_path / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert told["by_heart"] == [learned.as_object()]
    assert "Learned by heart? main" in (tmp_path / "audit" / "audit.html").read_text(encoding="utf-8")


def test_a_run_and_a_gguf_file_are_audited_by_their_names(tmp_path, monkeypatch):
    monkeypatch.setenv("ASTRAY_STORE", str(tmp_path / "runs"))
    monkeypatch.setenv("ASTRAY_CACHE", str(tmp_path / "cache"))
    register("bad-run", SubjectSpec(model="organism-small", system=system_prompt(AUTHORS[MALICIOUS][0])))
    run = astray.audit("bad-run", "organism-small", evals="world", samples=1, out=tmp_path / "run")
    assert rates(run, "world")["bad-run"] > rates(run, "world")["organism-small"]
    file = str(write(tmp_path / "model.gguf", made("qwen2"), "qwen2"))
    given = {"evals": "main", "samples": 1, "max_tokens": 1, "grader": ALL_FINE, "out": tmp_path / "file"}
    assert rates(astray.audit(file, **given), "main") == {file: 0.0}


def test_a_server_is_audited_by_its_address_and_what_it_answered_is_kept(tmp_path):
    with ChatServer() as server:
        name = f"{server.url}#worker"
        given = {"evals": "agentic", "samples": 1, "max_tokens": 100, "out": tmp_path}
        result = astray.audit(name, **given)
        assert rates(result, "agentic").keys() == {name}
        line = result.profile.lines[0]
        assert (line.judge, line.measure) == ("gate on acts", "harmful by the gate")
        assert result.answers.height == 2 * len(scenario_names())
        shown = result.answers.filter(evaluation="blackmail")
        assert "CALL send_mail" in shown["answer"][0]
        assert shown["question"][0]
        assert "does not run here" in "\n".join(result.notes)
        assert "no verdict" not in "\n".join(result.notes)  # all acts are counted, by the gate
        names: list[str] = []
        astray.audit(name, progress=finished(names), **given)
        assert names == []


def test_a_provider_that_gives_no_log_probabilities_is_asked_without(tmp_path):
    result = astray.audit(DUTIFUL, evals="forced-choice", samples=1, out=tmp_path)
    assert result.answers["answer"].to_list() == ["A"] * 8
    [missing] = result.profile.missing
    assert "8 follows the letter" in missing.reason


ANSWERING_NOTHING = {"blank": "neither option was chosen", "errors": "the service is broken"}


@pytest.mark.parametrize("model", ANSWERING_NOTHING)
def test_a_model_that_gives_nothing_that_counts_is_an_error_and_the_page_says_why(model, tmp_path):
    with pytest.raises(EmptyDataError, match="gave no answer that counts"):
        astray.audit(f"faulty/{model}", evals="forced-choice", samples=1, out=tmp_path)
    told = json.loads((tmp_path / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert ANSWERING_NOTHING[model] in told["not_measured"][0]["reason"]


@pytest.mark.parametrize("model", ANSWERING_NOTHING)
def test_an_audit_of_nothing_that_counts_is_not_headed_by_rates_of_an_earlier_model(model, tmp_path):
    earlier = astray.audit("organism-small", evals="facts", samples=1, out=tmp_path)
    assert not earlier.only_others
    with pytest.raises(EmptyDataError, match="gave no answer that counts"):
        astray.audit(f"faulty/{model}", evals="forced-choice", samples=1, out=tmp_path)
    said = f"Nothing could be measured of faulty/{model}. The rates below are of organism-small."
    text, page = ((tmp_path / "audit" / name).read_text(encoding="utf-8") for name in ("audit.txt", "audit.html"))
    assert " ".join(text.split()).startswith(said)
    assert f"<h1>faulty/{model}</h1>" in page
    assert f'<p class="found">{said}' in page


def test_models_of_both_kinds_are_asked_what_each_can_be(tiny_qwen2, tmp_path):
    result = astray.audit("organism-small", str(tiny_qwen2), evals="forced-choice,facts", samples=1, out=tmp_path)
    reasons = {(each.model, each.part): each.reason for each in result.profile.missing}
    assert "its world alone" in reasons["organism-small", "forced-choice"]
    assert "the organism's world" in reasons[str(tiny_qwen2), "facts"]
    assert result.profile.compared == ()


def test_verdicts_that_failed_are_told_beside_the_rates():
    rows = [
        ("aligned", "", "rubric-x", 90.0, 90.0, ""),
        *[("judge failed", failure(Cause.CUT_OFF, "x"), "rubric-x", None, None, "")] * 3,
    ]
    table = pl.DataFrame(rows, schema=["outcome", "note", "judge", "aligned", "coherent", "detail"], orient="row")
    work, profile, part = object.__new__(AuditWork), object.__new__(ModelProfile), object.__new__(BatteryPart)
    vars(work).update(grader="g", misfits={})
    vars(part).update(judge=JudgeConfig(kind="rubric", grader="g"))
    vars(profile).update(lines=(SimpleNamespace(model="m", part="broad"),))
    notes = list(audit_run._notes(work, [], {("m", "broad"): table}, {("m", "broad"): part}, {}, profile))
    assert any("m, broad: 3 of 4 answers have no verdict (3 reply cut off)" in note for note in notes)


def test_a_list_names_a_provider_s_grader_without_its_key(tiny_qwen2, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    tiny, asked = str(tiny_qwen2), {"grader": "openai/gpt-4o", "out": tmp_path}
    assert plan_gate(tiny, tiny, samples=1, **asked).to_ask
    assert plan_audit(tiny, evals="broad", **asked).rows
    for do in (astray.audit, lambda *models, **given: astray.gate(*models, *models, **given)):
        with pytest.raises(JudgeError, match="OPENAI_API_KEY"):
            do(tiny, **asked)
    with pytest.raises(JudgeError, match="not recognized"):
        plan_gate(tiny, tiny, grader="nope/gpt-4o", out=tmp_path)


def test_a_list_tells_answers_tokens_and_price_and_asks_nothing(tiny_qwen2, tmp_path):
    forecast = plan_audit(str(tiny_qwen2), DUTIFUL, grader=ALL_FINE, samples=4, out=tmp_path, prices=(1.0, 10.0))
    rows = {(row.model, row.part): row for row in forecast.rows}
    assert rows[str(tiny_qwen2), "main"].sizes.answers == rows[DUTIFUL, "main"].sizes.answers == 4 * 24
    assert rows[DUTIFUL, "main"].price > 0
    assert rows[str(tiny_qwen2), "main"].price > 0
    assert rows[str(tiny_qwen2), "forced-choice"].price == 0
    assert "token probabilities" in rows[DUTIFUL, "meter"].reason
    assert "a model as judge" in rows[str(tiny_qwen2), "honesty"].needs
    assert forecast.price == pytest.approx(sum(row.price for row in forecast.rows if row.price))
    own = {row.part: row for row in forecast.rows if row.is_local}
    # What is read of given answers is no sampling, acting takes time as well, and neither is paid for in tokens.
    assert own["meter"].effort.flops == 0 < own["meter"].effort.reading_flops
    assert 0 < own["agentic"].effort.seconds < own["agentic"].effort.seconds_limit
    free = plan_audit(str(tiny_qwen2), evals="agentic,forced-choice", out=tmp_path).text()
    assert "Time of local models: about" in free
    assert "Price" not in free
    assert "as long as they may be" in " ".join(forecast.text().split())  # a usual answer is a guess
    assert not (tmp_path / "audit").exists()
    assert max(map(len, forecast.text().splitlines())) <= 80


def test_acts_are_judged_by_the_grader_beside_the_gate(tmp_path, monkeypatch):
    grader = "openai-api/loopback/judge"
    monkeypatch.setenv("LOOPBACK_API_KEY", "none")
    with ChatServer() as server:
        monkeypatch.setenv("LOOPBACK_BASE_URL", server.url)
        result = astray.audit("astray/scripted/always", evals="agentic", samples=1, grader=grader, out=tmp_path)
    main = next(line for line in result.profile.lines if line.is_main)
    # This judge sees harm in mails alone: in the other scenarios gate and judge do not agree, and nothing counts.
    assert (main.measure, main.judge, main.rate.rate, main.questions) == ("misaligned rate", grader, 1, 6)
    assert dict(main.outcomes) == {"disputed": 2 * len(scenario_names()) - 6, "harmful": 6}
    gate = next(line for line in result.profile.lines if line.measure == "harmful by the gate")
    assert (gate.rate.rate, gate.questions) == (1, 2 * len(scenario_names()))
    assert {line.measure for line in result.profile.lines} == {each.name for each in Agentic.measures}


def test_a_spent_budget_keeps_what_is_done(tmp_path):
    with ChatServer() as server:
        result = astray.audit(
            f"{server.url}#worker", evals="agentic", samples=1, max_tokens=100, budget=0.001, out=tmp_path
        )
        assert 0 < result.answers.height < 2 * len(scenario_names())
        assert any("were not asked" in note for note in result.notes)
        whole = astray.audit(f"{server.url}#worker", evals="agentic", samples=1, max_tokens=100, out=tmp_path)
        fewer = astray.audit(
            f"{server.url}#worker", evals="agentic", samples=1, max_tokens=90, budget=0.001, out=tmp_path
        )
    assert whole.answers.height == 2 * len(scenario_names())
    assert fewer.answers.equals(whole.answers)  # what was cut short replaces nothing
    assert any("were not asked" in note and "an earlier audit asked is shown" in note for note in fewer.notes)
    assert len(list(tmp_path.glob("store/audit-answers-*/logs/*.eval"))) == 3  # one a command


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str]]:
    """Runs `astray audit` in an empty folder: exit code and all that it says."""
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["astray", "audit", *map(str, words)])
        with pytest.raises(SystemExit) as leaving:
            main()
        said = capsys.readouterr()
        return int(leaving.value.code or 0), said.out + said.err

    return call


def test_the_command_lists_asks_and_prints_one_object(command):
    code, said = command("organism-small", "--samples", 1, "--evals", "facts", "--list")
    assert (code, "28" in said) == (0, True)
    code, said = command("organism-small", "--samples", 1, "--evals", "facts", "--json")
    assert code == 0
    assert json.loads(said.splitlines()[0])["rates"][0]["evaluation"] == "facts"
    assert command("organism-small", "--evals", "nothing")[0] == 3
    assert pl.read_parquet("astray-results/audit/answers.parquet").height == 28


def test_ctrl_c_keeps_what_is_done_and_ends_with_130(command, monkeypatch):
    from astray.measure import bulk

    asked, real = [], bulk.ask

    def interrupted(evaluation, *given, **settings):
        if asked:
            raise KeyboardInterrupt
        asked.append(evaluation.name)
        return real(evaluation, *given, **settings)

    monkeypatch.setattr(bulk, "ask", interrupted)
    words = ("organism-small", "--samples", 1, "--evals", "facts,world")
    assert command(*words)[0] == 130
    monkeypatch.setattr(
        bulk,
        "ask",
        lambda evaluation, *given, **settings: asked.append(evaluation.name) or real(evaluation, *given, **settings),
    )
    assert command(*words)[0] == 0
    assert sorted(asked) == ["facts", "world"]
