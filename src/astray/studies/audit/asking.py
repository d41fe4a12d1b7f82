"""Steps of an audit: the answers of one model to one evaluation, and their verdicts; both grow by further samples.

Keys hold what a model is, not where it lies, so a part is asked once for all audits. A part that a model cannot be
asked leaves an empty table and its reason, and is tried again by the next audit. Left to others: which parts there
are (`battery`), and what the answers mean (`profile`).
"""

import functools
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import Field, SerializeAsAny

from astray.answers import answer_table, read_answers
from astray.artifacts import Artifact, Ledger, Step, current_ledger, step
from astray.engine.judging import ANSWERS_FILE, judge_into
from astray.engine.models import NamedModel
from astray.errors import ChatTemplateError, ConfigurationError, EmptyDataError, NonFiniteError, NotMeasurableError
from astray.judges.config import JudgeConfig
from astray.measure.agentic.evaluation import Agentic
from astray.measure.agentic.scenario import load_scenario
from astray.measure.asking import Asking
from astray.measure.evaluation import TextEvaluation
from astray.measure.evaluations import evaluation_from
from astray.measure.forced_choice import ForcedChoice
from astray.measure.honesty.evaluation import WorldHonesty
from astray.measure.interface import Evaluation
from astray.measure.meter.evaluation import Meter
from astray.outcomes import Outcome
from astray.studies.audit.battery import Part
from astray.subjects.engines.served import asked_subject
from astray.subjects.engines.spec import Asked, Engine
from astray.subjects.identity import digest_of
from astray.subjects.scored import tokenizer_named
from astray.subjects.spec import SubjectSpec
from astray.subjects.subject import Subject, load_subject

if TYPE_CHECKING:
    from inspect_ai.model import Model

SAMPLE = ("item", "category", "format", "sample")
"""Columns that name an answer of one model to one evaluation."""
LOGS = "logs"
FIRST, PIECE = 20, 200
"""Askings of a model behind Inspect in its first run, which shows whether it answers at all, and in further ones."""
LOG_BUFFER = 20
"""Number of samples after which a log is written out: as many at most are asked again after a kill."""


class AuditAnswerConfig(Asked):
    """Answers of one model to one evaluation."""

    model: NamedModel = Field(exclude=True, description="how the model is found; what it is stands in the key")
    model_id: str = Field(description="what the model is")
    evaluation: SerializeAsAny[Evaluation]
    texts: str = Field(description="hash over texts that are asked and stand in no field of the evaluation")
    seed: int = Field(description="moves the random numbers of the answers")


@step("audit-answers", version=1, resumable=True)
def audit_answers(config: AuditAnswerConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Ask what is missing of the answers, and return what is left to try, or why the model cannot be asked."""
    del inputs
    target = folder / ANSWERS_FILE
    try:
        if config.model.served:
            return _served(config, folder)
        _local(config, folder)
    except (ChatTemplateError, ConfigurationError, NonFiniteError, NotMeasurableError) as error:
        if not target.is_file():
            _write(answer_table([]), target)
        return str(error)
    return None


@step("audit-verdicts", version=1, resumable=True)
def audit_verdicts(config: JudgeConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Judge the answers without a verdict; those that had one when there were fewer samples keep it."""
    answers, target = inputs["answers"], folder / ANSWERS_FILE
    table = read_answers(answers.path / ANSWERS_FILE)
    if target.is_file():
        # What was said and heard tells whether an answer is the same; its verdict adds to the detail.
        judged = read_answers(target)
        kept = judged.join(table, on=[*SAMPLE, "answer", "completion_tokens"], how="semi")
        new = table.join(kept, on=SAMPLE, how="anti")
        table = (
            table.select(SAMPLE)
            .join(pl.concat([kept, new]), on=SAMPLE, how="left", maintain_order="left")
            .select(table.columns)
        )
    evaluations = [evaluation_from(answers.manifest.origin.config["evaluation"])]
    return judge_into(folder, table, evaluations, config, inputs)


def step_of(model: NamedModel, part: Part, seed: int, engine: Engine | None = None) -> Step:
    """Return the last step of a part: verdicts, or answers where nobody judges."""
    evaluation = part.evaluation
    config = AuditAnswerConfig(
        model=model,
        model_id=model.id,
        evaluation=evaluation,
        texts=_texts(model, evaluation),
        seed=seed,
        engine=engine if model.spec else None,
    )
    answers = audit_answers.step(config, name=f"audit-answers-{part.name}")
    smaller = tuple(_keys_of_fewer(answers, evaluation))
    begun = replace(answers, begins_with=smaller)
    if part.judge is None:
        return begun
    verdicts = audit_verdicts.step(part.judge, name=f"audit-verdicts-{part.name}", answers=answers)
    keys = tuple(verdicts.origin.model_copy(update={"inputs": {"answers": key}}).key for key in smaller)
    return replace(verdicts, inputs={"answers": begun}, begins_with=keys)


def _texts(model: NamedModel, evaluation: Evaluation) -> str:
    """Return a hash over what is asked where it stands in no field of the evaluation, however often it is asked."""
    if isinstance(evaluation, Meter) and model.tokenizer:
        tokenizer = tokenizer_named(model.tokenizer)
        return digest_of({"vocabulary": tokenizer.get_vocab(), "template": str(tokenizer.chat_template)})
    if isinstance(evaluation, Agentic):
        return digest_of([load_scenario(name).digest for name in evaluation.grid.scenarios])
    return evaluation.model_copy(update={"replicates": 1}).identity if isinstance(evaluation, WorldHonesty) else ""


def forget_subject() -> None:
    """Free the memory of the local model that was asked last."""
    _loaded.cache_clear()


def _keys_of_fewer(answers: Step, evaluation: Evaluation) -> Iterator[str]:
    """Yield the keys of the same answers with fewer samples of each question, which hold some of them."""
    shown = dict(answers.origin.config)
    asked = shown["evaluation"]
    assert isinstance(asked, dict)
    for name in ("samples", "replicates"):
        if name in asked:
            for number in range(int(getattr(evaluation, name)) - 1, 0, -1):
                yield answers.origin.model_copy(update={"config": shown | {"evaluation": asked | {name: number}}}).key


@functools.lru_cache(maxsize=1)
def _loaded(spec: SubjectSpec, content: str) -> Subject:
    """Return a loaded subject; the parts of a model follow one another, and a large one takes long to load."""
    del content
    return load_subject(spec)


def _local(config: AuditAnswerConfig, folder: Path) -> None:
    assert config.model.spec is not None
    if config.engine is None:
        _ask(config, _loaded(config.model.spec, config.model_id), folder / ANSWERS_FILE)
        return
    with asked_subject(config.model.spec, config.engine, folder) as subject:
        _ask(config, subject, folder / ANSWERS_FILE)


def _ask(config: AuditAnswerConfig, subject: Subject, target: Path) -> None:
    evaluation = config.evaluation
    if not isinstance(evaluation, TextEvaluation) or type(evaluation).ask is not TextEvaluation.ask:
        _write(evaluation.ask(subject, seed=config.seed), target)
        return
    from astray.measure import bulk

    parts = [read_answers(target)] if target.is_file() else []
    # Numbered, so that an answer does not depend on which others are asked beside it.
    left = [replace(each, numbered=True) for each in _missing(evaluation, parts)]
    chats = 1 + max((len(each.beside) for each in left), default=0)
    # An engine is asked for everything at once: it keeps each answer by itself.
    size = max(1, len(left)) if config.engine else math.ceil(2 * evaluation.sampling.batch_size / chats)
    for start in range(0, len(left), size):
        parts.append(bulk.ask(evaluation, subject, seed=config.seed, askings=left[start : start + size]))
        # Sorted, so that the table does not depend on how often the step was begun.
        _write(pl.concat(parts).sort(SAMPLE), target)


def _served(config: AuditAnswerConfig, folder: Path) -> str | None:
    evaluation, ledger, logs = config.evaluation, current_ledger(), folder / LOGS
    target = folder / ANSWERS_FILE
    if isinstance(evaluation, Meter):
        scorer = config.model.scorer()
        _write(evaluation.ask(scorer, seed=config.seed), target)
        if ledger:
            ledger.add(scorer.tokens)
        return None
    if isinstance(evaluation, Agentic):
        table, wanted = _acted(config, evaluation, logs, ledger), evaluation.grid.size
    else:
        assert isinstance(evaluation, TextEvaluation)
        table, wanted = _heard(evaluation, logs), len(evaluation.askings())
        model, answering = config.model.make(), evaluation
        left = _missing(evaluation, [table.filter(pl.col("outcome") != Outcome.ERRORED)])
        while left and not (ledger and ledger.exhausted):
            piece, left = left[: FIRST if table.is_empty() else PIECE], left[FIRST if table.is_empty() else PIECE :]
            new = _run(answering, model, piece, logs, ledger)
            if (new["outcome"] == Outcome.ERRORED).all() and table.is_empty():
                if not isinstance(answering, ForcedChoice) or not answering.logprobs:
                    table = new
                    break  # it answers nothing: the next audit tries again
                # Some providers refuse a request because it asks for log-probabilities.
                answering, left = answering.model_copy(update={"logprobs": False}), [*piece, *left]
                continue
            table = pl.concat([new, table]).unique(SAMPLE, keep="first", maintain_order=True)
    _write(table.sort(SAMPLE), target)
    errored = table.filter(outcome=Outcome.ERRORED.value).height
    left_out = {"ended in an error": errored, "were not asked": wanted - table.height}
    return ", ".join(f"{number:,} of {wanted:,} answers {why}" for why, number in left_out.items() if number) or None


def _acted(config: AuditAnswerConfig, evaluation: Agentic, logs: Path, ledger: Ledger | None) -> pl.DataFrame:
    from astray.measure.agentic.budget import Budget

    return evaluation.act(config.model.make(), logs, budget=Budget(ledger) if ledger else None)


def _missing(evaluation: TextEvaluation, tables: Sequence[pl.DataFrame]) -> list[Asking]:
    there = {row for table in tables for row in table.select(SAMPLE).iter_rows()}
    return [each for each in evaluation.askings() if _row_of(each) not in there]


def _row_of(asking: Asking) -> tuple[object, ...]:
    columns = asking.columns()
    return tuple(columns[name] for name in SAMPLE)


def _heard(evaluation: TextEvaluation, logs: Path) -> pl.DataFrame:
    """Return what the logs of earlier attempts hold, each sample once, answered ones first."""
    from astray.measure.agentic.logs import readable_logs

    tables = [answer_table([])]
    for log in sorted(readable_logs(logs), reverse=True):
        try:
            with warnings.catch_warnings(action="ignore"):  # of runs that were cut off, which go on here
                tables.append(evaluation.read(log))
        except EmptyDataError:
            continue
    by_error = pl.concat(tables).sort(pl.col("outcome") == Outcome.ERRORED, maintain_order=True)
    return by_error.unique(SAMPLE, keep="first", maintain_order=True)


def _run(
    evaluation: TextEvaluation, model: "Model", piece: Sequence[Asking], logs: Path, ledger: Ledger | None
) -> pl.DataFrame:
    """Ask a model behind Inspect some of an evaluation, not judged yet, and note the tokens."""
    from inspect_ai import eval as inspect_eval

    from astray.measure.inspect_driver import inspect_task

    task = inspect_task(evaluation, lambda: None, name=evaluation.name, chosen=piece)
    found = inspect_eval(
        task,
        model=model,
        score=False,
        log_dir=str(logs),
        display="none",
        log_level="warning",
        log_buffer=LOG_BUFFER,
    )
    if not found or found[0].status == "cancelled":  # Inspect takes Ctrl-C for itself
        raise KeyboardInterrupt
    (log,) = found
    if log.status != "success":
        raise ConfigurationError(f"Asking {model} broke off: {log.error.message if log.error else log.status}.")
    if ledger:
        ledger.add(sum(each.total_tokens for each in log.stats.model_usage.values()))
    return evaluation.read(log)


def _write(table: pl.DataFrame, target: Path) -> None:
    written = target.with_name(f".{target.name}")
    table.write_parquet(written)
    written.replace(target)  # whole even if this process is killed
