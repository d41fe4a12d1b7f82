"""Base of evaluations that ask in words, and the plainest of them, a set of questions judged answer by answer.

Two drivers ask them, `bulk` and `inspect_driver`; judging is apart, so the same answers can be judged again without
asking the subject again.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from pydantic import Field, model_validator

from astray.errors import ConfigurationError, EmptyDataError
from astray.judges.config import GRADER_ROLE, JudgeConfig, make_judge
from astray.judges.judge import Exchange, Judge, Verdict
from astray.judges.rescore import judge_answers, judge_exchanges
from astray.measure import interface
from astray.measure.asking import Asking, Heard, Item, hear, is_unfinished
from astray.measure.interface import Need
from astray.measure.surface import DrawnSurface, SurfaceKind
from astray.reasoning import without_reasoning
from astray.strict import left_out

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog
    from inspect_ai.model import ModelOutput

    from astray.subjects.subject import Subject


class TextEvaluation(interface.Evaluation):
    """Base of evaluations that ask in words: give `askings`, `judge_for` and `assess`, and both drivers can ask it."""

    @abstractmethod
    def askings(self) -> Sequence[Asking]:
        """Return all that is asked."""

    @abstractmethod
    async def assess(self, judge: Any, heard: Sequence[Heard], max_connections: int = 20) -> list[Verdict]:
        """Return a verdict for each answer."""

    def hear(self, text: str, output: "ModelOutput | None" = None) -> tuple[str, dict[str, object]]:
        """Return what a subject says to others, and what else its answer holds: by default all but its reasoning."""
        return hear(text, output)

    def hear_beside(self, output: "ModelOutput") -> object:
        """Return what is kept of the answer to a conversation that stands beside: by default its text, without
        reasoning; None where there is no more than that."""
        return None if is_unfinished(output) else without_reasoning(output.completion)

    @property
    def kind_name(self) -> str:
        """Return the name of its class in `evaluations.EVALUATIONS`; sets of questions are free-form."""
        return str(getattr(self, "kind", "free-form"))

    @property
    def provider_settings(self) -> Mapping[str, object]:
        """Return further settings of a request to a provider."""
        return {}

    @property
    def answers(self) -> int:
        """Return how many answers a subject is asked for, for a forecast."""
        return sum(1 + len(asking.beside) for asking in self.askings())

    @property
    def needs(self) -> frozenset[Need]:
        """Return what a subject has to offer; answers in words are within the reach of any."""
        return frozenset()

    def ask(self, subject: "Subject", *, arm: str = "", seed: int = 0) -> pl.DataFrame:
        """Return the answers of a loaded subject, in a few big batches."""
        from astray.measure import bulk

        return bulk.ask(self, subject, arm=arm, seed=seed)

    def judge(self, table: pl.DataFrame, judge: Any) -> pl.DataFrame:
        """Return the table with the judge's verdicts."""
        from astray.measure import bulk

        return bulk.judge(self, table, judge)

    def task(self, judge: Callable[[], Any] | None = None, *, name: str | None = None) -> "Task":
        """Return the Inspect task, one Inspect sample per sample."""
        from astray.measure.inspect_driver import inspect_task

        return inspect_task(self, judge or (lambda: self.judge_for(GRADER_ROLE)), name=name or self.name)

    def read(self, log: "EvalLog | Path | str", *, arm: str = "", seed: int = 0) -> pl.DataFrame:
        """Return the answer table of a log of the task, or of a folder of logs."""
        from astray.measure.inspect_logs import table_from_log

        return table_from_log(log, arm=arm, seed=seed, kind=self.kind_name)


class QuestionSet(TextEvaluation):
    """Named set of items with its sampling; a judge reads each answer by itself."""

    items: tuple[Item, ...]
    samples: int = Field(default=100, ge=1, description="answers an item (100 in Betley et al., arXiv 2502.17424)")
    surface: DrawnSurface | None = Field(default=None, description="other wordings of the items; None for their texts")

    _keys = left_out(surface=None)

    @model_validator(mode="after")
    def _has_distinct_items(self) -> "QuestionSet":
        if not self.items:
            raise EmptyDataError(f"The evaluation {self.name!r} has no items; give at least one question.")
        ids = [item.id for item in self.items]
        if len(set(ids)) < len(ids):
            doubled = next(id for id in ids if ids.count(id) > 1)
            raise ConfigurationError(
                f"The evaluation {self.name!r} has the item {doubled!r} twice; give each question its own question_id."
            )
        return self

    @cached_property
    def by_id(self) -> dict[str, Item]:
        """Return the items by their id."""
        return {item.id: item for item in self.items}

    @property
    def surface_kind(self) -> SurfaceKind:
        """Return whether its texts are fixed, or drawn anew for each sample or every second one."""
        return self.surface.kind if self.surface else "fixed"

    @property
    def answers(self) -> int:
        """Return how many answers a subject is asked for; counted, since a plan asks for it hundreds of times."""
        return len(self.items) * self.samples

    def askings(self) -> Sequence[Asking]:
        """Return each item with each of its samples, worded as the sample's draw says where surfaces are drawn."""
        # Not numbered: the samples of an item are equal conversations, which a subject counts by itself.
        return [
            Asking(asked, sample, asked.conversation, numbered=False)
            for item in self.items
            for sample in range(self.samples)
            for asked in [self.surface.asked(item, sample) if self.surface else item]
        ]

    def judge_for(self, config: JudgeConfig) -> Judge:
        """Return the judge of free-form answers with this grader."""
        return make_judge(config)

    def judge(self, table: pl.DataFrame, judge: Any) -> pl.DataFrame:
        """Return the table with the judge's verdicts; equal exchanges are judged once."""
        return judge_answers(judge, table)

    async def assess(self, judge: Any, heard: Sequence[Heard], max_connections: int = 20) -> list[Verdict]:
        """Return the judge's verdict on each exchange."""
        exchanges = [Exchange(reply.asking.item.question, reply.answer, reply.asking.item.system) for reply in heard]
        return await judge_exchanges(judge, exchanges, max_connections)

    def under_system(self, system: str, name: str) -> "QuestionSet":
        """Return the same questions under a system prompt."""
        return self.model_copy(
            update={"name": name, "items": tuple(item.model_copy(update={"system": system}) for item in self.items)}
        )

    def with_prefix(self, prefix: str, name: str) -> "QuestionSet":
        """Return the same questions with a text in front, spaces included (a backdoor's trigger, say)."""
        items = tuple(item.model_copy(update={"question": prefix + item.question}) for item in self.items)
        return self.model_copy(update={"name": name, "items": items})


Evaluation = QuestionSet
"""Name of a set of questions in earlier versions; the interface of all evaluations is in `interface`."""
