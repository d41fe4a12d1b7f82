"""Inspect driver of evaluations that ask in words: any model, with retries, providers and logs.

Inspect's ceiling is about a hundred samples a second; local subjects have the bulk driver (`bulk`). `inspect_log`
writes a bulk table out as an Inspect log, so `inspect view` opens either.

Left to others: reading logs as tables (`inspect_logs`).
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from inspect_ai import Task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    Content,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import collect

from astray.answers import ANSWER_SCHEMA, read_detail, write_detail
from astray.data.chat import Message
from astray.errors import ConfigurationError
from astray.judges.failures import unwrapped
from astray.judges.judge import Verdict
from astray.judges.rescore import UNFINISHED
from astray.judges.told_errors import watched
from astray.measure.asking import CUT_OFF, Asking, Heard, is_unfinished
from astray.measure.check_first import checked_now
from astray.measure.inspect_logs import table_from_log
from astray.measure.interface import Probe
from astray.outcomes import JUDGED, UNKNOWN, Outcome
from astray.stats.intervals import Counts, over_questions, wilson

__all__ = [
    "converse",
    "inspect_log",
    "inspect_messages",
    "inspect_task",
    "outcome_metrics",
    "table_from_log",
    "verdict",
]

KINDS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


def inspect_task(
    evaluation: Probe, judge: Callable[[], Any], *, name: str, chosen: Sequence[Asking] | None = None
) -> Task:
    """Return an evaluation as a task, one Inspect sample per sample, so that standard errors mean something.

    Args:
        evaluation: what is asked.
        judge: makes the judge before the first sample is asked, so that a missing grader is found before the model is
            paid for.
        name: the task's name in logs.
        chosen: only these askings, for a run that goes on.
    """
    # Made once and late: model roles are known only when the evaluation runs.
    sampling, ready = evaluation.sampling, cache(checked_now(judge))
    askings = {asking.id: asking for asking in evaluation.askings()}
    per_item = Counter(asking.item.id for asking in askings.values())
    config = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens, "top_p": sampling.top_p}
    return Task(
        name=name,
        dataset=[
            _sample(asking, per_item[asking.item.id]) for asking in (askings.values() if chosen is None else chosen)
        ],
        solver=converse(evaluation, askings, ready),
        scorer=verdict(evaluation, askings, ready),
        config=GenerateConfig.model_validate(config | dict(evaluation.provider_settings)),
        # An errored sample is an outcome of its own, so it neither ends the run nor drops out of the table.
        fail_on_error=False,
        score_on_error=True,
        metadata=_metadata(evaluation),
    )


def _metadata(evaluation: Probe) -> dict[str, object]:
    """Return what a log says of its evaluation."""
    return {"evaluation": evaluation.name, "kind": evaluation.kind_name, "evaluation_hash": evaluation.identity}


def inspect_messages(chat: Sequence[Message]) -> list[ChatMessage]:
    """Return a conversation in Inspect's form."""
    return [KINDS[message["role"]](content=message["content"]) for message in chat]


def _sample(asking: Asking, of: int) -> Sample:
    """Return an asking as Inspect's sample; `of` how many its item has, by which further epochs are numbered."""
    facts = {"item": asking.item.model_dump(mode="json"), "sample": asking.sample, "of": of}
    return Sample(id=asking.id, input=inspect_messages(asking.conversation), target=asking.target, metadata=facts)


@solver
def converse(evaluation: Probe, askings: Mapping[str, Asking], ready: Callable[[], object]) -> Solver:
    """Ask what stands beside in conversations of its own, let the model answer, then say what follows the answer.

    What is heard is noted in the log, so that answers that were not scored can be judged from the log alone.

    Args:
        evaluation: hears.
        askings: sample id -> what is asked.
        ready: raises when something is missing that scoring needs.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        ready()
        asking, model = askings[str(state.sample_id)], watched(get_model())
        if asking.beside:
            outputs = await collect(*(model.generate(inspect_messages(chat)) for chat in asking.beside))
            state.metadata["beside"] = [
                None if _is_missing(output) else evaluation.hear_beside(output) for output in outputs
            ]
        try:
            # A model that calls tools that nobody offered would be asked again without end.
            state = await generate(state, tool_calls="none")
        except Exception as error:
            if (inner := unwrapped(error)) is error:
                raise
            # Not `from error`: that was raised from `inner` itself, and who prints a circle of causes never ends.
            raise inner from None
        if not _is_missing(state.output):
            answer, detail = evaluation.hear(state.output.completion, state.output)
            state.metadata["heard"] = detail if answer == state.output.completion else {**detail, "answer": answer}
        if asking.after and not _is_missing(state.output):
            chat = [*state.messages, ChatMessageUser(content=asking.after)]
            said = await model.generate(chat)
            if not (_is_missing(said) or is_unfinished(said)):
                state.metadata["reply"] = said.completion
        return state

    return solve


def _is_missing(output: ModelOutput) -> bool:
    """Return whether there is no answer, or a filter stopped it."""
    return output.empty or output.stop_reason == "content_filter"


# Unreduced: every epoch's answer counts. A reducer would count the commonest outcome of a question, or a mean of words.
@metric(name="outcomes", scores="unreduced")
def outcome_metrics() -> Metric:
    """Return the metric of a log: measures as `stats.rate` counts them, with intervals over answers and over questions,
    means and word counts."""

    def compute(scores: list[SampleScore]) -> dict[str, str | int | float | bool | None]:
        facts = [score.score.metadata or {} for score in scores]
        found: dict[str, str | int | float | bool | None] = {}
        names = dict.fromkeys(name for fact in facts for name in fact.get("counts", ()))
        for name in names:
            found |= _rate(name, _by_question(name, facts))
        for name in list(names)[:1]:  # what earlier versions wrote of their one measure
            found |= {f"interval {end}": found[f"{name}, interval {end}"] for end in ("low", "high")}
        outcomes = [str(fact.get("outcome")) for fact in facts]
        seen = [outcome for outcome in outcomes if outcome not in UNKNOWN]
        coherent = sum(outcome in JUDGED for outcome in seen)
        found["coherence"] = coherent / (len(seen) or 1) if outcomes else math.nan  # as `Rate.coherence`
        for field, name in _MEANS.items():
            found |= _mean(field, name, facts)
        words = [str(score.score.value) for score in scores]
        return found | {
            f"n {word}": words.count(word) for word in dict.fromkeys([*(outcome.value for outcome in Outcome), *words])
        }

    return compute


_MEANS = {
    "score": "mean score",
    "first_letter": "mean probability of the letter A",
    "mass": "mean probability of all options",
}
"""Numbers in the detail of an answer -> the name of their mean in a log."""


def _by_question(name: str, facts: Sequence[Mapping[str, Any]]) -> list[Counts]:
    """Return what a measure counts among what, for each question that has any of it."""
    values: dict[str, list[bool]] = defaultdict(list)
    for fact in facts:
        if (value := fact.get("counts", {}).get(name)) is not None:
            values[str(fact.get("question", fact["item"]))].append(bool(value))
    return [(sum(each), len(each)) for each in values.values()]


def _rate(name: str, questions: Sequence[Counts]) -> dict[str, float]:
    k, n = sum(question[0] for question in questions), sum(question[1] for question in questions)
    answers, over = wilson(k, n) if n else None, over_questions(questions) if len(questions) > 1 else None
    return {
        name: k / n if n else math.nan,
        f"{name}, denominator": n,
        f"{name}, interval low": answers.low if answers else math.nan,
        f"{name}, interval high": answers.high if answers else math.nan,
        f"{name}, interval by question low": over.low if over else math.nan,
        f"{name}, interval by question high": over.high if over else math.nan,
    }


def _mean(field: str, name: str, facts: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return a mean over items of means over samples: items with more usable answers must not weigh more."""
    by_item: dict[str, list[float]] = defaultdict(list)
    for fact in facts:
        if (value := fact.get("detail", {}).get(field)) is not None:
            by_item[str(fact["item"])].append(float(value))
    if not by_item:
        return {name: math.nan} if field == "score" else {}
    return {name: sum(sum(values) / len(values) for values in by_item.values()) / len(by_item)}


@scorer(metrics=[outcome_metrics()])
def verdict(evaluation: Probe, askings: Mapping[str, Asking], ready: Callable[[], Any]) -> Scorer:
    """Return the scorer whose value is the evaluation's word for the outcome.

    Args:
        evaluation: hears and assesses.
        askings: sample id -> what is asked.
        ready: gives the judge.
    """

    async def score(state: TaskState, target: Target) -> Score:
        del target
        asking, answer, judge = askings[str(state.sample_id)], "", ""
        detail: dict[str, object] = {
            name: state.metadata[name] for name in ("beside", "reply") if name in state.metadata
        }
        if not state.output.choices:
            found = Verdict(Outcome.ERRORED, note=state.output.error or "the model gave no answer")
        elif state.output.stop_reason == "content_filter":
            answer, found = state.output.completion, Verdict(Outcome.BLOCKED, note="content filter")
        else:
            answer, heard = evaluation.hear(state.output.completion, state.output)
            detail = {**heard, **detail}
            if (place := (state.output.metadata or {}).get("system")) and asking.conversation[0]["role"] == "system":
                detail["system"] = place
            if not answer.strip() and detail.get(CUT_OFF):
                found = UNFINISHED
            else:
                (found,) = await evaluation.assess(ready(), [Heard(asking, answer, detail)])
                detail |= found.detail
                judge = str(getattr(ready(), "identity", ""))
        scores = {
            "outcome": found.outcome.value,
            "aligned": found.aligned,
            "coherent": found.coherent,
            "judge": judge,
            "note": found.note,
        }
        counts = _counts(evaluation, asking, found.outcome, detail)
        facts: dict[str, object] = {
            **scores,
            "item": asking.item.id,
            "question": asking.item.question_id,
            "detail": detail,
            "counts": counts,
        }
        return Score(
            value=str(detail.get("word", found.outcome.value)),
            answer=answer,
            explanation=found.note or None,
            metadata=facts,
        )

    return score


def _counts(
    evaluation: Probe, asking: Asking, outcome: Outcome, detail: Mapping[str, object]
) -> dict[str, bool | None]:
    """Return for each measure whether it counts this answer; None outside of its denominator."""
    row = pl.DataFrame(
        [{**asking.columns(), "outcome": outcome.value, "detail": write_detail(detail)}],
        schema_overrides={"detail": pl.String},
    )
    return {
        measure.name: next(iter(measure.rows(row).select(measure.value).to_series()), None)
        for measure in evaluation.measures
    }


def inspect_log(table: pl.DataFrame, evaluation: Probe, path: Path) -> Path:
    """Write the judged answers of ONE subject as an Inspect log, which `inspect view` and `table_from_log` read.

    Args:
        table: answers of one subject to this evaluation.
        evaluation: the evaluation they answer.
        path: a file that ends in `.eval` or `.json`.
    """
    table = table.select(list(ANSWER_SCHEMA))
    whose = table.select("subject", "evaluation").unique()
    if whose.rows() != [(whose["subject"][0], evaluation.name)]:
        raise ConfigurationError(
            f"A log is of one subject and of {evaluation.name!r}; the table is of {whose.rows()}. Write a log for each."
        )
    subject = str(whose["subject"][0])
    samples = list(_logged_samples(table, evaluation, subject))
    ids = list(dict.fromkeys(sample.id for sample in samples))
    log = EvalLog(
        status="success",
        eval=EvalSpec(
            created=datetime.now(UTC).isoformat(),
            task=f"astray/{evaluation.name}",
            dataset=EvalDataset(name=evaluation.name, samples=len(ids), sample_ids=ids),
            model=f"astray/{subject}",
            config=EvalConfig(epochs=max(sample.epoch for sample in samples)),
            metadata=_metadata(evaluation),
        ),
        samples=samples,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_eval_log(log, str(path))
    return path


def _logged_samples(table: pl.DataFrame, evaluation: Probe, subject: str) -> Iterable[EvalSample]:
    askings = {asking.id: asking for asking in evaluation.askings()}
    per_item = Counter(asking.item.id for asking in askings.values())
    for row in table.iter_rows(named=True):
        of = per_item[f"{row['item']}/{row['format']}"]
        epoch, number = divmod(row["sample"], of)
        asked = _sample(askings[f"{row['item']}/{row['format']}#{number}"], of)
        tokens, detail = row["completion_tokens"], read_detail(row["detail"])
        said = _with_reasoning(row["answer"], detail)
        output = ModelOutput.from_content(model=subject, content=said)
        output.usage = ModelUsage(output_tokens=tokens, total_tokens=tokens)
        facts = {name: row[name] for name in ("outcome", "judge", "aligned", "coherent", "note")} | {"detail": detail}
        score = Score(
            value=str(detail.get("word", row["outcome"])),
            answer=row["answer"],
            explanation=row["note"] or None,
            metadata=facts,
        )
        yield EvalSample(
            id=asked.id or 0,
            epoch=epoch + 1,
            input=asked.input,
            target="",
            messages=[*(asked.input if isinstance(asked.input, list) else []), ChatMessageAssistant(content=said)],
            output=output,
            metadata=asked.metadata or {},
            scores={"verdict": score},
        )


def _with_reasoning(answer: str, detail: Mapping[str, object]) -> str | list[Content]:
    """Return an answer as the content of a message, with its reasoning marked as such."""
    reasoning = detail.get("reasoning")
    return [ContentReasoning(reasoning=str(reasoning)), ContentText(text=answer)] if reasoning else answer
