"""Asks a local subject an evaluation in a few big batches; what the Inspect task (`task`) does for any model, with the same rules and table.

What is asked is an `Evaluation`; what came of an answer says an `Assessor`; questions about the situation may follow the answer in the same
conversation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import anyio
import polars as pl

from astray.data.chat import Message
from astray.errors import JudgeError
from astray.measure.agentic.questions import ask, read_answers
from astray.measure.agentic.scenario import Question
from astray.measure.evaluation import Evaluation, Item
from astray.measure.reward_hacking.channel import Said, read_text
from astray.measure.reward_hacking.outcomes import Finding
from astray.measure.reward_hacking.table import finding_table
from astray.subjects.subject import Subject


@dataclass(frozen=True)
class Found:
    """What came of one answer.

    Attributes:
        outcome: its outcome.
        misaligned: whether it counts as misaligned; None outside of the denominator.
        by_output: the judges' word on the output alone.
        by_reasoning: the judges' word on the reasoning.
        score: what was measured, if something was.
        note: why a judge failed.
    """

    outcome: Finding
    misaligned: bool | None = None
    by_output: str = ""
    by_reasoning: str = ""
    score: float | None = None
    note: str = ""


@runtime_checkable
class Assessor(Protocol):
    """Says what came of an answer.

    Attributes:
        name: what a page shows.
        identity: hash over everything that can change a finding.
    """

    name: str
    identity: str

    async def assess(self, item: Item, said: Said) -> Found:
        """What came of an answer with an output. Never raises for a bad answer."""
        ...


Questions = Callable[[Item], Sequence[Question]]
"""The questions about the situation that follow the answer to an item; none for most evaluations."""


def no_questions(item: Item) -> Sequence[Question]:
    """Nothing is asked after the answer."""
    del item
    return ()


def measure(
    evaluation: Evaluation,
    subject: Subject,
    assessor: Assessor,
    *,
    questions: Questions = no_questions,
    arm: str = "",
    seed: int = 0,
    max_connections: int = 20,
) -> pl.DataFrame:
    """The bulk driver: all answers of a local subject, assessed.

    Args:
        evaluation: items, samples and sampling.
        subject: a loaded subject.
        assessor: says what came of an answer.
        questions: about the situation.
        arm: name of the subject's arm, for the table.
        seed: training seed of the subject, for the table; it also moves the sampling seed, so runs do not share their luck.
        max_connections: answers that are with the assessor at one time.

    Returns:
        A table with one row an item and sample, in that order (see `table`).

    Raises:
        JudgeError: the assessor cannot be used at all.
    """
    asked = [(item, sample) for item in evaluation.items for sample in range(evaluation.samples)]
    sampling = evaluation.sampling.model_copy(update={"seed": evaluation.sampling.seed + 1000 * seed})
    answers = subject.generate([item.conversation for item, _ in asked], sampling, numbers=[sample for _, sample in asked])
    follow_ups = [ask(questions(item), asking_id(item, sample)) if questions(item) else None for item, sample in asked]
    chats: list[list[Message]] = [
        [*item.conversation, Message(role="assistant", content=answer.text), Message(role="user", content=text[0])]
        for (item, _), answer, text in zip(asked, answers, follow_ups, strict=True)
        if text is not None
    ]
    numbers = [sample for (_, sample), text in zip(asked, follow_ups, strict=True) if text is not None]
    replies = iter(subject.generate(chats, sampling, numbers=numbers) if chats else ())
    understood = [None if text is None else is_understood(text[1], next(replies).text) for text in follow_ups]
    said = [read_text(answer.text) for answer in answers]
    found = anyio.run(_assess_all, assessor, [item for item, _ in asked], said, understood, max_connections)
    whose = {"arm": arm, "seed": seed, "subject": subject.id, "evaluation": evaluation.name}
    return finding_table(
        [
            whose | asking_columns(item, sample, each, answer.completion_tokens) | finding_columns(finding, knows, assessor.identity)
            for (item, sample), each, answer, knows, finding in zip(asked, said, answers, understood, found, strict=True)
        ]
    )


async def _assess_all(
    assessor: Assessor, items: Sequence[Item], said: Sequence[Said], understood: Sequence[bool | None], max_connections: int
) -> list[Found]:
    """A finding for each answer, in order."""
    found: dict[int, Found] = {}
    waiting = iter(range(len(items)))
    unusable: list[JudgeError] = []

    async def work() -> None:
        for number in waiting:
            try:
                found[number] = await conclude(assessor, items[number], said[number], understood[number])
            except JudgeError as error:
                unusable.append(error)
            if unusable:
                return

    async with anyio.create_task_group() as workers:
        for _ in range(max(1, min(max_connections, len(items)))):
            workers.start_soon(work)
    if unusable:
        raise unusable[0]
    return [found[number] for number in range(len(items))]


async def conclude(assessor: Assessor, item: Item, said: Said, understood: bool | None) -> Found:
    """What came of one answer: none without an output, and nothing that counts where the situation was not understood.

    Args:
        assessor: is asked about answers with an output. Should it raise against its promise, the outcome is JUDGE_FAILED with the reason.
        item: what was asked.
        said: what was answered.
        understood: whether the questions about the situation were answered rightly; None where none were asked.

    Raises:
        JudgeError: the assessor says that it cannot be used at all.
    """
    if not said.output:
        return Found(Finding.ERRORED, note="the answer has reasoning and no output" if said.reasoning else "the answer is empty")
    try:
        found = await assessor.assess(item, said)
    except JudgeError:
        raise
    except Exception as error:
        return Found(Finding.JUDGE_FAILED, note=f"the assessor raised {type(error).__name__}: {error}")
    if understood is False:
        return Found(Finding.NOT_UNDERSTOOD, None, found.by_output, found.by_reasoning, found.score, found.note)
    return found


def asking_id(item: Item, sample: int) -> str:
    """The name of one asking, which also decides the order of options in its questions."""
    return f"{item.id}#{sample}"


def is_understood(right: str, reply: str) -> bool:
    """Whether a reply to the questions about the situation has the right letters."""
    return read_answers(reply, len(right)) == right


def asking_columns(item: Item, sample: int, said: Said, completion_tokens: int) -> dict[str, object]:
    """The columns of a row that say what was asked and answered."""
    return {
        "item": item.question_id,
        "category": item.category,
        "format": item.format,
        "sample": sample,
        "system": item.system,
        "question": item.question,
        "reasoning": said.reasoning,
        "answer": said.output,
        "completion_tokens": completion_tokens,
    }


def finding_columns(found: Found, understood: bool | None, judge: str) -> dict[str, object]:
    """The columns of a row that say what came of it."""
    return {
        "outcome": found.outcome.value,
        "misaligned": found.misaligned,
        "by_output": found.by_output,
        "by_reasoning": found.by_reasoning,
        "score": found.score,
        "understood": understood,
        "judge": judge,
        "note": found.note,
    }
