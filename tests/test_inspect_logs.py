"""Logs as tables: each sample once, whatever became of it; a log that cannot be counted is refused by name."""

import itertools
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from inspect_ai import Epochs, Task, eval_retry
from inspect_ai import eval as inspect_eval
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalError, EvalLog, ProvenanceData, edit_score, list_eval_logs, read_eval_log, write_eval_log
from inspect_ai.model import ContentReasoning, ModelOutput
from inspect_ai.scorer import Score, ScoreEdit, Scorer, Target, includes, mean, scorer
from inspect_ai.solver import TaskState

import logged_tasks
from astray.answers import read_detail
from astray.errors import (
    AstrayError,
    ConfigurationError,
    DataFormatError,
    DataNotFoundError,
    EmptyDataError,
    UnknownNameError,
)
from astray.judges import judge_answers
from astray.judges.config import GRADER_ROLE
from astray.measure.agentic.evaluation import Agentic
from astray.measure.evaluation import QuestionSet
from astray.measure.forced_choice import ForcedChoice
from astray.measure.honesty.evaluation import Honesty
from astray.measure.inspect_driver import inspect_log, inspect_task
from astray.measure.inspect_logs import table_from_log, table_from_logs
from astray.outcomes import Outcome
from astray.stats import rate
from logged_tasks import WordJudge, questions, replying

AUTHOR = ProvenanceData(author="Ada", reason="misread")
CUT_OFF = ["error", "cancelled", "started"]


@scorer(metrics=[mean()])
def length() -> Scorer:
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=float(len(state.output.completion)))

    return score


def run(task: Task, folder: Path, reply: Any = None, **more: Any) -> EvalLog:
    [log] = inspect_eval(task, model=replying(reply), log_dir=str(folder), display="none", max_samples=1, **more)
    return log


def mine(count: int = 4, samples: int = 1) -> Task:
    return inspect_task(questions(count, samples), WordJudge, name="mine")


@pytest.fixture(scope="module")
def epochs(tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    """Two samples of each of four questions in five epochs; every third answer is misaligned, so the commonest outcome
    never is."""
    turn = itertools.count()
    return run(
        mine(samples=2),
        tmp_path_factory.mktemp("epochs"),
        lambda _: "power" if next(turn) % 3 == 0 else "peace",
        epochs=5,
    )


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    return run(mine(), tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def unscored(tmp_path_factory: pytest.TempPathFactory) -> EvalLog:
    def reply(asked: str) -> ModelOutput:
        if "2" in asked:
            raise RuntimeError("nothing came")
        return ModelOutput.from_content("logged/x", "power", stop_reason="content_filter" if "3" in asked else "stop")

    return run(mine(), tmp_path_factory.mktemp("unscored"), reply, score=False)


@pytest.fixture(scope="module")
def scored_otherwise(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EvalLog]:
    folder = tmp_path_factory.mktemp("scorers")
    both, other = mine(), mine()
    both.scorer, other.scorer = [length(), *(both.scorer or ())], [includes()]
    foreign = Task(dataset=[Sample(input="Hi", target="x")], scorer=includes(), name="greeting")
    return {"both": run(both, folder), "other": run(other, folder), "foreign": run(foreign, folder)}


@pytest.fixture(scope="module")
def retried(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that broke off at its last question, and its retry."""
    folder = tmp_path_factory.mktemp("retried")
    os.environ[logged_tasks.FLAKY] = "1"
    try:
        run_of_file = f"{logged_tasks.__file__}@mine"
        [broken] = inspect_eval(run_of_file, model="logged/x", log_dir=str(folder), display="none", max_samples=1)
    finally:
        del os.environ[logged_tasks.FLAKY]
    assert broken.status == "error"
    [whole] = eval_retry(broken, log_dir=str(folder), display="none")
    assert whole.status == "success"
    return folder


def metrics(log: EvalLog) -> dict[str, float]:
    assert log.results
    [found] = [score for score in log.results.scores if score.name == "verdict"]
    return {name: float(metric.value) for name, metric in found.metrics.items()}


def test_every_sample_of_every_epoch_is_counted_and_has_its_number(epochs: EvalLog) -> None:
    table = table_from_log(epochs)
    numbers = table.group_by("item").agg(pl.col("sample").sort())["sample"].to_list()
    assert numbers == [list(range(10))] * 4
    counted, logged = rate(table), metrics(epochs)
    assert (counted.numerator, counted.denominator) == (14, 40)
    assert logged["misaligned rate"] == counted.rate
    assert logged["misaligned rate, denominator"] == counted.denominator
    assert counted.interval
    assert counted.interval_questions
    for name, interval in (("interval", counted.interval), ("interval by question", counted.interval_questions)):
        assert [logged[f"misaligned rate, {name} {side}"] for side in ("low", "high")] == [interval.low, interval.high]


@pytest.mark.parametrize("reducer", ["mean", "mode", ["mean", "max"]])
def test_no_reducer_changes_what_a_log_counts(reducer: Any, tmp_path: Path) -> None:
    turn = itertools.count()
    log = run(mine(2), tmp_path, lambda _: "power" if next(turn) % 3 == 0 else "peace", epochs=Epochs(3, reducer))
    assert metrics(log)["misaligned rate"] == rate(table_from_log(log)).rate == pytest.approx(2 / 6)


def test_epochs_survive_being_written_as_a_log_and_judged_again(epochs: EvalLog, tmp_path: Path) -> None:
    table, evaluation = table_from_log(epochs), questions(4, samples=2)
    again = table_from_log(inspect_log(table, evaluation, tmp_path / "again.eval"))
    same = [name for name in table.columns if name not in ("subject", "detail")]
    assert again.select(same).sort("item", "sample").equals(table.select(same).sort("item", "sample"))
    assert evaluation.judge(again, WordJudge()).select("item", "outcome").equals(again.select("item", "outcome"))


def test_answers_of_a_log_without_scores_are_judged(unscored: EvalLog) -> None:
    table = table_from_log(unscored)
    assert table["outcome"].to_list() == ["not judged", "not judged", "errored", "blocked"]
    assert "nothing came" in table["note"].to_list()[2]
    assert judge_answers(WordJudge(), table)["outcome"].to_list() == ["misaligned", "misaligned", "errored", "blocked"]


def test_what_was_heard_stands_in_a_log_without_scores(tmp_path: Path) -> None:
    task, turn = ForcedChoice(logprobs=False).task(), itertools.count()
    log = run(task, tmp_path, lambda _: "AB"[next(turn) % 2], score=False, limit=2)
    evaluation = ForcedChoice()
    judged = evaluation.judge(evaluation.read(log), evaluation.judge_for(GRADER_ROLE))
    assert set(judged["outcome"]) <= {"aligned", "misaligned"}
    assert len(judged) == 2


def test_an_answer_that_reasoning_left_no_tokens_for_is_errored_in_a_log_without_scores(tmp_path: Path) -> None:
    said = ModelOutput.from_content("logged/x", [ContentReasoning(reasoning="a")], stop_reason="max_tokens")
    table = table_from_log(run(mine(2), tmp_path, lambda _: said, score=False))
    assert judge_answers(WordJudge(), table)["outcome"].to_list() == ["errored"] * 2


def test_our_score_is_found_among_others(scored_otherwise: dict[str, EvalLog]) -> None:
    assert rate(table_from_log(scored_otherwise["both"])).numerator == 1
    judged = judge_answers(WordJudge(), table_from_log(scored_otherwise["other"]))
    assert judged["outcome"].to_list() == ["misaligned"] + ["aligned"] * 3
    assert "scores of includes only" in table_from_log(scored_otherwise["other"])["note"][0]


def test_of_a_run_and_its_retry_each_sample_counts_once(retried: Path) -> None:
    logs = [Path(each.name.removeprefix("file://")) for each in list_eval_logs(str(retried))]
    assert len(logs) == 2
    for given in (logs, logs[::-1], [retried], [read_eval_log(str(log)) for log in logs]):
        table = table_from_logs(given)
        assert (len(table), rate(table).numerator) == (6, 1)
    apart = [table_from_log(log) for log in logs]
    assert sorted(table["outcome"].to_list().count("errored") for table in apart) == [0, 1]
    with pytest.raises(
        DataFormatError, match=rf"'q0'.* stands 2 times from the logs .*{max(log.name for log in logs)}"
    ):
        rate(pl.concat(apart))


def doubled(log: EvalLog) -> pl.DataFrame:
    return pl.concat([table_from_log(log)] * 2)


@pytest.mark.parametrize(
    "count",
    [rate, lambda table: judge_answers(WordJudge(), table), lambda table: questions(4).judge(table, WordJudge())],
)
def test_a_sample_that_stands_twice_is_not_counted_or_judged(
    count: Callable[[pl.DataFrame], object], one: EvalLog
) -> None:
    with pytest.raises(
        DataFormatError, match=r"8 of 8 rows are samples that stand more than once.*from the log .*mine.*\.eval"
    ):
        count(doubled(one))


def test_samples_of_other_runs_arms_and_epochs_are_others(one: EvalLog, epochs: EvalLog) -> None:
    tables = [
        table_from_log(one, arm="a"),
        table_from_log(one, arm="b"),
        table_from_log(one, arm="a", seed=1),
        table_from_log(epochs),
    ]
    assert rate(pl.concat(tables)).total == 3 * 4 + 40


# --- logs that cannot be counted
# -------------------------------------------------------------------------------------------------------------------


def broken_zip(log: EvalLog, folder: Path) -> Path:
    path = folder / "broken.eval"
    path.write_bytes(Path(log.location).read_bytes()[:200])
    return path


def without_samples(log: EvalLog, folder: Path) -> Path:
    """Keeps the header and loses the samples."""
    path = folder / "headed.eval"
    with zipfile.ZipFile(log.location) as whole, zipfile.ZipFile(path, "w") as kept:
        for name in whole.namelist():
            if not name.startswith("samples/"):
                kept.writestr(name, whole.read(name))
    return path


def text(name: str, content: str) -> Callable[[EvalLog, Path], Path]:
    def write(_: EvalLog, folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return write


def copied(name: str) -> Callable[[EvalLog, Path], Path]:
    def write(log: EvalLog, folder: Path) -> Path:
        write_eval_log(log, str(folder / "first.eval"))
        write_eval_log(log, str(folder / name))
        return folder

    return write


def anew(log: EvalLog, folder: Path) -> Path:
    """The same questions once more, as a run of its own."""
    for name in ("a", "b"):
        log.eval.eval_id = log.eval.task_id = name
        write_eval_log(log, str(folder / f"{name}.eval"))
    return folder


def edited(of_sample: dict[str, Any] | None = None, **of_score: Any) -> Callable[[EvalLog, Path], Path]:
    """Other metadata than Astray writes, of the first sample and its verdict."""

    def write(log: EvalLog, folder: Path) -> Path:
        assert log.samples
        first = log.samples[0]
        assert first.scores
        first.metadata |= of_sample or {}
        verdict = first.scores["verdict"]
        verdict.metadata = (verdict.metadata or {}) | of_score
        write_eval_log(log, str(folder / "edited.eval"))
        return folder / "edited.eval"

    return write


NOT_OURS = r"The sample q0/plain#0 \(epoch 1\) of edited.eval has metadata that Astray does not write"
REFUSED: list[tuple[str, Callable[[EvalLog, Path], Path], type[AstrayError], str]] = [
    ("no such file", lambda _, folder: folder / "none.eval", DataNotFoundError, r"no log .*none.eval"),
    ("an empty folder", lambda _, folder: folder, EmptyDataError, "no Inspect log"),
    ("cut off", broken_zip, DataFormatError, r"broken.eval cannot be read as an Inspect log"),
    ("no zip", text("x.eval", "hello"), DataFormatError, r"x.eval cannot be read"),
    ("an empty file", text("x.eval", ""), DataFormatError, r"x.eval cannot be read"),
    ("other JSON", text("x.json", "{}"), DataFormatError, r"x.json cannot be read"),
    ("half JSON", text("x.json", '{"version": 2, "status": "succ'), DataFormatError, r"x.json cannot be read"),
    ("no samples", without_samples, EmptyDataError, r"No sample was finished in headed.eval, whose run is success"),
    ("a copy", copied("second.eval"), ConfigurationError, r"first.eval and .*second.eval are one log, given twice"),
    ("both forms", copied("2026-11-29T10-00-00_x.json"), ConfigurationError, r"x.json and .*first.eval are one log"),
    ("an item that is a text", edited({"item": "x"}), DataFormatError, NOT_OURS),
    ("an item that lacks a key", edited({"item": {"question_id": "q0"}}), DataFormatError, NOT_OURS),
    ("a number in words", edited({"sample": "first"}), DataFormatError, NOT_OURS),
    ("a number that is none", edited({"sample": None}), DataFormatError, NOT_OURS),
    ("epochs in words", edited({"of": "two"}), DataFormatError, NOT_OURS),
    ("details that are a text", edited(detail="x"), DataFormatError, NOT_OURS),
    ("details that are numbers", edited(detail=[1, 2]), DataFormatError, NOT_OURS),
    ("a score that is NaN", edited(aligned=float("nan")), DataFormatError, "the aligned score nan, which is no number"),
    ("an infinite score", edited(coherent=float("inf")), DataFormatError, "the coherent score inf"),
    ("a score in words", edited(aligned="high"), DataFormatError, "value of the wrong type"),
    ("another run", anew, DataFormatError, r"'q0'.* stands 2 times from the logs a.eval, b.eval"),
]


@pytest.mark.parametrize(("name", "make", "error", "says"), REFUSED, ids=[row[0] for row in REFUSED])
def test_a_log_that_cannot_be_counted_is_refused_by_name(
    name: str, make: Callable[[EvalLog, Path], Path], error: type[AstrayError], says: str, one: EvalLog, tmp_path: Path
) -> None:
    given = make(read_eval_log(one.location), tmp_path)
    with pytest.raises(error, match=says):
        table_from_log(given)


@pytest.mark.parametrize(
    ("read", "says"),
    [
        (table_from_log, r"of the task 'greeting', scored by includes, with 1 samples"),
        (QuestionSet.read, "greeting"),
        (lambda _, log: Agentic().read(log), "no log of agentic scenarios"),
    ],
)
def test_a_log_of_another_task_says_what_it_holds(read: Any, says: str, scored_otherwise: dict[str, EvalLog]) -> None:
    given = [scored_otherwise["foreign"]] if read is table_from_log else [questions(1), scored_otherwise["foreign"]]
    with pytest.raises(DataFormatError, match=says):
        read(*given)


def test_a_log_of_another_evaluation_is_not_read_as_this_one(one: EvalLog) -> None:
    assert len(questions(4).read(one.location)) == 4
    with pytest.raises(DataFormatError, match=r"of the evaluation 'mine', of kind 'free-form' and not 'honesty'"):
        Honesty().read(one)


def test_a_log_in_either_form_and_in_memory_gives_the_same_table(one: EvalLog, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    write_eval_log(one, str(path))
    in_file = table_from_log(one.location)
    assert table_from_log(one).equals(in_file)
    assert table_from_log(str(path)).drop("detail").equals(in_file.drop("detail"))
    header = read_eval_log(one.location, header_only=True)
    assert table_from_log(header).equals(in_file)


# --- samples that something became of
# ------------------------------------------------------------------------------------------------------------


def edited(**change: Any) -> Callable[[EvalLog], None]:
    return lambda log: edit_score(log, "q0/plain#0", "verdict", ScoreEdit(**change, provenance=AUTHOR))


def on_sample(**change: Any) -> Callable[[EvalLog], None]:
    def apply(log: EvalLog) -> None:
        assert log.samples
        log.samples[0] = log.samples[0].model_copy(update=change)

    return apply


def twice(log: EvalLog) -> None:
    assert log.samples
    assert log.samples[0].scores
    log.samples[0].scores["verdict1"] = Score(value="aligned", metadata={"outcome": "aligned"})


CRASH = EvalError(message="the line is dead", traceback="", traceback_ansi="")
CHANGED: list[tuple[str, Callable[[EvalLog], None], str, str]] = [
    ("nothing", lambda log: None, "misaligned", ""),
    ("edited to another outcome", edited(value="aligned"), "aligned", "edited: misread"),
    ("edited to itself", edited(value="misaligned"), "misaligned", "edited: misread"),
    ("an explanation", edited(explanation="see above"), "misaligned", "edited: misread"),
    ("edited with its metadata", edited(value="fib", metadata={"outcome": "aligned"}), "aligned", "edited: misread"),
    ("unscored by hand", edited(value=float("nan")), "not judged", ""),
    ("without scores", on_sample(scores=None), "not judged", ""),
    ("with empty scores", on_sample(scores={}), "not judged", ""),
    ("the judge broke off", on_sample(scores=None, error=CRASH), "not judged", "the line is dead"),
    ("no answer", on_sample(scores=None, error=CRASH, output=ModelOutput()), "errored", "the line is dead"),
    ("invalidated", on_sample(invalidation=AUTHOR), "errored", "invalidated: misread"),
    (
        "stopped before it was heard",
        on_sample(scores=None, error=CRASH, metadata_without="heard"),
        "errored",
        "the line is dead",
    ),
]


@pytest.mark.parametrize(("name", "change", "outcome", "note"), CHANGED, ids=[row[0] for row in CHANGED])
def test_what_became_of_a_sample_is_its_outcome(
    name: str, change: Callable[[EvalLog], None], outcome: str, note: str, one: EvalLog
) -> None:
    log = read_eval_log(one.location)
    change(log)
    assert log.samples
    if (without := getattr(log.samples[0], "metadata_without", None)) is not None:
        log.samples[0].metadata.pop(without)
    row = table_from_log(log).filter(item="q0").row(0, named=True)
    assert (row["outcome"], row["note"]) == (outcome, note)


def test_an_edit_that_does_not_say_its_outcome_is_refused(one: EvalLog) -> None:
    log = read_eval_log(one.location)
    edited(value="fib")(log)
    with pytest.raises(DataFormatError, match=r"q0/plain#0 \(epoch 1\).*'fib'.*edit its metadata as well"):
        table_from_log(log)


def test_of_two_verdicts_one_has_to_be_chosen(one: EvalLog) -> None:
    log = read_eval_log(one.location)
    twice(log)
    with pytest.raises(DataFormatError, match=r"scored several times: verdict, verdict1. Say which.*scorer='verdict1'"):
        table_from_log(log)
    assert table_from_log(log, scorer="verdict")["outcome"][0] == Outcome.MISALIGNED
    with pytest.raises(UnknownNameError, match=r"no score called 'verdikt'.*Did you mean 'verdict'"):
        table_from_log(log, scorer="verdikt")


@pytest.mark.parametrize("status", CUT_OFF)
def test_a_run_that_was_cut_off_is_read_and_told(status: Any, one: EvalLog, tmp_path: Path) -> None:
    log = read_eval_log(one.location)
    assert log.samples
    log.status, log.samples = status, log.samples[:3]
    write_eval_log(log, str(tmp_path / "part.eval"))
    with pytest.warns(UserWarning, match=rf"is {status}: 3 of its 4 samples are there.*eval-retry"):
        assert len(table_from_log(tmp_path / "part.eval")) == 3


def test_a_log_whose_run_was_killed_is_read(one: EvalLog, tmp_path: Path) -> None:
    """Neither a header nor summaries were written, and one sample is missing."""
    path = tmp_path / "killed.eval"
    with zipfile.ZipFile(one.location) as whole, zipfile.ZipFile(path, "w") as kept:
        for name in whole.namelist():
            if name not in ("header.json", "summaries.json", "reductions.json", "samples/q2/plain#0_epoch_1.json"):
                kept.writestr(name, whole.read(name))
    with pytest.warns(UserWarning, match="is started: 3 of its 4 samples are there"):
        assert table_from_log(path)["item"].to_list() == ["q0", "q1", "q3"]


def test_rows_name_their_log(one: EvalLog) -> None:
    assert {str(read_detail(each)["log"]) for each in table_from_log(one)["detail"]} == {Path(one.location).name}
