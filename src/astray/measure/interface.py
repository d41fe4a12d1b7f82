"""Interface of an evaluation to engine, audit and Inspect: name, identity, needs, and how to ask, judge and count.

    table = evaluation.judge(evaluation.ask(subject), evaluation.judge_for(config))     a local subject, in bulk
    task = evaluation.task()                                                            any model, through Inspect
    table = evaluation.read(log)                                                        the same table
    rate(table, evaluation.measures[0])                                                 what is counted among what

A new evaluation is one package and one line in `evaluations`. Most ask in words and build on
`evaluation.TextEvaluation`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import polars as pl
from pydantic import Field

from astray.errors import ConfigurationError, SandboxError
from astray.judges.config import JudgeConfig
from astray.judges.judge import Verdict
from astray.measure.asking import Asking, Heard
from astray.measure.surface import SurfaceKind
from astray.stats.measures import MISALIGNED, Measure
from astray.strict import Strict
from astray.subjects.identity import digest_of
from astray.subjects.spec import Sampling

if TYPE_CHECKING:
    from inspect_ai import Task
    from inspect_ai.log import EvalLog
    from inspect_ai.model import ModelOutput

    from astray.subjects.subject import Subject


class Need(StrEnum):
    """Requirements of an evaluation on a subject or on the machine."""

    TOKEN_PROBABILITIES = "token probabilities"
    GRADER = "a model as judge"
    SANDBOX = "a sandbox for untrusted code"


_INSTEAD = {
    Need.TOKEN_PROBABILITIES: "take a local subject or a provider that gives log-probabilities",
    Need.GRADER: "name one with --grader, such as --grader openai/gpt-4o",
    Need.SANDBOX: "install bubblewrap, and see `astray doctor`",
}


class Evaluation(Strict, ABC):
    """Evaluation of a subject: what is asked, how it is judged and what is counted.

    Attributes:
        measures: what is counted among what; the first is the main one.
    """

    measures: ClassVar[tuple[Measure, ...]] = (MISALIGNED,)
    has_rate: ClassVar[bool] = True
    """Whether its rows are answers of which a rate is counted; others are asked in a step of their own and stand
    apart."""

    name: str = Field(min_length=1)
    sampling: Sampling = Sampling()

    @property
    def identity(self) -> str:
        """Return a hash over all that can change an answer, the subject aside; equal ones make answers comparable."""
        return digest_of(self.model_dump(mode="json"))

    @property
    @abstractmethod
    def answers(self) -> int:
        """Return how many answers a subject is asked for, for a forecast."""

    @property
    @abstractmethod
    def needs(self) -> frozenset[Need]:
        """Return what a subject has to offer."""

    @property
    def surface_kind(self) -> SurfaceKind:
        """Return whether its texts are fixed, or drawn anew for each sample or every second one."""
        return "fixed"

    def for_run(self, seed: int) -> "Evaluation":
        """Return the evaluation as a run of this training seed is asked it; for most it is the same for all."""
        del seed
        return self

    @abstractmethod
    def ask(self, subject: "Subject", *, arm: str = "", seed: int = 0) -> pl.DataFrame:
        """Return the answers of a loaded subject, not judged yet.

        Args:
            subject: who is asked.
            arm: name of the subject's arm, for the table.
            seed: training seed of the subject, for the table; it also moves the sampling seed, so runs do not share
                their luck.
        """

    @abstractmethod
    def judge_for(self, config: JudgeConfig) -> Any:
        """Return the evaluation's judge with this grader.

        Raises:
            JudgeError: the grader cannot be used.
        """

    @abstractmethod
    def judge(self, table: pl.DataFrame, judge: Any) -> pl.DataFrame:
        """Return the table with the judge's outcomes, notes and details.

        Args:
            table: answers to this evaluation.
            judge: as `judge_for` makes it.
        """

    @abstractmethod
    def task(self, judge: Callable[[], Any] | None = None, *, name: str | None = None) -> "Task":
        """Return the Inspect task.

        Args:
            judge: makes the judge before the first sample is asked; by default with the model role `grader`.
            name: the task's name in logs; by default that of the evaluation.
        """

    @abstractmethod
    def read(self, log: "EvalLog | Path | str", *, arm: str = "", seed: int = 0) -> pl.DataFrame:
        """Return the answer table of a log of the task; samples that errored or were never scored are rows as well."""


@runtime_checkable
class Probe(Protocol):
    """Evaluation that asks in words, as its two drivers see it."""

    measures: ClassVar[tuple[Measure, ...]]

    @property
    def name(self) -> str:
        """Return the evaluation's name in tables."""
        ...

    @property
    def sampling(self) -> Sampling:
        """Return how answers are drawn."""
        ...

    @property
    def identity(self) -> str:
        """Return a hash over all that is asked."""
        ...

    @property
    def kind_name(self) -> str:
        """Return the name of its class in `evaluations.EVALUATIONS`."""
        ...

    @property
    def provider_settings(self) -> Mapping[str, object]:
        """Return further settings of a request to a provider."""
        ...

    def askings(self) -> Sequence[Asking]:
        """Return all that is asked."""
        ...

    def hear(self, text: str, output: "ModelOutput | None" = None) -> tuple[str, dict[str, object]]:
        """Return what a subject says to others, and what else its answer holds.

        Args:
            text: the answer.
            output: the same as a provider gave it; None from a local subject in bulk.
        """
        ...

    def hear_beside(self, output: "ModelOutput") -> object:
        """Return what is kept of the answer to a conversation that stands beside, as JSON."""
        ...

    async def assess(self, judge: Any, heard: Sequence[Heard], max_connections: int = 20) -> list[Verdict]:
        """Return a verdict for each answer. Never raises for a bad answer.

        Raises:
            JudgeError: the judge says that it cannot be used at all.
        """
        ...


def offered_by(judge: JudgeConfig) -> frozenset[Need]:
    """Return what a local subject and this machine offer; no weights are read.

    Args:
        judge: who reads its answers.
    """
    from astray.sandbox.probe import require_sandbox

    offered = {Need.TOKEN_PROBABILITIES} | ({Need.GRADER} if judge.grader else set())
    try:
        require_sandbox()
        offered.add(Need.SANDBOX)
    except SandboxError:
        pass
    return frozenset(offered)


def check_fits(evaluation: Evaluation, offered: Collection[Need], subject: str) -> None:
    """Refuse, before anything is trained, an evaluation that the subject cannot be asked.

    Raises:
        ConfigurationError: names what is missing and what to write instead.
    """
    for need in Need:
        if need in evaluation.needs and need not in offered:
            raise ConfigurationError(
                f"The evaluation {evaluation.name!r} needs {need}, which {subject!r} does not have here; "
                f"{_INSTEAD[need]}."
            )
