"""What a study is: arms, seeds, evaluations and claims, declared as data.

A study file says in the words of its paper what is trained on what, what is asked and what is claimed. Running it is the work of `run`, forecasting
of `forecast`, counting of `findings`. What differs between the organism and a real model (data, questions, judge) is in a `Setting`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny

from astray.artifacts import Step
from astray.engine.data import ArmData
from astray.engine.exhibits import Exhibit
from astray.engine.findings import Findings
from astray.engine.next_steps import NextStep, times_as_many
from astray.engine.options import MOST_SEEDS, StudyOptions
from astray.engine.setting import Setting
from astray.engine.summary import ClaimRow, Summary
from astray.measure.interface import Evaluation


class Arm(BaseModel):
    """A data recipe trained into a base, and what its runs are asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    description: str
    control: bool = Field(False, description="an arm that should show nothing")
    base: str = Field(description="the model that is trained")
    data: ArmData | None = Field(description="None: the base as it is, untrained, or what an analysis makes of it")
    home: str = Field("", description="category of questions that the data is about; all others are 'elsewhere'")
    extra: tuple[SerializeAsAny[Evaluation], ...] = Field((), description="evaluations for this arm alone")
    recipe: str = Field("no training", description="for an arm without data: what is done to the base")


@dataclass(frozen=True)
class Run:
    """An arm trained with a seed: its steps. An untrained arm has neither data nor training."""

    arm: Arm
    seed: int
    data: Step | None
    training: Step | None
    answers: Step
    verdicts: Step

    @property
    def name(self) -> str:
        """The run's name within its study."""
        return f"{self.arm.name}-{self.seed}"

    @property
    def steps(self) -> tuple[Step, ...]:
        """All its steps, what is wanted first."""
        return tuple(step for step in (self.verdicts, self.answers, self.training, self.data) if step)


@dataclass(frozen=True)
class Analysis:
    """A step beyond training and asking: an explanation or a mitigation, made from runs.

    Its artifact may hold `answers.parquet`, judged answers of further arms, which then count like all others.

    Attributes:
        step: what is done; its name is how findings ask for its tables.
        arms: the arms whose answers it leaves.
        answers: how many answers it samples, for the forecast.
        rows: how many rows it trains on, for the forecast.
    """

    step: Step
    arms: tuple[Arm, ...] = ()
    answers: int = 0
    rows: int = 0


def _none(*_: object) -> tuple[()]:
    return ()


def _anywhere() -> None:
    """Default readiness check: always passes."""


def _as_it_is(setting: Setting) -> Setting:
    return setting


@dataclass(frozen=True)
class Study:
    """A registered study.

    Attributes:
        name: what `astray run` calls it.
        title: heading of its report.
        question: what it asks, one sentence.
        arms: setting -> what is trained.
        claims: findings, setting -> the decided claims.
        always: arms that are run even if others were asked for: what nearly every claim is held against.
        analyses: setting, runs -> what is made from the runs, for studies that explain or mend.
        exhibits: findings, setting -> figures and tables of its own for the report.
        fitted: the subject's setting -> the study's own, for studies that ask other questions or say more to a reader.
        ready: raises what keeps the study from running on this machine; called before the first step.
        options: what a user may choose.
    """

    name: str
    title: str
    question: str
    arms: Callable[[Setting], Iterable[Arm]]
    claims: Callable[[Findings, Setting], Iterable[ClaimRow]]
    always: tuple[str, ...] = ()
    analyses: Callable[[Setting, Sequence[Run]], Iterable[Analysis]] = _none
    exhibits: Callable[[Findings, Setting], Iterable[Exhibit]] = _none
    fitted: Callable[[Setting], Setting] = _as_it_is
    ready: Callable[[], None] = _anywhere
    options: type[StudyOptions] = StudyOptions

    def next_steps(self, options: StudyOptions, summary: Summary) -> Iterator[NextStep]:
        """Yield what to run after this."""
        given = options.model_dump(exclude_defaults=True)
        seeds = len(summary.seeds)
        over_runs = [claim for claim in summary.claims if claim.n <= seeds]  # further seeds give the untrained base no further answers
        if given.pop("quick", False):
            yield NextStep("All seeds and all answers", given)
        else:
            more = min(MOST_SEEDS, math.ceil(seeds * times_as_many(over_runs)))
            yield NextStep("More training runs; those that are done are kept", given | {"seeds": more})
        if summary.subject.is_organism:
            yield NextStep("The same on a model of your own", {"subject": "FOLDER", "grader": "MODEL"})
        elif options.labels is None:
            yield NextStep("The judge's error, from answers that you labelled", given | {"labels": "FILE"})
