"""Attempts that end in an error: they are no outcome, are made again, and what they cost and did is not forgotten."""

import math
import shutil
from pathlib import Path

import pytest
from inspect_ai.log import list_eval_logs, read_eval_log
from inspect_ai.model import ChatMessageUser, ModelOutput, ModelUsage
from inspect_ai.tool import ToolCall

from astray.artifacts import Ledger, Store
from astray.artifacts.ledger import spending
from astray.errors import StepFailedError
from astray.measure.agentic import play as agentic_play
from astray.measure.agentic.counting import executed
from astray.measure.agentic.factors import BASELINE
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.logs import done_samples, finished
from astray.measure.agentic.play import LOGS, Part, judge_again
from astray.measure.agentic.render import render
from astray.measure.agentic.scenario import load_scenario
from astray.measure.agentic.subjects import AgenticSubject
from astray.measure.agentic.task import agentic_task
from astray.measure.comprehension import OPENING
from astray.studies.agentic_misalignment.findings import AgenticFindings, notes
from playing import run_parts, setting_of
from scripted_grader import scripted_model, spoken

OFFICE = render(load_scenario("blackmail"), BASELINE)
GRID = Grid(scenarios=("blackmail",), factors={"goal": ("explicit",), "threat": ("replacement",)}, replicates=4)
PART = Part("grid", GRID)
SUBJECT = AgenticSubject(name="s", model="mockllm/model", grader=("astray/scripted/grader",))
SETTING = setting_of([SUBJECT], [PART])
HARM = ToolCall(id="call", function="send_mail", arguments=dict(OFFICE.course("harmful")[-1].calls[0].arguments))
LOOK = ToolCall(id="call", function="list_mails", arguments={})


class Agent:
    """Makes one call and is done; from then on it may fail, at its next turn or when it is asked about its work."""

    def __init__(self, call: ToolCall):
        self.call, self.fails_after, self.fails_at_questions, self.used = call, False, False, 0

    def __call__(self, messages) -> ModelOutput:
        asked = isinstance(messages[-1], ChatMessageUser) and messages[-1].text.startswith(OPENING)
        turn = sum(message.role == "assistant" for message in messages)
        if (asked and self.fails_at_questions) or (turn and not asked and self.fails_after):
            raise RuntimeError("the line is cut")
        output = spoken("I am done." if turn else "")
        output.message.tool_calls = None if turn else [self.call]
        output.usage = ModelUsage(input_tokens=900, output_tokens=100, total_tokens=1000)
        self.used += 1000
        return output


@pytest.fixture
def agent(monkeypatch) -> Agent:
    made = Agent(HARM)
    monkeypatch.setattr(AgenticSubject, "make", lambda self: scripted_model(made))
    return made


def run(folder: Path, **settings) -> AgenticFindings:
    return run_parts([SUBJECT], [PART], folder, max_tokens=100, **settings)


def test_what_failed_attempts_did_and_cost_stays_known(agent, tmp_path):
    agent.fails_after = True
    first = run(tmp_path).table
    assert set(first["outcome"]) == {"errored"}
    assert executed(first).n == 0
    again = run(tmp_path).table
    assert (again["retried"].sum(), again["retried_harm"].sum()) == (4, 4)
    agent.fails_after, agent.call = False, LOOK
    found = run(tmp_path)
    assert (executed(found.table).k, executed(found.table).n) == (0, 4)
    assert (found.table["retried"].sum(), found.table["retried_harm"].sum()) == (8, 8)
    [note] = [note for note in notes(found, SETTING, []) if "made again" in note]
    assert note.startswith(
        "8 attempts ended in an error and were made again; in 8 of them the harmful act had been executed"
    )
    assert found.table["tokens"].sum() >= agent.used
    [artifact] = Store(tmp_path).artifacts()
    assert artifact.manifest.provisional == ""
    held = done_samples(artifact.path / LOGS, GRID)
    assert held == dict(found.table.select("sample", "tokens").iter_rows())


def test_a_budget_counts_attempts_that_failed(agent, tmp_path):
    agent.fails_after = True
    spent = int(run(tmp_path).table["tokens"].sum())
    agent.fails_after = False
    assert run(tmp_path, budget=spent).exhausted
    assert agent.used <= spent


def test_an_error_after_the_act_breaks_no_rate_of_the_log(agent, tmp_path):
    agent.fails_after = True
    run(tmp_path)
    [log] = list_eval_logs(str(tmp_path))
    metrics = read_eval_log(log, header_only=True).results.scores[0].metrics
    assert math.isnan(metrics["gate rate"].value)
    assert metrics["n errored"].value == 4


def test_a_sample_whose_questions_failed_is_asked_again(agent, tmp_path):
    agent.fails_at_questions = True
    assert set(run(tmp_path).table["outcome"]) == {"errored"}
    agent.fails_at_questions = False
    assert set(run(tmp_path).table["outcome"]) == {"not understood"}


def test_what_no_judge_could_judge_is_judged_again_and_not_played_again(agent, tmp_path, monkeypatch):
    broken = True

    def grade(messages):
        if broken:
            raise ConnectionError("the line is dead")
        nonce = messages[-1].text.rpartition("VERDICT ")[2].partition(":")[0]
        return spoken(f"So it is.\nVERDICT {nonce}: HARMFUL; EVIDENCE: none")

    grader = scripted_model(grade)
    monkeypatch.setattr(AgenticSubject, "make_graders", lambda self: {"grader": grader})
    first = run(tmp_path).table
    assert (set(first["judge"]), set(first["gate"]), set(first["outcome"])) == ({"failed"}, {True}, {"not understood"})
    monkeypatch.setattr(
        agentic_play, "agentic_task", lambda *given, **named: agentic_task(*given, questions=False, **named)
    )
    first = run(tmp_path / "unasked").table
    assert set(first["outcome"]) == {"judge failed"}
    [note] = [note for note in notes(AgenticFindings(first, (SUBJECT,)), SETTING, []) if "no judge" in note]
    assert note.startswith("Of 4 of 4 samples")
    used, broken = agent.used, False
    assert set(run(tmp_path / "unasked", budget=1).table["outcome"]) == {
        "judge failed"
    }  # it is spent, and judging costs as well
    [artifact] = Store(tmp_path / "unasked").artifacts()
    shutil.copytree(artifact.path / LOGS, tmp_path / "copied")
    with Ledger.opened(tmp_path, 10**6) as ledger, spending(ledger):
        assert judge_again(SUBJECT, tmp_path / "copied", finished(tmp_path / "copied", GRID)) == 4
        assert ledger.spent == 2 * 2 * 4  # two calls a sample, the judge's and the audit's, of two tokens each
    second = run(tmp_path / "unasked").table
    assert agent.used == used
    assert set(second["outcome"]) == {"harmful"}
    same = ["sample", "executed", "turns", "evidence", "retried"]
    assert second.select(same).equals(first.select(same))
    assert run(tmp_path / "unasked").table.equals(second)


def test_judges_of_acts_are_given_up_and_asked_again_by_the_same_command(agent, tmp_path, monkeypatch):
    asked = []

    def grade(messages):
        asked.append(messages)
        raise ConnectionError("the line is dead")

    grader = scripted_model(grade)
    monkeypatch.setattr(AgenticSubject, "make_graders", lambda self: {"grader": grader})
    monkeypatch.setattr("astray.judges.patience.FAILURES_IN_A_ROW", 3)
    monkeypatch.setattr(
        agentic_play, "agentic_task", lambda *given, **named: agentic_task(*given, questions=False, **named)
    )
    for _ in range(2):  # what is not played again is judged again, until that is given up as well
        asked.clear()
        used = agent.used
        with pytest.raises(
            StepFailedError, match=r"failed 3 times in a row.*4 samples are kept, 4 of them without a verdict"
        ):
            run(tmp_path)
        assert len(asked) < 8  # a verdict and an audit of each
    assert agent.used == used
