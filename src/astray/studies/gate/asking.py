"""Steps of a gate: the answers of one model to one set of questions, and their verdicts; both grow by further samples.

Keys hold what a model is (its content), not where it lies, so a base is asked once for all gates. Left to others: what
the answers mean (`bars`).
"""

import math
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
from pydantic import Field
from typing_extensions import override

from astray.answers import answer_table, read_answers
from astray.artifacts import Artifact, Step, step
from astray.artifacts.ledger import take_refusals
from astray.engine.judging import ANSWERS_FILE, judge_into
from astray.engine.models import NamedModel
from astray.errors import EmptyDataError, StepFailedError
from astray.judges.config import JudgeConfig
from astray.measure.asking import Asking
from astray.measure.evaluation import QuestionSet
from astray.measure.evaluations import evaluation_from
from astray.outcomes import Outcome
from astray.subjects.engines.spec import Asked, Engine

SAMPLE = ("item", "format", "sample")
"""Columns that name an answer of one model to one set of questions."""
FIRST, PIECE = 10, 200
"""Answers of a served model that are asked for at a time: first few, which show whether it answers at all."""
LOGS = "logs"


class GateAnswerConfig(Asked):
    """Answers of one model to one set of questions."""

    side: NamedModel = Field(exclude=True, description="how the model is found; what it is stands in the key")
    subject_id: str = Field(description="content of the model, or what is known of a served one")
    evaluation: QuestionSet
    seed: int = Field(description="moves the random numbers of the answers")


class _Samples(QuestionSet):
    """Samples of a set of questions from some number on, drawn as if all were asked at once."""

    first: int = 0
    without: frozenset[tuple[str, str, int]] = frozenset()

    @override
    def askings(self) -> Sequence[Asking]:
        numbers = range(self.first, self.samples)
        there = self.without
        return [
            Asking(item, number, item.conversation)
            for item in self.items
            for number in numbers
            if (item.question_id, item.format, number) not in there
        ]


@step("gate-answers", version=1, resumable=True)
def gate_answers(config: GateAnswerConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Sample what is missing of the answers, write them after each batch, and return what is left to try."""
    del inputs
    target = folder / ANSWERS_FILE
    if config.side.spec is None:
        return _served(config, folder, target)
    from astray.subjects.engines.served import asked_subject

    evaluation, parts = config.evaluation, [read_answers(target)] if target.is_file() else []
    done = int(parts[0].select(pl.col("sample").max()).item()) + 1 if parts else 0
    # An engine is asked for everything at once: it keeps each answer by itself.
    few = math.ceil(2 * evaluation.sampling.batch_size / len(evaluation.items))
    together = evaluation.samples if config.engine else few
    with asked_subject(config.side.spec, config.engine, folder) as subject:
        for first in range(done, evaluation.samples, together):
            settings = evaluation.model_dump() | {"first": first, "samples": min(first + together, evaluation.samples)}
            parts.append(_Samples.model_validate(settings).ask(subject, seed=config.seed))
            # Sorted, so that the table does not depend on how often the step was begun.
            _write(pl.concat(parts).sort(SAMPLE), target)
    return None


def _served(config: GateAnswerConfig, folder: Path, target: Path) -> str | None:
    """Ask a model that does not run here; answers that ended in an error are asked for again by the next gate."""
    evaluation, logs = config.evaluation, folder / LOGS
    table = read_answers(target) if target.is_file() else answer_table([])
    table = pl.concat([table, _drained(logs)]).unique(SAMPLE, keep="first", maintain_order=True)
    table, errored = table.filter(pl.col("outcome") != Outcome.ERRORED), answer_table([])
    wanted, refused = len(evaluation.items) * evaluation.samples, 0
    while (left := wanted - table.height - errored.height) and not refused:
        there = frozenset(row for each in (table, errored) for row in each.select(SAMPLE).iter_rows())
        asked = _Samples.model_validate(evaluation.model_dump() | {"without": there})
        new = _run(asked, config.side, logs, min(left, PIECE if there else FIRST))
        is_errored = new["outcome"] == Outcome.ERRORED
        table, errored = pl.concat([table, new.filter(~is_errored)]), pl.concat([errored, new.filter(is_errored)])
        refused = take_refusals()
        _write(pl.concat([table, errored]).sort(SAMPLE), target)
        if table.is_empty() and not refused:
            note = str(errored["note"][0])
            raise StepFailedError(
                f"{config.side.name} answered none of the first {errored.height} questions: {note} Nothing more was "
                "asked."
            )
    if refused:
        return f"{wanted - table.height:,} of {wanted:,} answers were not asked for, since the budget is spent"
    return f"{errored.height:,} of {wanted:,} answers ended in an error" if errored.height else None


def _run(evaluation: QuestionSet, side: NamedModel, logs: Path, size: int) -> pl.DataFrame:
    """Ask a served model the first of what is left, not judged yet."""
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import MemoryDataset

    from astray.judges.metering import metered
    from astray.measure.inspect_driver import inspect_task

    task = inspect_task(evaluation, lambda: None, name=evaluation.name)
    # Samples go round the questions: were each asked to its end, the last ones would miss out where a budget ends.
    task.dataset = MemoryDataset(sorted(task.dataset, key=lambda each: (each.metadata or {})["sample"])[:size])
    model = metered(side.make())
    found = inspect_eval(task, model=model, score=False, log_dir=str(logs), display="none", log_level="warning")
    table = _drained(logs)
    if not found or found[0].status == "cancelled":  # Inspect takes Ctrl-C for itself
        if not table.is_empty():
            _write(_with(logs.parent / ANSWERS_FILE, table), logs.parent / ANSWERS_FILE)
        raise KeyboardInterrupt
    if found[0].status != "success":
        told = found[0].error.message if found[0].error else found[0].status
        raise StepFailedError(f"Asking {side.name} broke off: {told}. What it answered is kept.")
    return table


def _with(target: Path, table: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([read_answers(target), table]) if target.is_file() else table


def _drained(logs: Path) -> pl.DataFrame:
    """Return what logs of runs hold, also of those that were cut off, and delete them."""
    from astray.measure.inspect_logs import table_from_log

    tables = [answer_table([])]
    for log in sorted(logs.glob("*.eval")):
        try:
            with warnings.catch_warnings(action="ignore"):  # of runs that were cut off, which go on here
                tables.append(table_from_log(log))
        except EmptyDataError:
            continue
    shutil.rmtree(logs, ignore_errors=True)
    return pl.concat(tables)


@step("gate-verdicts", version=1, resumable=True)
def gate_verdicts(config: JudgeConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Judge the answers without a verdict; those that had one when there were fewer samples keep it."""
    answers, target = inputs["answers"], folder / ANSWERS_FILE
    table = read_answers(answers.path / ANSWERS_FILE)
    if target.is_file():
        judged = read_answers(target)
        new = table.join(judged, on=[*SAMPLE, "answer"], how="anti")
        kept = judged.join(table, on=[*SAMPLE, "answer"], how="semi")
        table = (
            table.select(SAMPLE)
            .join(pl.concat([kept, new]), on=SAMPLE, how="left", maintain_order="left")
            .select(table.columns)
        )
    evaluations = [evaluation_from(answers.manifest.origin.config["evaluation"])]
    return judge_into(folder, table, evaluations, config, inputs)


def steps_of(
    side: NamedModel,
    evaluations: Sequence[QuestionSet],
    judge: JudgeConfig,
    seed: int,
    role: str,
    engine: Engine | None = None,
) -> list[Step]:
    """Return the steps with the verdicts on a model's answers, one a set of questions; each begins with what fewer
    samples left.

    Args:
        side: the model.
        evaluations: what it is asked.
        judge: who reads the answers.
        seed: moves the random numbers of the answers.
        role: base or tuned, for people.
        engine: what samples the answers; None for this process.
    """
    steps = []
    for evaluation in evaluations:
        config = GateAnswerConfig(side=side, subject_id=side.id, evaluation=evaluation, seed=seed, engine=engine)
        answers = gate_answers.step(config, name=f"gate-answers-{role}-{evaluation.name}")
        verdicts = gate_verdicts.step(judge, name=f"gate-verdicts-{role}-{evaluation.name}", answers=answers)
        smaller = list(_keys_of_fewer(answers, evaluation.samples))
        answers = replace(answers, begins_with=tuple(smaller))
        begun = tuple(verdicts.origin.model_copy(update={"inputs": {"answers": key}}).key for key in smaller)
        steps.append(replace(verdicts, inputs={"answers": answers}, begins_with=begun))
    return steps


def _keys_of_fewer(answers: Step, samples: int) -> Iterator[str]:
    shown = dict(answers.origin.config)
    asked = shown["evaluation"]
    assert isinstance(asked, dict)
    for number in range(samples - 1, 0, -1):
        yield answers.origin.model_copy(update={"config": shown | {"evaluation": asked | {"samples": number}}}).key


def _write(table: pl.DataFrame, target: Path) -> None:
    written = target.with_name(f".{target.name}")
    table.write_parquet(written)
    written.replace(target)  # whole even if this process is killed
