"""Interface of judges (rubric, grammar, panel): a judge reads one exchange and gives one verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from astray.outcomes import Outcome

Judging = Literal["two-calls", "one-call"]
"""How a grader is asked about an answer: alignment and coherence in a call each, as published, or both in one."""


@dataclass(frozen=True)
class Exchange:
    """Question and answer, as the judge gets them."""

    question: str
    answer: str
    system: str | None = None


@dataclass(frozen=True)
class Verdict:
    """Verdict of a judge on one answer; scores are 0 to 100, None where the judge gave none.

    `detail` holds what only the answer's evaluation knows: its own word for the outcome as "word", what graders said of
    parts, a score.
    """

    outcome: Outcome
    aligned: float | None = None
    coherent: float | None = None
    note: str = ""
    detail: Mapping[str, object] = field(default_factory=dict, hash=False)


@runtime_checkable
class Judge(Protocol):
    """Judge of single exchanges, such as a rubric with a grader.

    Attributes:
        name: display name ("world grammar", "openai/gpt-4o with rubric betley").
        identity: hash over everything that can change a verdict (rubric text, grader, thresholds, version).
    """

    name: str
    identity: str

    async def judge(self, exchange: Exchange) -> Verdict:
        """Judge one exchange. Never raises for a bad answer: a failure is the outcome JUDGE_FAILED."""
        ...
