"""Steps that ask a model an evaluation and judge its answers, shared by all who measure models without training them.

Keys hold what a model is, not where it lies, so an answer that a gate or an audit asked for is asked once. Answers grow
by further samples, and fewer are taken from more. What a model cannot be asked leaves an empty table and the reason, and
is tried again by the next execution. Left to others: what is asked, and what the answers mean.
"""

import functools
import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import Field, SerializeAsAny

from astray.answers import answer_table, read_answers
from astray.artifacts import Artifact, Ledger, Step, Store, current_ledger, step
from astray.artifacts.ledger import take_refusals
from astray.engine.gold import GoldConfig, judge_gold
from astray.engine.judging import ANSWERS_FILE, judge_into
from astray.engine.models import NamedModel
from astray.errors import ChatTemplateError, ConfigurationError, EmptyDataError, NonFiniteError, NotMeasurableError
from astray.judges.config import JudgeConfig
from astray.judges.metering import metered
from astray.measure.agentic.evaluation import Agentic
from astray.measure.agentic.scenario import load_scenario
from astray.measure.agentic.surface import texts_digest
from astray.measure.asking import Asking
from astray.measure.evaluation import QuestionSet, TextEvaluation
from astray.measure.evaluations import evaluation_from
from astray.measure.forced_choice import ForcedChoice
from astray.measure.honesty.evaluation import WorldHonesty
from astray.measure.interface import Evaluation
from astray.measure.meter.evaluation import Meter
from astray.outcomes import Outcome
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
SEEDS = 10**10
"""Distance of the random numbers of two models."""
_ANY_SIZE = 770_077_007_700
"""Number that stands for the samples of a question in a key that is to be filled in."""
MOST_TIMES = 8
"""Times as many samples as are wanted among which stored answers are looked for: a gate grows by as much."""


class ModelAnswerConfig(Asked):
    """Answers of one model to one evaluation."""

    model: NamedModel = Field(exclude=True, description="how the model is found; what it is stands in the key")
    model_id: str = Field(description="what the model is")
    evaluation: SerializeAsAny[Evaluation]
    texts: str = Field(description="hash over texts that are asked and stand in no field of the evaluation")
    seed: int = Field(description="moves the random numbers of the answers")


@step("model-answers", version=1, resumable=True)
def model_answers(config: ModelAnswerConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Ask what is missing of the answers, and return what is left to try, or why the model cannot be asked."""
    del inputs
    target = folder / ANSWERS_FILE
    try:
        if config.model.served:
            return _ask_served(config, folder)
        _ask_local(config, folder)
    except (ChatTemplateError, ConfigurationError, NonFiniteError, NotMeasurableError) as error:
        if not target.is_file():
            _write(answer_table([]), target)
        return str(error)
    return None


@step("model-verdicts", version=1, resumable=True)
def model_verdicts(config: JudgeConfig, inputs: Mapping[str, Artifact], folder: Path) -> str | None:
    """Judge the answers without a verdict; those that had one when there were fewer samples keep it."""
    answers, target = inputs["answers"], folder / ANSWERS_FILE
    table = read_answers(answers.path / ANSWERS_FILE)
    if target.is_file():
        # What was said and heard tells whether an answer is the same; its verdict adds to the detail.
        judged = read_answers(target)
        unchanged = judged.join(table, on=[*SAMPLE, "answer", "completion_tokens"], how="semi")
        new = table.join(unchanged, on=SAMPLE, how="anti")
        table = (
            table.select(SAMPLE)
            .join(pl.concat([unchanged, new]), on=SAMPLE, how="left", maintain_order="left")
            .select(table.columns)
        )
    evaluations = [evaluation_from(answers.manifest.origin.config["evaluation"])]
    return judge_into(folder, table, evaluations, config, inputs)


def step_of(
    model: NamedModel,
    evaluation: Evaluation,
    judge: JudgeConfig | None,
    seed: int,
    names: tuple[str, str],
    *,
    gold: GoldConfig | None = None,
    former_seed: int | None = None,
    engine: Engine | None = None,
) -> Step:
    """Return the last step of what a model is asked: a gold judge's verdicts, verdicts, or answers that nobody judges.

    Args:
        model: who is asked.
        evaluation: what it is asked.
        judge: who reads the answers, if anybody does.
        seed: moves the random numbers of the answers.
        names: of the command and of the part, for people.
        gold: a second judge, and how many answers it reads.
        former_seed: of the answers of a gate, in stores of when gates asked for themselves.
        engine: what samples a model that runs here; None for this process.
    """
    config = ModelAnswerConfig(
        model=model,
        model_id=model.id,
        evaluation=evaluation,
        texts=_texts(model, evaluation),
        seed=seed,
        engine=engine if model.spec else None,
    )
    answers = model_answers.step(config, name="-answers-".join(names))
    others = dict(_other_answers(answers, evaluation, former_seed))
    begun = replace(answers, begins_with=tuple(others))
    if judge is None:
        return begun
    verdicts = model_verdicts.step(judge, name="-verdicts-".join(names), answers=answers)
    keys = tuple(
        verdicts.origin.model_copy(update={"function": function, "inputs": {"answers": key}}).key
        for key, function in others.items()
    )
    verdicts = replace(verdicts, inputs={"answers": begun}, begins_with=keys)
    if gold is None:
        return verdicts
    return judge_gold.step(gold, name="-gold-".join(names), answers=begun, verdicts=verdicts)


def stored_answers(step: Step, store: Store) -> int:
    """Return how many of the wanted answers of a step of `step_of` a store holds, in whatever step they were asked."""
    answers = step.inputs.get("answers", step)
    folder = store.begun(answers.key, answers.may_begin_with)
    evaluation = answers.config.evaluation  # type: ignore[attr-defined]
    assert isinstance(evaluation, TextEvaluation)
    if folder is None or not (folder / ANSWERS_FILE).is_file():
        return 0
    table = read_answers(folder / ANSWERS_FILE)
    return len(evaluation.askings()) - len(_missing(evaluation, [table.filter(pl.col("outcome") != Outcome.ERRORED)]))


def all_keys(steps: Sequence[Step]) -> list[str]:
    """Return the keys of steps and of all that they are made from, for `in_use`."""
    keys: dict[str, None] = {}
    stack = list(steps)
    while stack:
        step = stack.pop()
        keys[step.key] = None
        stack.extend(step.inputs.values())
    return list(keys)


def _texts(model: NamedModel, evaluation: Evaluation) -> str:
    """Return a hash over what is asked where it stands in no field of the evaluation, however often it is asked."""
    if isinstance(evaluation, Meter) and model.tokenizer:
        tokenizer = tokenizer_named(model.tokenizer)
        return digest_of({"vocabulary": tokenizer.get_vocab(), "template": str(tokenizer.chat_template)})
    if isinstance(evaluation, Agentic):
        surface = evaluation.grid.surface
        return digest_of([texts_digest(load_scenario(name), surface) for name in evaluation.grid.scenarios])
    return evaluation.model_copy(update={"replicates": 1}).identity if isinstance(evaluation, WorldHonesty) else ""


def forget_subject() -> None:
    """Free the memory of the local model that was asked last."""
    _loaded.cache_clear()


def _other_answers(answers: Step, evaluation: Evaluation, former_seed: int | None) -> Iterator[tuple[str, str]]:
    """Yield keys of steps with answers to the same questions, the most useful first, and what judged them: more samples
    of each question, the steps that audits and gates had before they shared one, and fewer samples."""
    shown = dict(answers.origin.config)
    asked = shown["evaluation"]
    assert isinstance(asked, dict)
    name = next((name for name in ("samples", "replicates") if name in asked), "")
    size = int(getattr(evaluation, name)) if name else 1
    more = range(size + 1, MOST_TIMES * size + 1) if isinstance(evaluation, QuestionSet) else ()

    marked = shown | ({"evaluation": asked | {name: _ANY_SIZE}} if name else {})
    own = answers.origin.model_copy(update={"config": marked})
    before = {"audit-verdicts": own.model_copy(update={"function": "audit-answers"})}
    if former_seed is not None:
        former = {"subject_id": shown["model_id"], "seed": former_seed, "evaluation": marked["evaluation"]}
        before["gate-verdicts"] = own.model_copy(update={"function": "gate-answers", "config": former})
    # Written once and filled in for each number: hundreds of keys over whole question sets would take a second.
    texts = {judged: origin.text for judged, origin in {"model-verdicts": own, **before}.items()}

    def key(judged: str, number: int) -> str:
        return hashlib.sha256(texts[judged].replace(str(_ANY_SIZE), str(number)).encode()).hexdigest()

    for number in more:
        yield key("model-verdicts", number), "model-verdicts"
    for number in range(size, 0, -1):
        for judged in texts:
            if number < size or judged in before:
                yield key(judged, number), judged


@functools.lru_cache(maxsize=1)
def _loaded(spec: SubjectSpec, content: str) -> Subject:
    """Return a loaded subject; the parts of a model follow one another, and a large one takes long to load."""
    del content  # part of the cache's key alone: other weights under the same name are loaded anew
    return load_subject(spec)


def _ask_local(config: ModelAnswerConfig, folder: Path) -> None:
    assert config.model.spec is not None
    if config.engine is None:
        _ask(config, _loaded(config.model.spec, config.model_id), folder / ANSWERS_FILE)
        return
    with asked_subject(config.model.spec, config.engine, folder) as subject:
        _ask(config, subject, folder / ANSWERS_FILE)


def _ask(config: ModelAnswerConfig, subject: Subject, target: Path) -> None:
    evaluation = config.evaluation
    # Only the common `ask` goes through `bulk`, where what is missing can be asked for by itself.
    if not isinstance(evaluation, TextEvaluation) or type(evaluation).ask is not TextEvaluation.ask:
        _write(evaluation.ask(subject, seed=config.seed), target)
        return
    from astray.measure import bulk

    # Seven hexadecimal digits: times SEEDS they still fit into a seed of 64 bits.
    sampling, own = evaluation.sampling, int(hashlib.sha256(config.model_id.encode()).hexdigest()[:7], 16)
    # Random numbers of its own for each model: runs of one kind that shared them would seem more alike than they are.
    drawing = evaluation.model_copy(
        update={"sampling": sampling.model_copy(update={"seed": sampling.seed + SEEDS * own})}
    )
    parts = [_asked_rows(evaluation, read_answers(target))] if target.is_file() else []
    # Numbered, so that an answer does not depend on which others are asked beside it.
    missing = [replace(asking, numbered=True) for asking in _missing(evaluation, parts)]
    chats = 1 + max((len(asking.beside) for asking in missing), default=0)
    # An engine is asked for everything at once: it keeps each answer by itself.
    size = max(1, len(missing)) if config.engine else math.ceil(2 * evaluation.sampling.batch_size / chats)
    for start in range(0, len(missing), size):
        parts.append(bulk.ask(drawing, subject, seed=config.seed, askings=missing[start : start + size]))
        # Sorted, so that the table does not depend on how often the step was begun.
        _write(pl.concat(parts).sort(SAMPLE), target)
    if not missing:
        _write(pl.concat(parts).sort(SAMPLE), target)  # what began as more samples


def _ask_served(config: ModelAnswerConfig, folder: Path) -> str | None:
    evaluation, ledger, logs = config.evaluation, current_ledger(), folder / LOGS
    target = folder / ANSWERS_FILE
    if isinstance(evaluation, Meter):
        scorer = config.model.scorer()
        _write(evaluation.ask(scorer, seed=config.seed), target)
        if ledger:
            ledger.add(scorer.tokens)
        return None
    if isinstance(evaluation, Agentic):
        table, wanted = _agentic_answers(config, evaluation, logs, ledger), evaluation.grid.size
    else:
        assert isinstance(evaluation, TextEvaluation)
        table, wanted = _answers_of_served(config, evaluation, folder, ledger), len(evaluation.askings())
    _write(table.sort(SAMPLE), target)
    errored = table.filter(outcome=Outcome.ERRORED.value).height
    left_out = {"ended in an error": errored, "were not asked": wanted - table.height}
    return ", ".join(f"{number:,} of {wanted:,} answers {why}" for why, number in left_out.items() if number) or None


def _answers_of_served(
    config: ModelAnswerConfig, evaluation: TextEvaluation, folder: Path, ledger: Ledger | None
) -> pl.DataFrame:
    """Return the answers of a model behind Inspect, earlier and new ones; each piece is written as soon as it is answered."""
    logs, target = folder / LOGS, folder / ANSWERS_FILE
    stored = [read_answers(target)] if target.is_file() else []
    table = _asked_rows(evaluation, _answered_first([_logged_answers(evaluation, logs), *stored]))
    missing = _missing(evaluation, [table.filter(pl.col("outcome") != Outcome.ERRORED)])
    # Round the questions: were each asked to its end, the last ones would miss out where a budget ends.
    missing.sort(key=lambda each: each.sample)
    model, answering, refused = metered(config.model.make()), evaluation, 0
    while missing and not refused and not (ledger and ledger.exhausted):
        size = FIRST if table.is_empty() else PIECE
        piece, missing = missing[:size], missing[size:]
        new = _run(answering, model, piece, logs)
        if refused := take_refusals():
            new = new.filter(pl.col("outcome") != Outcome.ERRORED)  # refused calls, which the next execution makes
        elif (new["outcome"] == Outcome.ERRORED).all() and table.is_empty():
            if not isinstance(answering, ForcedChoice) or not answering.logprobs:
                return new  # it answers nothing: the next execution tries again
            # Some providers refuse a request because it asks for log-probabilities.
            answering, missing = answering.model_copy(update={"logprobs": False}), [*piece, *missing]
            continue
        table = _answered_first([new, table])
        _write(table.sort(SAMPLE), target)
    return table


def _agentic_answers(config: ModelAnswerConfig, evaluation: Agentic, logs: Path, ledger: Ledger | None) -> pl.DataFrame:
    from astray.measure.agentic.budget import Budget

    return evaluation.act(config.model.make(), logs, budget=Budget(ledger) if ledger else None)


def _missing(evaluation: TextEvaluation, tables: Sequence[pl.DataFrame]) -> list[Asking]:
    answered = {row for table in tables for row in table.select(SAMPLE).iter_rows()}
    return [asking for asking in evaluation.askings() if _row_of(asking) not in answered]


def _asked_rows(evaluation: TextEvaluation, table: pl.DataFrame) -> pl.DataFrame:
    """Return the answers to what is asked, of a table that may hold more samples."""
    names = pl.DataFrame(
        [_row_of(asking) for asking in evaluation.askings()], schema=table.select(SAMPLE).schema, orient="row"
    )
    return table.join(names, on=SAMPLE, how="semi", maintain_order="left")


def _answered_first(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Return each sample once: answered where any of the tables has an answer."""
    by_error = pl.concat(tables).sort(pl.col("outcome") == Outcome.ERRORED, maintain_order=True)
    return by_error.unique(SAMPLE, keep="first", maintain_order=True)


def _row_of(asking: Asking) -> tuple[object, ...]:
    columns = asking.columns()
    return tuple(columns[name] for name in SAMPLE)


def _logged_answers(evaluation: TextEvaluation, logs: Path) -> pl.DataFrame:
    """Return what the logs of earlier attempts hold, each sample once, answered ones first."""
    from astray.measure.agentic.logs import readable_logs

    tables = [answer_table([])]
    for log in sorted(readable_logs(logs), reverse=True):
        try:
            with warnings.catch_warnings(action="ignore"):  # of runs that were cut off, which go on here
                tables.append(evaluation.read(log))
        except EmptyDataError:
            continue
    return _answered_first(tables)


def _run(evaluation: TextEvaluation, model: "Model", piece: Sequence[Asking], logs: Path) -> pl.DataFrame:
    """Ask a model behind Inspect some of an evaluation, not judged yet."""
    from inspect_ai import eval as inspect_eval

    from astray.measure.inspect_driver import inspect_task

    task = inspect_task(evaluation, lambda: None, name=evaluation.name, chosen=piece)
    eval_logs = inspect_eval(
        task,
        model=model,
        score=False,
        log_dir=str(logs),
        display="none",
        log_level="warning",
        log_realtime=False,
        log_buffer=LOG_BUFFER,
    )
    if not eval_logs or eval_logs[0].status == "cancelled":  # Inspect takes Ctrl-C for itself
        raise KeyboardInterrupt
    (log,) = eval_logs
    if log.status != "success":
        raise ConfigurationError(f"Asking {model} broke off: {log.error.message if log.error else log.status}.")
    return evaluation.read(log)


def _write(table: pl.DataFrame, target: Path) -> None:
    written = target.with_name(f".{target.name}")
    table.write_parquet(written)
    written.replace(target)  # whole even if this process is killed
