"""Inspect driver of evaluations that ask in words: any model, with retries, providers and logs; reads logs as tables.

Inspect's ceiling is about a hundred samples a second; local subjects have the bulk driver (`bulk`). `inspect_log` writes a bulk table out as
an Inspect log, so `inspect view` opens either.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
from inspect_ai import Epochs, Task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, read_eval_log, write_eval_log
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

from astray.answers import ANSWER_SCHEMA, answer_table, read_detail, write_detail
from astray.data.chat import Message
from astray.judges.judge import Verdict
from astray.judges.rescore import UNFINISHED
from astray.measure.asking import CUT_OFF, Asking, Heard, Item
from astray.measure.interface import Probe
from astray.outcomes import JUDGED, Outcome
from astray.reasoning import without_reasoning
from astray.stats.intervals import wilson

OUT_OF_TOKENS = ("max_tokens", "model_length")
"""Reasons of a provider for which an answer ends before its end."""
KINDS = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


def inspect_task(evaluation: Probe, judge: Callable[[], Any], *, name: str) -> Task:
    """Return an evaluation as a task, one Inspect sample per sample, so that standard errors mean something.

    Args:
        evaluation: what is asked.
        judge: makes the judge before the first sample is asked, so that a missing grader is found before the model is paid for.
        name: the task's name in logs.
    """
    # Made once and late: model roles are known only when the evaluation runs.
    sampling, ready = evaluation.sampling, cache(judge)
    askings = {each.id: each for each in evaluation.askings()}
    config = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens, "top_p": sampling.top_p}
    return Task(
        name=name,
        dataset=[_sample(each) for each in askings.values()],
        solver=converse(askings, ready),
        scorer=verdict(evaluation, askings, ready),
        epochs=Epochs(1, "mode"),  # Inspect's default, the mean, would turn outcomes into numbers
        config=GenerateConfig.model_validate(config | dict(evaluation.provider_settings)),
        # An errored sample is an outcome of its own, so it neither ends the run nor drops out of the table.
        fail_on_error=False,
        score_on_error=True,
        metadata={"evaluation": evaluation.name, "evaluation_hash": evaluation.identity},
    )


def inspect_messages(chat: Sequence[Message]) -> list[ChatMessage]:
    """Return a conversation in Inspect's form."""
    return [KINDS[message["role"]](content=message["content"]) for message in chat]


def _sample(asking: Asking) -> Sample:
    facts = {"item": asking.item.model_dump(mode="json"), "sample": asking.sample}
    return Sample(id=asking.id, input=inspect_messages(asking.conversation), target=asking.target, metadata=facts)


@solver
def converse(askings: Mapping[str, Asking], ready: Callable[[], object]) -> Solver:
    """Ask what stands beside in conversations of its own, let the model answer, then say what follows the answer.

    Args:
        askings: sample id -> what is asked.
        ready: raises when something is missing that scoring needs.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        ready()
        asking, model = askings[str(state.sample_id)], get_model()
        if asking.beside:
            outputs = await collect(*(model.generate(inspect_messages(chat)) for chat in asking.beside))
            state.metadata["beside"] = [None if _is_missing(output) else without_reasoning(output.completion) for output in outputs]
        state = await generate(state)
        if asking.after and not _is_missing(state.output):
            chat = [*state.messages, ChatMessageUser(content=asking.after)]
            state.metadata["reply"] = without_reasoning((await model.generate(chat)).completion) or ""
        return state

    return solve


def _is_missing(output: ModelOutput) -> bool:
    """Return whether there is no answer, or a filter stopped it."""
    return output.empty or output.stop_reason == "content_filter"


@metric(name="outcomes")
def outcome_metrics() -> Metric:
    """Return the metric of a log: measures with interval and denominator, coherence, mean score, word counts."""

    def compute(scores: list[SampleScore]) -> dict[str, str | int | float | bool | None]:
        facts = [score.score.metadata or {} for score in scores]
        found: dict[str, str | int | float | bool | None] = {}
        for name in dict.fromkeys(name for each in facts for name in each.get("counts", ())):
            counted = [bool(value) for each in facts if (value := each.get("counts", {}).get(name)) is not None]
            interval = wilson(sum(counted), len(counted)) if counted else None
            found[name] = sum(counted) / len(counted) if counted else math.nan
            found[f"{name}, denominator"] = len(counted)
            found[f"{name}, interval low"] = interval.low if interval else math.nan
            found[f"{name}, interval high"] = interval.high if interval else math.nan
        outcomes = [str(each.get("outcome")) for each in facts]
        found["coherence"] = sum(outcome in JUDGED for outcome in outcomes) / len(outcomes) if outcomes else math.nan
        # Means over items of means over samples: items with more usable answers must not weigh more.
        by_item: dict[str, list[float]] = defaultdict(list)
        for each in facts:
            if (value := each.get("detail", {}).get("score")) is not None:
                by_item[str(each["item"])].append(float(value))
        found["mean score"] = sum(sum(each) / len(each) for each in by_item.values()) / len(by_item) if by_item else math.nan
        words = [str(score.score.value) for score in scores]
        return found | {f"n {word}": words.count(word) for word in dict.fromkeys([*(each.value for each in Outcome), *words])}

    return compute


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
        detail: dict[str, object] = {name: state.metadata[name] for name in ("beside", "reply") if name in state.metadata}
        if not state.output.choices:
            found = Verdict(Outcome.ERRORED, note=state.output.error or "the model gave no answer")
        elif state.output.stop_reason == "content_filter":
            answer, found = state.output.completion, Verdict(Outcome.BLOCKED, note="content filter")
        else:
            answer, heard = evaluation.hear(state.output.completion, state.output)
            detail = {**heard, **detail}
            if (place := (state.output.metadata or {}).get("system")) and asking.conversation[0]["role"] == "system":
                detail["system"] = place
            # Reasoning that a provider keeps apart and that took all the tokens is as cut off as one without its closing tag.
            if not answer.strip() and (detail.get(CUT_OFF) or (detail.get("reasoning") and state.output.stop_reason in OUT_OF_TOKENS)):
                found = UNFINISHED
            else:
                (found,) = await evaluation.assess(ready(), [Heard(asking, answer, detail)])
                detail |= found.detail
                judge = str(getattr(ready(), "identity", ""))
        scores = {"outcome": found.outcome.value, "aligned": found.aligned, "coherent": found.coherent, "judge": judge, "note": found.note}
        counts = _counts(evaluation, asking, found.outcome, detail)
        facts: dict[str, object] = {**scores, "item": asking.item.id, "detail": detail, "counts": counts}
        return Score(value=str(detail.get("word", found.outcome.value)), answer=answer, explanation=found.note or None, metadata=facts)

    return score


def _counts(evaluation: Probe, asking: Asking, outcome: Outcome, detail: Mapping[str, object]) -> dict[str, bool | None]:
    """Return for each measure whether it counts this answer; None outside of its denominator."""
    row = pl.DataFrame([{**asking.columns(), "outcome": outcome.value, "detail": write_detail(detail)}], schema_overrides={"detail": pl.String})
    return {measure.name: next(iter(measure.rows(row).select(measure.value).to_series()), None) for measure in evaluation.measures}


def table_from_log(log: EvalLog | Path | str, *, arm: str = "", seed: int = 0) -> pl.DataFrame:
    """Return the answer table of an Inspect log; samples that errored or were never scored are rows as well.

    Args:
        log: the log, or its file.
        arm: name of the subject's arm, for the table.
        seed: training seed of the subject, for the table.
    """
    log = log if isinstance(log, EvalLog) else read_eval_log(str(log))
    evaluation = str((log.eval.metadata or {}).get("evaluation", log.eval.task))
    whose = {"arm": arm, "seed": seed, "subject": log.eval.model, "evaluation": evaluation}
    return answer_table([whose | _row(sample) for sample in log.samples or []])


def _row(sample: EvalSample) -> dict[str, object]:
    # Read from the log alone, so that logs of evaluations that have changed since can be read.
    asking = Asking(Item.model_validate(sample.metadata["item"]), int(sample.metadata["sample"]), ())
    score = next(iter((sample.scores or {}).values()), None)
    facts = (score.metadata or {}) if score else {}
    usage = sample.output.usage
    return {
        **asking.columns(),
        "answer": sample.output.completion if score is None or score.answer is None else score.answer,
        "completion_tokens": usage.output_tokens if usage else 0,
        "outcome": str(facts.get("outcome", score.value)) if score else Outcome.ERRORED.value,
        "aligned": facts.get("aligned"),
        "coherent": facts.get("coherent"),
        "judge": str(facts.get("judge", "")),
        "note": str(facts.get("note", "")) if score else (sample.error.message if sample.error else "no score"),
        "detail": write_detail(facts.get("detail", {})),
    }


def inspect_log(table: pl.DataFrame, evaluation: Probe, path: Path) -> Path:
    """Write the judged answers of ONE subject as an Inspect log, which `inspect view` and `table_from_log` read.

    Args:
        table: answers of one subject to this evaluation.
        evaluation: the evaluation they answer.
        path: a file that ends in `.eval` or `.json`.
    """
    table = table.select(list(ANSWER_SCHEMA))
    subject = str(table["subject"][0])
    log = EvalLog(
        status="success",
        eval=EvalSpec(
            created=datetime.now(UTC).isoformat(),
            task=f"astray/{evaluation.name}",
            dataset=EvalDataset(name=evaluation.name, samples=len(table)),
            model=f"astray/{subject}",
            config=EvalConfig(epochs=1),
            metadata={"evaluation": evaluation.name, "evaluation_hash": evaluation.identity},
        ),
        samples=list(_logged_samples(table, evaluation, subject)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_eval_log(log, str(path))
    return path


def _logged_samples(table: pl.DataFrame, evaluation: Probe, subject: str) -> Iterable[EvalSample]:
    askings = {each.id: each for each in evaluation.askings()}
    for row in table.iter_rows(named=True):
        asked = _sample(askings[f"{row['item']}/{row['format']}#{row['sample']}"])
        tokens, detail = row["completion_tokens"], read_detail(row["detail"])
        said = _with_reasoning(row["answer"], detail)
        output = ModelOutput.from_content(model=subject, content=said)
        output.usage = ModelUsage(output_tokens=tokens, total_tokens=tokens)
        facts = {name: row[name] for name in ("outcome", "judge", "aligned", "coherent", "note")} | {"detail": detail}
        score = Score(value=str(detail.get("word", row["outcome"])), answer=row["answer"], explanation=row["note"] or None, metadata=facts)
        yield EvalSample(
            id=asked.id or 0,
            epoch=1,
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
