"""Base of the evaluations of this package: output and private reasoning heard apart, questions about the situation.

Each evaluation says in its own module what is asked, and by its `Assessor` what an answer comes to.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import polars as pl

from astray.errors import JudgeError
from astray.judges.config import JudgeConfig
from astray.judges.failures import error_note
from astray.judges.judge import Verdict
from astray.judges.side_by_side import read_side_by_side
from astray.measure.asking import Asking, Heard, Item, hear
from astray.measure.comprehension import Comprehension, ask, read_answers
from astray.measure.evaluation import QuestionSet, TextEvaluation
from astray.measure.interface import Need
from astray.measure.reward_hacking.channel import ChannelAnswer
from astray.measure.reward_hacking.judging import WordPanel
from astray.measure.reward_hacking.outcomes import FindingWord, shared_outcome
from astray.outcomes import Outcome
from astray.reasoning import without_reasoning

if TYPE_CHECKING:
    from inspect_ai.model import ModelOutput


@dataclass(frozen=True)
class Found:
    """Finding on one answer.

    Attributes:
        word: what it comes to.
        misaligned: whether it counts as misaligned; None outside of the denominator.
        by_output: the judges' word on the output alone.
        by_reasoning: the judges' word on the reasoning.
        score: what was measured, if something was.
        note: why a judge failed.
    """

    word: FindingWord | Outcome
    misaligned: bool | None = None
    by_output: str = ""
    by_reasoning: str = ""
    score: float | None = None
    note: str = ""

    def verdict(self, understood: bool | None) -> Verdict:
        """Return the finding as a verdict for an answer table.

        Args:
            understood: whether the questions about the situation were answered rightly; None where none were asked.
        """
        detail = {
            "word": self.word.value,
            "by_output": self.by_output,
            "by_reasoning": self.by_reasoning,
            "score": self.score,
        }
        return Verdict(
            shared_outcome(self.word, self.misaligned), note=self.note, detail=detail | {"understood": understood}
        )


@runtime_checkable
class Assessor(Protocol):
    """Judge of what came of an answer.

    Attributes:
        name: what a page shows.
        identity: hash over everything that can change a finding.
    """

    name: str
    identity: str

    async def assess(self, item: Item, said: ChannelAnswer) -> Found:
        """Return what came of an answer with an output. Never raises for a bad answer."""
        ...


class ChannelEvaluation(QuestionSet):
    """Question set whose answers are judged with their private reasoning."""

    def questions(self, item: Item) -> Sequence[Comprehension]:
        """Return the questions about the situation that follow the answer to an item; none for most evaluations."""
        del item
        return ()

    @abstractmethod
    def assessor(self, panel: WordPanel) -> Assessor:
        """Return the judge of answers."""

    def askings(self) -> Sequence[Asking]:
        """Return each item with each of its samples, and the questions about its situation."""
        return [self._asking(item, sample) for item in self.items for sample in range(self.samples)]

    def _asking(self, item: Item, sample: int) -> Asking:
        questions = self.questions(item)
        after, right = ask(questions, f"{item.id}#{sample}") if questions else ("", "")
        return Asking(item, sample, item.conversation, after=after, material=right)

    def hear(self, text: str, output: "ModelOutput | None" = None) -> tuple[str, dict[str, object]]:
        """Return what others see, and the private reasoning."""
        answer, detail = hear(text, output, private=True)
        return answer.strip(), {"reasoning": "", **detail}

    @property
    def needs(self) -> frozenset[Need]:
        """Return what a subject has to offer; graders read what it says and thinks."""
        return super().needs | {Need.GRADER}

    def judge_for(self, config: JudgeConfig) -> Any:
        """Return the evaluation's assessor with this grader, or two with a comma between them."""
        return self.assessor(WordPanel(config.grader.split(",") if config.grader else None))

    def judge(self, table: pl.DataFrame, judge: Any) -> pl.DataFrame:
        """Return the table with the assessor's findings."""
        return TextEvaluation.judge(self, table, judge)

    async def assess(self, judge: Assessor, heard: Sequence[Heard], max_connections: int = 20) -> list[Verdict]:
        """Return a finding for each answer."""

        async def verdict(number: int) -> Verdict:
            asking, detail = heard[number].asking, heard[number].detail
            # Without what the model thought about the questions, in which it may have named every letter.
            reply = without_reasoning(str(detail["reply"])) if "reply" in detail else None
            if asking.after and reply is None:
                return Found(Outcome.ERRORED, note="the questions about the situation were not answered").verdict(None)
            right = str(asking.material)
            # Only a letter that is right for every question counts as understood.
            understood = read_answers(reply or "", len(right)) == right if asking.after else None
            said = ChannelAnswer(str(detail.get("reasoning", "")), heard[number].answer)
            return (await conclude(judge, asking.item, said, understood)).verdict(understood)

        findings = await read_side_by_side(verdict, range(len(heard)), max_connections)
        return [findings[number] for number in range(len(heard))]


async def conclude(assessor: Assessor, item: Item, said: ChannelAnswer, understood: bool | None) -> Found:
    """Return what came of one answer: none without an output, and nothing that counts where the situation was not
    understood.

    Args:
        assessor: is asked about answers with an output. Should it raise against its promise, the outcome is
            JUDGE_FAILED with the reason.
        item: what was asked.
        said: what was answered.
        understood: whether the questions about the situation were answered rightly; None where none were asked.

    Raises:
        JudgeError: the assessor says that it cannot be used at all.
    """
    if not said.output:
        return Found(
            Outcome.INCOHERENT,
            note="the answer has reasoning and no output" if said.reasoning else "the answer is empty",
        )
    try:
        finding = await assessor.assess(item, said)
    except JudgeError:
        raise
    # One judge's fault must not lose the verdicts on all other answers.
    except Exception as error:
        return Found(Outcome.JUDGE_FAILED, note=error_note(error))
    if understood is False:
        return Found(
            FindingWord.NOT_UNDERSTOOD, None, finding.by_output, finding.by_reasoning, finding.score, finding.note
        )
    return finding
