"""What came of an answer to an evaluation: how it is assessed, and the columns that say so. The same for every way of asking.

What is asked is an `Evaluation`; what came of an answer says an `Assessor`; questions about the situation may follow the answer in the same
conversation. Left to others: asking, of a local subject (`bulk`) or under Inspect (`task`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from astray.errors import JudgeError
from astray.measure.agentic.questions import read_answers
from astray.measure.agentic.scenario import Question
from astray.measure.evaluation import Item
from astray.measure.reward_hacking.channel import Said
from astray.measure.reward_hacking.outcomes import Finding


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
