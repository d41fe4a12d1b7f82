"""Graders that reply with one of a few agreed words: the role `grader`, and for a second opinion `grader_b`.

Texts stand in quotes that they cannot end, what is asked stands after them, and the whole reply has to be the word (see
`judges.words`). A grader that refuses or rambles has failed, and the other one's word still counts; two words that
differ are a dispute.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from inspect_ai.model import Model
from inspect_ai.util import collect

from astray.errors import JudgeError
from astray.files import read_yaml
from astray.judges.grader import GraderSettings
from astray.judges.quoting import quoted
from astray.judges.words import WordGrader, graders_from_roles
from astray.measure.reward_hacking.outcomes import FindingWord
from astray.outcomes import Outcome
from astray.subjects.identity import digest_of


@dataclass(frozen=True)
class GraderQuestion:
    """Question to graders about texts.

    Attributes:
        opening: what the texts are, in a sentence.
        task: what is to be decided, and what each word means.
        words: the replies there are.
    """

    opening: str
    task: str
    words: tuple[str, ...]

    def prompt(self, parts: Sequence[tuple[str, str]]) -> str:
        """Return the whole prompt about texts, each with its name."""
        return str(_TEXTS["frame"]).format(
            opening=self.opening, quotes=quoted(parts), task=self.task, words=", ".join(self.words)
        )


_TEXTS: Any = read_yaml(Path(__file__).with_name("graders.yaml"), "frame: ...")


def question_named(name: str) -> GraderQuestion:
    """Return a question of `graders.yaml`."""
    asked = _TEXTS["questions"][name]
    return GraderQuestion(asked["opening"], asked["task"], tuple(asked["words"]))


@dataclass(frozen=True)
class JointReply:
    """Reply of the graders together.

    Attributes:
        word: the common word; empty where there is none.
        failure: JUDGE_FAILED or DISPUTED where there is none, else None.
        note: why there is none, or why one grader's word does not count.
    """

    word: str
    failure: FindingWord | Outcome | None = None
    note: str = ""


class WordPanel:
    """Panel of one or two graders.

    Args:
        graders: Inspect models or their names; None takes the models with the roles `grader` and, where it is given,
            `grader_b`.
        settings: how they are called.

    Attributes:
        names: of the graders.

    Raises:
        JudgeError: there is no grader, or one cannot be used.
    """

    def __init__(self, graders: Sequence[str | Model] | None = None, settings: GraderSettings | None = None) -> None:
        if graders is not None and not graders:
            raise JudgeError(
                "A panel needs at least one grader. Give Inspect models or names such as 'openai/gpt-4o', or None "
                "for the model roles."
            )
        chosen: Sequence[str | Model | None] = graders if graders is not None else graders_from_roles() or [None]
        self._graders = tuple(WordGrader(grader, settings) for grader in chosen)
        self.names = tuple(str(grader.model) for grader in self._graders)

    def identity(self, kind: str, questions: Sequence[GraderQuestion]) -> str:
        """Return a hash over the graders, their settings and all that they are asked."""
        asked = [_TEXTS["frame"], *(f"{question.opening}\n{question.task}\n{question.words}" for question in questions)]
        return f"{kind}-{digest_of([grader.identity(kind, text) for grader in self._graders for text in asked])[:12]}"

    async def ask(self, question: GraderQuestion, parts: Sequence[tuple[str, str]]) -> JointReply:
        """Return the graders' word on texts. Never raises for a grader that fails."""
        prompt = question.prompt(parts)
        replies = await collect(*(grader.ask(prompt, question.words) for grader in self._graders))
        # A set: two graders with one word agree, and one that failed leaves the decision to the other.
        words, notes = {word for word, _ in replies if word}, [note for _, note in replies if note]
        if len(words) == 1:
            return JointReply(words.pop(), note="; ".join(notes))
        if words:
            return JointReply("", FindingWord.DISPUTED, f"the judges differ: {', '.join(sorted(words))}")
        return JointReply("", Outcome.JUDGE_FAILED, "; ".join(notes))


class PanelJudge:
    """Judge that asks a panel about the output of an answer, and about its reasoning.

    Args:
        panel: the graders; None takes the model roles.

    Attributes:
        reads: what the judge reads, for its name.
        task: name and version of what is asked.
        questions: what is asked.
        name: "openai/gpt-4o reads aims".
        identity: hash over graders, settings and what they are asked.

    Raises:
        JudgeError: a grader cannot be used.
    """

    reads: ClassVar[str]
    task: ClassVar[str]
    questions: ClassVar[tuple[GraderQuestion, ...]]

    def __init__(self, panel: WordPanel | None = None) -> None:
        self._panel = panel or WordPanel()
        self.name = f"{' and '.join(self._panel.names)} reads {self.reads}"
        self.identity = self._panel.identity(self.task, self.questions)
