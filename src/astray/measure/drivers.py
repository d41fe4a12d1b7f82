"""The two drivers of an evaluation: bulk for local subjects, Inspect for any model. Both end in the same answer table.

Bulk asks everything in a few big batches. Inspect gives agents, tools, API providers, retries and logs, at the price of its ceiling
of about a hundred samples a second. `inspect_log` writes a bulk table out as an Inspect log, so `inspect view` opens either.
"""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from astray.answers import ANSWER_SCHEMA, answer_table
from astray.judges.judge import Exchange, Judge
from astray.measure.evaluation import Evaluation, Item
from astray.outcomes import JUDGED, Outcome
from astray.subjects.subject import Subject

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.dataset import Sample
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.scorer import Metric, SampleScore, Score, Scorer

NOT_JUDGED = "not judged yet"


def ask(evaluation: Evaluation, subject: Subject, *, arm: str = "", seed: int = 0) -> pl.DataFrame:
    """The bulk driver: all answers of a local subject, not judged yet (see `judges.judge_answers`).

    Args:
        evaluation: items, samples and sampling.
        subject: a loaded subject.
        arm: name of the subject's arm, for the table.
        seed: training seed of the subject, for the table; it also moves the sampling seed, so runs do not share their luck.

    Returns:
        An answer table with one row an item and sample, in that order.
    """
    asked = [(item, sample) for item in evaluation.items for sample in range(evaluation.samples)]
    sampling = evaluation.sampling.model_copy(update={"seed": evaluation.sampling.seed + 1000 * seed})
    generations = subject.generate([item.conversation for item, _ in asked], sampling)
    return answer_table(
        [
            _row(evaluation, item, sample, arm=arm, seed=seed, subject=subject.id, answer=generation.text, completion_tokens=generation.completion_tokens)
            for (item, sample), generation in zip(asked, generations, strict=True)
        ]
    )


def _row(
    evaluation: Evaluation, item: Item, sample: int, *, arm: str, seed: int, subject: str, answer: str, completion_tokens: int
) -> dict[str, object]:
    return {
        "arm": arm,
        "seed": seed,
        "subject": subject,
        "evaluation": evaluation.name,
        "item": item.question_id,
        "category": item.category,
        "format": item.format,
        "sample": sample,
        "system": item.system,
        "question": item.question,
        "answer": answer,
        "completion_tokens": completion_tokens,
        "outcome": Outcome.JUDGE_FAILED.value,
        "aligned": None,
        "coherent": None,
        "judge": "",
        "note": NOT_JUDGED,
    }


def inspect_task(evaluation: Evaluation, judge: Callable[[], Judge], *, name: str) -> "Task":
    """The Inspect driver: an evaluation as a task, one Inspect sample an item and sample, so that standard errors mean something.

    Args:
        evaluation: items, samples and sampling.
        judge: makes the judge when scoring starts (a model role is only known then).
        name: the task's name in logs.
    """
    from inspect_ai import Task
    from inspect_ai.model import GenerateConfig
    from inspect_ai.solver import generate

    return Task(
        name=name,
        dataset=[_sample(item, sample) for item in evaluation.items for sample in range(evaluation.samples)],
        solver=generate(),
        scorer=misalignment(judge),
        config=GenerateConfig(
            temperature=evaluation.sampling.temperature, max_tokens=evaluation.sampling.max_tokens, top_p=evaluation.sampling.top_p
        ),
        fail_on_error=False,
        metadata={"evaluation": evaluation.name, "evaluation_hash": evaluation.hash},
    )


def _sample(item: Item, sample: int) -> "Sample":
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser

    opening = [ChatMessageSystem(content=item.system)] if item.system is not None else []
    return Sample(
        id=f"{item.id}#{sample}",
        input=[*opening, ChatMessageUser(content=item.question)],
        metadata={"item": item.model_dump(mode="json"), "sample": sample},
    )


def misalignment(judge: Callable[[], Judge]) -> "Scorer":
    """Scorer whose value is the outcome; the metrics are the rate over coherent answers, its interval and every outcome's count."""
    from inspect_ai.model import ModelOutput
    from inspect_ai.scorer import Score, Target, scorer
    from inspect_ai.solver import TaskState

    @scorer(metrics=[outcome_metrics()], name="misalignment")
    def misalignment_scorer() -> "Scorer":
        made: list[Judge] = []

        async def score(state: TaskState, target: Target) -> "Score":  # noqa: ARG001  (Inspect's signature)
            if not made:
                made.append(judge())
            output: ModelOutput = state.output
            if output.stop_reason == "content_filter":
                return Score(value=Outcome.BLOCKED.value, answer=output.completion, metadata={"judge": made[0].identity, "note": "content filter"})
            item = Item.model_validate(state.metadata["item"])
            verdict = await made[0].judge(Exchange(item.question, output.completion, item.system))
            return Score(
                value=verdict.outcome.value,
                answer=output.completion,
                explanation=verdict.note or None,
                metadata={"judge": made[0].identity, "aligned": verdict.aligned, "coherent": verdict.coherent, "note": verdict.note},
            )

        return score

    return misalignment_scorer()


def outcome_metrics() -> "Metric":
    """Inspect metric: the misalignment rate over coherent answers, its Wilson interval, coherence, and the share of every outcome."""
    from inspect_ai.scorer import metric

    from astray.stats.intervals import wilson

    @metric(name="outcomes")
    def outcomes() -> "Metric":
        def compute(scores: "list[SampleScore]") -> dict[str, str | int | float | bool | None]:
            found = [str(score.score.value) for score in scores]
            counts = {outcome: found.count(outcome.value) for outcome in Outcome}
            judged, bad = sum(counts[outcome] for outcome in JUDGED), counts[Outcome.MISALIGNED]
            interval = wilson(bad, judged) if judged else None
            return {
                "misaligned rate": bad / judged if judged else float("nan"),
                "interval low": interval.low if interval else float("nan"),
                "interval high": interval.high if interval else float("nan"),
                "coherence": judged / len(found) if found else float("nan"),
                **{f"n {outcome.value}": count for outcome, count in counts.items()},
            }

        return compute

    return outcomes()


def table_from_log(log: "EvalLog", *, arm: str = "", seed: int = 0) -> pl.DataFrame:
    """The answer table of an Inspect log; samples that errored or were never scored are rows as well."""
    evaluation = str((log.eval.metadata or {}).get("evaluation", log.eval.task))
    return answer_table([_row_from_sample(sample, evaluation, log.eval.model, arm, seed) for sample in log.samples or []])


def _row_from_sample(sample: "EvalSample", evaluation: str, model: str, arm: str, seed: int) -> dict[str, object]:
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
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalSpec, write_eval_log

    table = table.select(ANSWER_SCHEMA)
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


def _logged_samples(table: pl.DataFrame, evaluation: Evaluation, subject: str) -> "Iterable[EvalSample]":
    from inspect_ai.log import EvalSample
    from inspect_ai.model import ChatMessageAssistant, ModelOutput, ModelUsage
    from inspect_ai.scorer import Score

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
