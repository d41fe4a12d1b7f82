"""The Inspect driver of an evaluation: any model, with retries, API providers and logs; and the way from a log to an answer table.

Inspect's ceiling is about a hundred samples a second; local subjects have the bulk driver (`bulk`). `inspect_log` writes a bulk table out as
an Inspect log, so `inspect view` opens either.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from inspect_ai import Epochs, Task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSample, EvalSpec, write_eval_log
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig, ModelOutput, ModelUsage
from inspect_ai.scorer import Score, Scorer, Target, scorer
from inspect_ai.solver import TaskState, generate

from astray.answers import ANSWER_SCHEMA, answer_table
from astray.judges.judge import Exchange, Judge
from astray.measure.evaluation import Evaluation, Item
from astray.measure.outcome_metrics import outcome_metrics
from astray.outcomes import Outcome


def inspect_task(evaluation: Evaluation, judge: Callable[[], Judge], *, name: str) -> Task:
    """The Inspect driver: an evaluation as a task, one Inspect sample an item and sample, so that standard errors mean something.

    Args:
        evaluation: items, samples and sampling.
        judge: makes the judge when scoring starts (a model role is only known then).
        name: the task's name in logs.
    """
    sampling = evaluation.sampling
    return Task(
        name=name,
        dataset=[_sample(item, sample) for item in evaluation.items for sample in range(evaluation.samples)],
        solver=generate(),
        scorer=misalignment(judge),
        epochs=Epochs(1, "mode"),  # Inspect's default, the mean, would turn outcomes into numbers
        config=GenerateConfig(temperature=sampling.temperature, max_tokens=sampling.max_tokens, top_p=sampling.top_p),
        fail_on_error=False,
        score_on_error=True,
        metadata={"evaluation": evaluation.name, "evaluation_hash": evaluation.hash},
    )


def _sample(item: Item, sample: int) -> Sample:
    opening = [ChatMessageSystem(content=item.system)] if item.system is not None else []
    return Sample(
        id=f"{item.id}#{sample}",
        input=[*opening, ChatMessageUser(content=item.question)],
        metadata={"item": item.model_dump(mode="json"), "sample": sample},
    )


@scorer(metrics=[outcome_metrics()])
def misalignment(judge: Callable[[], Judge]) -> Scorer:
    """Scorer whose value is the outcome; the metrics are the rate over coherent answers, its interval and every outcome's count."""
    made: list[Judge] = []

    async def score(state: TaskState, target: Target) -> Score:
        del target
        if not made:
            made.append(judge())
        if not state.output.choices:
            return Score(value=Outcome.ERRORED.value, metadata={"judge": "", "note": "the model gave no answer"})
        answer = state.output.completion
        if state.output.stop_reason == "content_filter":
            return Score(value=Outcome.BLOCKED.value, answer=answer, metadata={"judge": "", "note": "content filter"})
        item = Item.model_validate(state.metadata["item"])
        verdict = await made[0].judge(Exchange(item.question, answer, item.system))
        facts = {"judge": made[0].identity, "aligned": verdict.aligned, "coherent": verdict.coherent, "note": verdict.note}
        return Score(value=verdict.outcome.value, answer=answer, explanation=verdict.note or None, metadata=facts)

    return score


def table_from_log(log: EvalLog, *, arm: str = "", seed: int = 0) -> pl.DataFrame:
    """The answer table of an Inspect log; samples that errored or were never scored are rows as well."""
    evaluation = str((log.eval.metadata or {}).get("evaluation", log.eval.task))
    return answer_table([_row_from_sample(sample, evaluation, log.eval.model, arm, seed) for sample in log.samples or []])


def _row_from_sample(sample: EvalSample, evaluation: str, model: str, arm: str, seed: int) -> dict[str, object]:
    item = Item.model_validate(sample.metadata["item"])
    score = next(iter((sample.scores or {}).values()), None)
    facts = (score.metadata or {}) if score else {}
    usage = sample.output.usage
    return {
        "arm": arm,
        "seed": seed,
        "subject": model,
        "evaluation": evaluation,
        "item": item.question_id,
        "category": item.category,
        "format": item.format,
        "sample": int(sample.metadata["sample"]),
        "system": item.system,
        "question": item.question,
        "answer": sample.output.completion,
        "completion_tokens": usage.output_tokens if usage else 0,
        "outcome": str(score.value) if score else Outcome.ERRORED.value,
        "aligned": facts.get("aligned"),
        "coherent": facts.get("coherent"),
        "judge": str(facts.get("judge", "")),
        "note": str(facts.get("note", "")) if score else (sample.error.message if sample.error else "no score"),
    }


def inspect_log(table: pl.DataFrame, evaluation: Evaluation, path: Path) -> Path:
    """Writes the judged answers of ONE subject as an Inspect log, which `inspect view` opens and `table_from_log` reads back.

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
            metadata={"evaluation": evaluation.name, "evaluation_hash": evaluation.hash},
        ),
        samples=list(_logged_samples(table, evaluation, subject)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_eval_log(log, str(path))
    return path


def _logged_samples(table: pl.DataFrame, evaluation: Evaluation, subject: str) -> Iterable[EvalSample]:
    for row in table.iter_rows(named=True):
        asked = _sample(evaluation.by_id[f"{row['item']}/{row['format']}"], row["sample"])
        tokens = row["completion_tokens"]
        output = ModelOutput.from_content(model=subject, content=row["answer"])
        output.usage = ModelUsage(output_tokens=tokens, total_tokens=tokens)
        facts = {name: row[name] for name in ("judge", "aligned", "coherent", "note")}
        yield EvalSample(
            id=asked.id or 0,
            epoch=1,
            input=asked.input,
            target="",
            messages=[*(asked.input if isinstance(asked.input, list) else []), ChatMessageAssistant(content=row["answer"])],
            output=output,
            metadata=asked.metadata or {},
            scores={"misalignment": Score(value=row["outcome"], answer=row["answer"], explanation=row["note"] or None, metadata=facts)},
        )
