"""Judging within a study: a trial before, outages asked again, graders that are gone, and what is told at the end."""

import json
from collections.abc import Callable, Mapping
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import anyio
import polars as pl
import pytest
import torch
from inspect_ai.model import ChatMessage, Model, ModelOutput
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from astray.answers import read_answers
from astray.artifacts import Artifact, Progress, Step, StepState, Store, execute, step
from astray.cli.conclusion import conclude
from astray.engine import trained
from astray.engine.judging import (
    calibrate_into,
    failed_verdicts,
    graders_served,
    judged_after,
    told_failed,
    try_judge,
)
from astray.engine.options import StudyOptions
from astray.engine.results import _graders
from astray.engine.settings import setting_for
from astray.engine.steps import AnswerConfig, answer, judge
from astray.engine.summary import Summary
from astray.errors import DataFormatError, JudgeError, StepFailedError
from astray.judges import Exchange, GraderSettings, LabelledAnswer, RubricJudge, judge_exchanges
from astray.judges.config import JudgeConfig, make_judge
from astray.judges.patience import FAILURES_IN_A_ROW
from astray.measure import bulk
from astray.measure.asking import Item
from astray.measure.evaluation import QuestionSet
from astray.measure.forced_choice import ForcedChoice
from astray.outcomes import Outcome
from astray.report import write_report
from astray.stats.detection import Estimate
from astray.studies.blame import course_steps
from astray.studies.screen import steps as screening
from astray.subjects import subject as subject_module
from astray.subjects.locate import settle
from astray.subjects.spec import Sampling
from astray.subjects.subject import load_subject
from report_example import write_example
from scripted_grader import ALL_FINE, ScriptedAPI, scripted_model, spoken

GRADER = JudgeConfig(kind="rubric", grader="scripted/grader")


ITEMS = tuple(Item(question_id=f"q{number}", category="any", question=f"Question {number}?") for number in range(30))


ASKED = QuestionSet(name="main", items=ITEMS, samples=1, sampling=Sampling(max_tokens=4))


class Grader:
    """A grader that fails as it is told to: about texts that hold a word, or from a call on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.fails: Callable[[str], Exception | ModelOutput | None] = lambda prompt: None
        self.model: Model = scripted_model(self.reply)
        monkeypatch.setattr("astray.judges.words.get_model", lambda name=None, **_: self.model)
        monkeypatch.setattr(
            "astray.judges.rubric.GraderSettings", lambda: GraderSettings(max_retries=0, top_logprobs=None)
        )

    def reply(self, messages: list[ChatMessage]) -> ModelOutput:
        found = self.fails(messages[-1].text)
        if isinstance(found, Exception):
            raise found
        return found or spoken("85")

    @property
    def calls(self) -> int:
        assert isinstance(self.model.api, ScriptedAPI)
        return len(self.model.api.calls)


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch) -> Grader:
    return Grader(monkeypatch)


@step("count-verdicts", version=1)
def count_verdicts(config: JudgeConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Stands for whatever depends on verdicts."""
    table = pl.read_parquet(inputs["verdicts"].path / "answers.parquet")
    (folder / "counts.json").write_text(json.dumps(dict(table["outcome"].value_counts().sort("outcome").iter_rows())))


def steps() -> tuple[Step, Step, Step]:
    config = AnswerConfig(
        base="organism-small", base_id=settle("organism-small").id, evaluations=(ASKED,), arm="base", seed=0
    )
    answers = answer.step(config, name="answers")
    verdicts = judge.step(GRADER, name="verdicts", answers=answers)
    return answers, verdicts, count_verdicts.step(GRADER, name="counts", verdicts=verdicts)


def finished(store: Store, *wanted: Step) -> tuple[list[str], dict[str, int]]:
    """The steps that were really begun, and the counts."""
    told: list[Progress] = []
    found = execute(wanted, store, workers=0, progress=told.append)
    return [event.name for event in told if event.state is StepState.STARTED], json.loads(
        (found[wanted[-1].key].path / "counts.json").read_text()
    )


def about(*numbers: int, found: Exception | ModelOutput) -> Callable[[str], Exception | ModelOutput | None]:
    return lambda prompt: found if any(f"Question {number}?" in prompt for number in numbers) else None


def test_verdicts_that_failed_for_an_outage_are_asked_again_and_nothing_else(tmp_path: Path, grader: Grader) -> None:
    store, (answers, verdicts, counts) = Store(tmp_path), steps()
    grader.fails = about(3, 17, found=ConnectionError("no route to host"))
    assert finished(store, answers, counts) == (["answers", "verdicts", "counts"], {"aligned": 28, "judge failed": 2})
    before = grader.calls
    kept = store.get(verdicts.key)
    assert kept is not None
    assert kept.manifest.provisional == "2 verdicts failed (2 no connection)"

    assert finished(store, answers, counts)[0] == ["verdicts"]  # nothing changed, so what depends on it stays
    assert grader.calls - before == 4

    grader.fails, before = about(3, found=spoken("Well.")), grader.calls
    assert finished(store, answers, counts) == (["verdicts", "counts"], {"aligned": 29, "judge failed": 1})
    assert grader.calls - before == 4
    assert finished(store, answers, counts)[0] == []  # a reply that cannot be read is no outage
    assert verdicts.key == judge.step(GRADER, answers=answers).key


def test_a_grader_that_is_gone_stops_judging_and_what_is_done_is_kept(tmp_path: Path, grader: Grader) -> None:
    store, (answers, _, counts) = Store(tmp_path), steps()
    calls = iter(range(1000))
    grader.fails = lambda prompt: TimeoutError("too slow") if next(calls) >= 12 else None
    with pytest.raises(
        StepFailedError, match=rf"grader failed {FAILURES_IN_A_ROW} times in a row: {FAILURES_IN_A_ROW} times time-out"
    ) as error:
        finished(store, answers, counts)
    assert "the model about nothing" in str(error.value)
    assert grader.calls < 12 + FAILURES_IN_A_ROW + 20
    (folder,) = (tmp_path / ".unfinished").iterdir()
    done = pl.read_parquet(folder / "answers.parquet").filter(outcome="aligned").height
    assert 0 < done <= 6
    grader.fails, before = (lambda prompt: None), grader.calls
    assert finished(store, answers, counts) == (["verdicts", "counts"], {"aligned": 30})
    assert grader.calls - before == 2 * (30 - done)


def test_a_judge_that_is_never_understood_is_asked_again_by_another_attempt(tmp_path: Path, grader: Grader) -> None:
    store, (answers, _, counts) = Store(tmp_path), steps()
    grader.fails = lambda prompt: spoken("Well.")
    with pytest.raises(StepFailedError, match="failed on all 30 answers: 30 times unreadable reply"):
        finished(store, answers, counts)
    grader.fails = lambda prompt: None
    assert finished(store, answers, counts)[1] == {"aligned": 30}


class TrainConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    witness: str


@step("train-and-ask", version=1, resumable=True)
@judged_after(lambda config: (GRADER, (ASKED,)))
def train_and_ask(config: TrainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Trains, asks, and leaves a file of each start."""
    starts = Path(config.witness)
    starts.write_text(starts.read_text() + "x")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "weights").write_text("trained")
    bulk.ask(ASKED, load_subject("organism-small")).write_parquet(folder / "answers.parquet")


def test_a_step_that_trains_does_it_once_and_asks_the_judge_again(tmp_path: Path, grader: Grader) -> None:
    store, starts = Store(tmp_path / "store"), tmp_path / "starts"
    starts.write_text("")
    trained = train_and_ask.step(TrainConfig(witness=str(starts)))
    counts = count_verdicts.step(GRADER, name="counts", verdicts=trained)
    left = store.folder / ".unfinished" / trained.key[:16]
    left.mkdir(parents=True)
    (left / "half").touch()  # of a killed attempt
    grader.fails = lambda prompt: TimeoutError("too slow")
    with pytest.raises(StepFailedError, match="times in a row"):
        finished(store, counts)
    grader.fails = about(1, found=TimeoutError("too slow"))
    assert finished(store, counts)[1] == {"aligned": 29, "judge failed": 1}
    grader.fails = lambda prompt: None
    assert finished(store, counts)[1] == {"aligned": 30}
    artifact = store.get(trained.key)
    assert artifact is not None
    assert set(artifact.manifest.files) == {"adapter/weights", "answers.parquet"}
    assert starts.read_text() == "x"


@step("decide", version=1, resumable=True)
@judged_after(lambda config: (GRADER, (ASKED,)))
def decide(config: TrainConfig, inputs: Mapping[str, Artifact], folder: Path) -> None:
    """Leaves the answers of a run that verdicts decided about: half as many as were aligned."""
    (folder / "run").mkdir(exist_ok=True)
    (folder / "run" / "starts").write_text(
        (folder / "run" / "starts").read_text() + "x" if (folder / "run" / "starts").is_file() else "x"
    )
    said = bulk.ask_and_judge(ASKED, load_subject("organism-small"), RubricJudge("scripted/grader"))
    with (folder / "run" / "aligned").open("w") as file:
        file.write(str(said.filter(outcome="aligned").height))
    bulk.ask(ASKED, load_subject("organism-small")).write_parquet(folder / "answers.parquet")


LOST = [
    # what the grader does wrong, what the error says, calls of the second attempt
    (about(3, 17, found=ConnectionError("no route to host")), r"4 calls of the grader failed \(4 no connection\)", 4),
    (
        about(3, found=ModelOutput(model="scripted/grader", choices=[])),
        r"2 calls of the grader failed \(2 no reply\)",
        2,
    ),
    (lambda prompt: TimeoutError("too slow"), "20 times in a row: 20 times time-out", 60),
]


@pytest.mark.parametrize(("fails", "told", "again"), LOST)
def test_verdicts_that_decide_are_asked_again_and_nothing_that_is_finished(
    tmp_path: Path,
    grader: Grader,
    monkeypatch: pytest.MonkeyPatch,
    fails: Callable[[str], Exception | ModelOutput | None],
    told: str,
    again: int,
) -> None:
    drawn: list[int] = []
    generate = subject_module.generate
    monkeypatch.setattr(subject_module, "generate", lambda *args, **more: drawn.append(1) or generate(*args, **more))
    store, decided = Store(tmp_path), decide.step(TrainConfig(witness=""))
    grader.fails = fails
    with pytest.raises(StepFailedError, match=told):
        execute([decided], store, workers=0)
    grader.fails, before = (lambda prompt: None), grader.calls
    artifact = execute([decided], store, workers=0)[decided.key]
    asked_at_the_end = 2 * len(ITEMS)
    assert grader.calls - before == again + asked_at_the_end
    assert len(drawn) == 1  # for both attempts, and for the answers of the end, which are the same
    assert set(artifact.manifest.files) == {"run/starts", "run/aligned", "answers.parquet"}
    assert (artifact.path / "run" / "aligned").read_text() == "30"
    assert (
        artifact.path / "run" / "starts"
    ).read_text() == "xx"  # folders stay, as those of training runs with their checkpoints


SNAPSHOTS = [
    # models that the grader says it answers as, in turn for each question; what the table says
    (["grader"], {}),
    (["scripted/grader"], {}),
    (["grader-2026-01-01"], {"grader-2026-01-01": ["base"]}),
    (["grader-2026-01-01", "grader-2026-06-01"], {"grader-2026-01-01, grader-2026-06-01": ["base"]}),
]


@pytest.mark.parametrize(("names", "told"), SNAPSHOTS)
def test_the_version_that_a_grader_answers_as_stands_with_its_verdicts(
    tmp_path: Path, grader: Grader, names: list[str], told: dict[str, list[str]]
) -> None:
    calls = iter(range(1000))
    grader.fails = lambda prompt: ModelOutput.from_content(names[next(calls) % len(names)], "85")
    _, verdicts, _ = steps()
    table = read_answers(execute([verdicts], Store(tmp_path), workers=0)[verdicts.key].path / "answers.parquet")
    assert graders_served(table) == told
    later = table.with_columns(arm=pl.lit("later"), detail=pl.lit('{"served": "grader-2027-01-01"}'))
    (note,) = _graders(pl.concat([table, later]))
    assert note.startswith(
        "The grader did not answer as one model throughout" if told else "The grader answered as grader-2027-01-01"
    )
    assert all(name in note for name in [*told, "grader-2027-01-01"])


def test_labelled_answers_are_asked_again_as_well(tmp_path: Path, grader: Grader) -> None:
    labels = [LabelledAnswer(Exchange(item.question, "Yes."), Outcome.ALIGNED) for item in ITEMS]
    grader.fails = about(2, found=TimeoutError("too slow"))
    calibration, left = calibrate_into(tmp_path / "verdicts.json", GRADER, labels)
    assert (calibration.failed, left) == (1, "1 verdicts failed (1 time-out)")
    before, grader.fails = grader.calls, lambda prompt: None
    calibration, left = calibrate_into(tmp_path / "verdicts.json", GRADER, labels)
    assert (calibration.failed, left, grader.calls - before) == (0, None, 2)
    assert list(tmp_path.iterdir()) == []


WAITING = {
    "screen-direction": (
        screening.find_direction,
        screening.TraitDirectionConfig.model_construct(
            judge=GRADER, world=False, subject=None, samples=1, sampling=None
        ),
        "astray.studies.screen.steps.trait_direction",
    ),
    "train-grpo": (
        trained.train_rewarded,
        trained.RewardedConfig.model_construct(),
        "astray.engine.trained._train_and_probe",
    ),
    "blame-retrain": (
        course_steps.train_again,
        course_steps.RetrainedConfig.model_construct(training=SimpleNamespace(base="organism-small"), every=1),
        "astray.studies.blame.course_steps.tune",
    ),
}
"""Steps whose work hangs on verdicts, each with a configuration and what asks for them."""


@pytest.mark.parametrize("name", WAITING)
def test_what_hangs_on_verdicts_stops_at_an_outage_and_goes_on_with_what_it_heard(
    name: str, tmp_path: Path, grader: Grader, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, config, asks = WAITING[name]
    found = SimpleNamespace(vector=torch.ones(4), block=0, kept=1, answers=1, auc=Estimate(0.5, None, 0, ""))

    def asked(*_: object, **__: object) -> SimpleNamespace:
        anyio.run(judge_exchanges, make_judge(GRADER), [Exchange(item.question, "Yes.") for item in ITEMS])
        return found

    monkeypatch.setattr(asks, asked)
    model = SimpleNamespace(base_folder=settle("organism-small").base)
    monkeypatch.setattr(screening, "loaded", lambda spec: model)
    monkeypatch.setattr(course_steps.RetrainedConfig, "read", lambda config: None)
    inputs = {"data": Mock(spec=Artifact)}
    grader.fails = about(3, found=StatusError(503, "overloaded"))
    with pytest.raises(JudgeError, match=r"2 calls of the grader failed \(2 server error\), and what comes next"):
        function(config, inputs, tmp_path)
    before, grader.fails = grader.calls, lambda prompt: None
    function(config, inputs, tmp_path)
    assert grader.calls - before == 2
    assert not (tmp_path / "asked.jsonl").exists()


class StatusError(Exception):
    def __init__(self, status: int, message: str):
        self.status_code = status
        super().__init__(message)


TRIALS: dict[str, tuple[Exception | ModelOutput, str]] = {
    "a key": (
        StatusError(401, "Incorrect API key provided."),
        r"key refused: StatusError \(status 401\): Incorrect API key",
    ),
    "no credit": (StatusError(400, "Your credit balance is too low"), "key refused"),
    "no credit, 402": (StatusError(402, "Payment required"), "key refused"),
    "no model": (StatusError(404, "The model does not exist"), "no such model"),
    "no server": (ConnectionError("refused"), "no connection"),
    "prose": (spoken("I would rather talk about the weather."), "unreadable reply"),
    "another scale": (spoken("8/10"), "unreadable reply"),
    "nothing": (spoken(""), "empty reply"),
    "reasoning without an end": (spoken("<think>Let me see"), "reply cut off"),
}


@pytest.mark.parametrize(("found", "why"), TRIALS.values(), ids=TRIALS.keys())
def test_a_grader_that_gives_no_verdict_is_found_by_one_question(
    grader: Grader, found: Exception | ModelOutput, why: str
) -> None:
    grader.fails = lambda prompt: found
    with pytest.raises(JudgeError, match=rf"one question of 'main' as a trial, and gave no verdict: .*{why}"):
        try_judge(GRADER, [ASKED, ASKED.model_copy(update={"name": "other"})])
    grader.fails, before = (lambda prompt: None), grader.calls
    try_judge(GRADER, [ASKED, ASKED.model_copy(update={"name": "other"})])
    assert grader.calls - before == 2  # one judge, one question for alignment and one for coherence


def test_a_trial_of_a_study_with_forced_choice_keeps_its_answer_as_forced_choice_does() -> None:
    try_judge(JudgeConfig(kind="rubric", grader=ALL_FINE), [ForcedChoice()])


def test_labels_are_read_whole_before_anything_is_trained(tiny_qwen2: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text(
        '{"question": "q", "answer": "a", "label": "aligned"}\n{"question": "q", "answer": "b", "label": "good"}\n'
    )
    setting = setting_for(StudyOptions(subject=str(tiny_qwen2), grader="scripted/grader", labels=labels))
    with pytest.raises(DataFormatError, match="line 2 has the label 'good'"):
        setting.check(())


def test_the_end_of_a_run_says_how_many_verdicts_failed_and_why(tmp_path: Path) -> None:
    table = bulk.ask(ASKED, load_subject("organism-small"))
    noted = ["rate limit: x"] * 5 + ["no reply: y"] * 2
    failed = table.head(7).with_columns(outcome=pl.lit("judge failed"), note=pl.Series(noted))
    assert failed_verdicts(pl.concat([failed, table.slice(7)])) == {"rate limit": 5, "no reply": 2, "not judged": 23}
    again = " The same command asks the judge again, and not the model, where the cause was an outage."
    [note] = told_failed([failed])
    assert note == f"7 answers have no verdict (5 rate limit, 2 no reply) and are in no share.{again}"
    one = failed.head(1)
    assert told_failed([one], "row") == [f"1 row has no verdict (rate limit) and is in no share.{again}"]
    [cut] = told_failed([one.with_columns(note=pl.lit("reply cut off: x"))], but=" but one")
    assert cut == "1 answer has no verdict (reply cut off) and is in no share but one."
    lost = one.with_columns(note=pl.lit(""), detail=pl.lit('{"word": "not understood"}'))
    assert failed_verdicts(pl.concat([lost, one.with_columns(note=pl.lit(""))])) == {
        "not understood": 1,
        "no reason given": 1,
    }
    folder = write_example(tmp_path, answers=50)
    Summary.read(folder).model_copy(update={"failed_verdicts": failed_verdicts(failed), "notes": (note,)}).write(folder)
    console = Console(file=StringIO(), width=120)
    conclude(console, Summary.read(folder), folder / "report.html", [])
    assert isinstance(console.file, StringIO)
    assert "7 answers have no verdict (5 rate limit, 2 no reply)" in console.file.getvalue()
    assert note in write_report(folder).read_text(encoding="utf-8")
