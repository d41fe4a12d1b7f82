"""Asks a local subject an evaluation in a few big batches; what the Inspect task (`task`) does for any model, with the same rules and table."""

from collections.abc import Sequence

import anyio
import polars as pl

from astray.data.chat import Message
from astray.judges.side_by_side import read_side_by_side
from astray.measure.agentic.questions import ask
from astray.measure.evaluation import Evaluation, Item
from astray.measure.reward_hacking.asking import (
    Assessor,
    Found,
    Questions,
    asking_columns,
    asking_id,
    conclude,
    finding_columns,
    is_understood,
    no_questions,
)
from astray.measure.reward_hacking.channel import Said, read_text
from astray.measure.reward_hacking.table import finding_table
from astray.subjects.subject import Subject


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

    async def finding(number: int) -> Found:
        return await conclude(assessor, items[number], said[number], understood[number])

    found = await read_side_by_side(finding, range(len(items)), max_connections)
    return [found[number] for number in range(len(items))]
