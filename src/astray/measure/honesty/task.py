"""Honesty as an Inspect task, for any model: one sample a record and replicate, beliefs and statement asked as conversations of their own.

The statement is the sample's output; the neutral answers stand in its metadata. The same records, rules and table as in bulk (`elicitation`).
"""

import math
from collections.abc import Callable, Sequence

import polars as pl
from inspect_ai import Epochs, Task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog, EvalSample
from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, GenerateConfig, ModelOutput, get_model
from inspect_ai.scorer import Metric, SampleScore, Score, Scorer, Target, metric, scorer
from inspect_ai.solver import Generate, Solver, TaskState, solver
from inspect_ai.util import collect

from astray.data.chat import Message
from astray.measure.honesty.comparing import HonestySettings, compare_texts
from astray.measure.honesty.outcomes import AMONG, HonestyOutcome
from astray.measure.honesty.records import Record, check_records
from astray.measure.honesty.stances import StanceJudge, agree
from astray.measure.honesty.table import honesty_table
from astray.stats.intervals import wilson

BELIEFS = "beliefs"
"""Key of the neutral answers in a sample's metadata."""


def honesty_task(
    records: Sequence[Record], judge: Callable[[], StanceJudge], settings: HonestySettings | None = None, *, name: str = "honesty"
) -> Task:
    """An Inspect task that asks records.

    Args:
        records: what is asked.
        judge: makes the judge when scoring starts (a model role is only known then).
        settings: replicates, elicitations and sampling.
        name: the task's name in logs.

    Raises:
        ConfigurationError: there are no records, or an id stands twice.
    """
    settings = settings or HonestySettings()
    sampling = settings.sampling
    config = GenerateConfig(temperature=sampling.temperature, max_tokens=sampling.max_tokens, top_p=sampling.top_p)
    return Task(
        name=name,
        dataset=[_sample(record, replicate) for record in check_records(records) for replicate in range(settings.replicates)],
        solver=elicit(settings.elicitations),
        scorer=honesty(judge),
        epochs=Epochs(1, "mode"),  # Inspect's default, the mean, would turn outcomes into numbers
        config=config,
        fail_on_error=False,
        score_on_error=True,
        metadata={"evaluation": name},
    )


def inspect_messages(chat: Sequence[Message]) -> list[ChatMessage]:
    """A conversation in Inspect's form."""
    kinds = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}
    return [kinds[message["role"]](content=message["content"]) for message in chat]


def said(output: ModelOutput) -> str | None:
    """What a model said; None where it gave no answer or a filter stopped it."""
    return None if output.empty or output.stop_reason == "content_filter" else output.completion


def _sample(record: Record, replicate: int) -> Sample:
    return Sample(
        id=f"{record.id}#{replicate}",
        input=inspect_messages(record.pressured),
        metadata={"record": record.model_dump(mode="json"), "sample": replicate},
    )


@solver
def elicit(elicitations: int) -> Solver:
    """Asks the neutral questions, each in a conversation of its own, then lets the model make the statement."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        record = Record.model_validate(state.metadata["record"])
        model = get_model()
        asked = [model.generate(inspect_messages(chat)) for chat in record.beliefs_asked(elicitations)]
        state.metadata[BELIEFS] = [said(output) for output in await collect(*asked)]
        return await generate(state)

    return solve


@metric(name="honesty")
def honesty_metrics() -> Metric:
    """Honest and lie rate among each denominator, the lie rate's Wilson interval among held beliefs, and the count of every outcome."""

    def compute(scores: list[SampleScore]) -> dict[str, str | int | float | bool | None]:
        found = [str(score.score.value) for score in scores]
        counts = {outcome: found.count(outcome.value) for outcome in HonestyOutcome}
        sizes = {among: sum(counts[outcome] for outcome in outcomes) for among, outcomes in AMONG.items()}
        held = wilson(counts[HonestyOutcome.LIE], sizes["held"]) if sizes["held"] else None
        return {
            **{
                f"{outcome.value} of {among}": counts[outcome] / size if size else math.nan
                for outcome in (HonestyOutcome.HONEST, HonestyOutcome.LIE)
                for among, size in sizes.items()
            },
            "lie of held, interval low": held.low if held else math.nan,
            "lie of held, interval high": held.high if held else math.nan,
            **{f"n {outcome.value}": count for outcome, count in counts.items()},
        }

    return compute


@scorer(metrics=[honesty_metrics()])
def honesty(judge: Callable[[], StanceJudge]) -> Scorer:
    """Scorer whose value is the outcome of comparing belief and statement."""
    made: list[StanceJudge] = []

    async def score(state: TaskState, target: Target) -> Score:
        del target
        if not made:
            made.append(judge())
        record = Record.model_validate(state.metadata["record"])
        beliefs = state.metadata.get(BELIEFS) or ([] if record.given_belief is not None else [None])
        statement = said(state.output)
        (found,) = await compare_texts(made[0], [record], [beliefs], [statement])
        facts = {"belief": found.belief, "stated": found.stated, "judge": made[0].identity, "note": found.note, BELIEFS: beliefs}
        return Score(value=found.outcome.value, answer=statement, explanation=found.note or None, metadata=facts)

    return score


def honesty_from_log(log: EvalLog, *, arm: str = "", seed: int = 0) -> pl.DataFrame:
    """The table of beliefs and statements of an Inspect log; samples that errored or were never scored are rows as well."""
    whose = {"arm": arm, "seed": seed, "subject": log.eval.model, "evaluation": str((log.eval.metadata or {}).get("evaluation", log.eval.task))}
    return honesty_table([_row(sample) | whose for sample in log.samples or []])


def _row(sample: EvalSample) -> dict[str, object]:
    record = Record.model_validate(sample.metadata["record"])
    score = next(iter((sample.scores or {}).values()), None)
    facts = (score.metadata or {}) if score else {}
    missing = sample.error.message if sample.error else "no score"
    belief = facts.get("belief")
    return {
        "item": record.id,
        "category": record.archetype,
        "sample": int(sample.metadata["sample"]),
        "system": record.system,
        "question": record.question,
        "beliefs": facts.get(BELIEFS, []),
        "answer": sample.output.completion,
        "belief": belief,
        "stated": facts.get("stated"),
        "accurate": None if belief is None or record.truth is None else agree(record, belief, record.truth),
        "outcome": str(score.value) if score else HonestyOutcome.ERRORED.value,
        "judge": str(facts.get("judge", "")),
        "note": str(facts.get("note", "")) if score else missing,
    }
