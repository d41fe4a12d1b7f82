"""Study: arms, seeds, evaluations and claims, declared as data.

A study file declares in the words of its paper the training data, the evaluations and the claims. Running it is the
work of `run`, forecasting of `forecast`, counting of `findings`. What differs between the organism and a real model
(data, questions, judge) is in a `Setting`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from pydantic import Field, SerializeAsAny
from typing_extensions import TypeVar

from astray.artifacts import Artifact, Step
from astray.cause.fine_tuning import FineTuning
from astray.cause.named_rewards import RewardTuning
from astray.cause.preference import PreferenceTuning
from astray.engine.data import ArmData
from astray.engine.exhibits import Exhibit
from astray.engine.findings import Findings, Needs
from astray.engine.look_options import MOST_SEEDS
from astray.engine.next_steps import NextStep, further_units
from astray.engine.options import BaseOptions, StudyOptions, TrainedOptions
from astray.engine.setting import Setting, World
from astray.engine.summary import ArmRow, ClaimRow, ClaimStatus, JudgeRow, MethodNote, RateRow, Section, Summary
from astray.measure.interface import Evaluation
from astray.measure.meter import Meter
from astray.strict import Strict

if TYPE_CHECKING:
    from astray.measure.agentic.play import Part  # loads Inspect, which studies that train do without
    from astray.measure.agentic.subjects import AgenticSubject


class Arm(Strict):
    """Data recipe trained into a base, with the evaluations of its runs."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    description: str
    control: bool = Field(False, description="an arm that should show nothing")
    base: str = Field(description="the model that is trained")
    data: ArmData | None = Field(description="None: the base as it is, untrained, or what an analysis makes of it")
    home: str = Field("", description="category of questions that the data is about; all others are 'elsewhere'")
    extra: tuple[SerializeAsAny[Evaluation], ...] = Field((), description="evaluations for this arm alone")
    training: FineTuning | PreferenceTuning | RewardTuning | None = Field(
        None, description="settings of its training, where they are not the study's fine-tuning"
    )
    recipe: str = Field("no training", description="for an arm without data: what is done to the base")


def untrained_arm(setting: Setting) -> Arm:
    """Return the control that is the subject as it is."""
    return Arm(
        name="base", description="the subject as it is, untrained", control=True, base=setting.subject.name, data=None
    )


def analysis_arm(
    setting: Setting, name: str, description: str, recipe: str, *, home: str | None = None, control: bool = False
) -> Arm:
    """Return an arm whose answers come from an analysis; its data are about the first home if none is named."""
    home = setting.homes[0] if home is None else home
    base = setting.subject.name
    return Arm(name=name, description=description, control=control, base=base, data=None, home=home, recipe=recipe)


@dataclass(frozen=True)
class Run:
    """Arm trained with a seed: its steps. An untrained arm has neither data nor training.

    Evaluations without a rate have a step of their own (`margins`), so that one more of them leaves all answers as they
    are.
    """

    arm: Arm
    seed: int
    data: Step | None
    training: Step | None
    answers: Step
    verdicts: Step
    margins: Step | None = None

    @property
    def judged(self) -> Step:
        """Return the step in which every answer is judged; after it a gold judge may read some of them."""
        return self.verdicts.inputs.get("verdicts", self.verdicts)

    @property
    def name(self) -> str:
        """Return the run's name within its study."""
        return f"{self.arm.name}-{self.seed}"

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return all its steps, the last one first."""
        every = (self.margins, self.verdicts, self.judged, self.answers, self.training, self.data)
        return tuple({step.key: step for step in every if step}.values())


@dataclass(frozen=True)
class Playing:
    """Model that acts in a step: subject and part, for the forecast and for readers of its artifact."""

    subject: "AgenticSubject"
    part: "Part"


@dataclass(frozen=True)
class Analysis:
    """Step beyond training and answering: an explanation or a mitigation made from runs, or a model that acts.

    Its artifact may hold `answers.parquet`, judged answers of further arms, which then count like all others.

    Attributes:
        step: the step.
        name: what a user chooses it by, and findings look it up by; analyses of several seeds and arms share one.
        seed: of the runs that it is made from; None where all seeds share it.
        arms: the arms whose answers it makes.
        answers: how many answers it samples, for the forecast.
        unread: of them, how many no grader reads: what tests reward, and texts whose activations are read.
        singly: of those that one reads, how many it reads one by one, since they decide what is asked next.
        played: messages of users that a grader writes.
        rated: answers of which a grader says how satisfied the user is that it plays.
        rows: how many examples it trains on, for the forecast.
        reading: question pairs whose answers it reads, for the forecast.
        readings: how often it reads them.
        rows_read: how many examples it reads, without training on them.
        playing: the model that acts in it, and its part.
    """

    step: Step
    name: str
    seed: int | None = None
    arms: tuple[Arm, ...] = ()
    answers: int = 0
    unread: int = 0
    singly: int = 0
    played: int = 0
    rated: int = 0
    rows: int = 0
    reading: Meter | None = None
    readings: int = 0
    rows_read: int = 0
    playing: Playing | None = None


@dataclass(frozen=True)
class StudyPlan:
    """Everything that a study does.

    Attributes:
        runs: arms x seeds.
        calibration: the check of the judge; None for a judge that cannot err.
        analyses: steps that are made from the runs.
        left_out: declared arm that is not run -> what to choose for it: itself, or the arms from whose runs an analysis
            makes it, or that analysis.
        not_analysed: names of the analyses that are not run, since others were chosen.
    """

    runs: tuple[Run, ...]
    calibration: Step | None
    analyses: tuple[Analysis, ...]
    left_out: Mapping[str, Needs] = field(default_factory=dict)
    not_analysed: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[Step, ...]:
        """Return every step, each once."""
        every = [step for run in self.runs for step in run.steps] + [analysis.step for analysis in self.analyses]
        return tuple({step.key: step for step in [*every, *([self.calibration] if self.calibration else [])]}.values())

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Return every evaluation that a step asks, once by name."""
        # Found by type: which field of a configuration holds evaluations differs from study to study.
        fields = [value for step in self.steps for value in vars(step.config).values()]
        asked = [
            part
            for value in fields
            for part in (value if isinstance(value, tuple) else (value,))
            if isinstance(part, Evaluation)
        ]
        return tuple({evaluation.name: evaluation for evaluation in asked}.values())


@dataclass(frozen=True)
class Shown:
    """Content of a study's summary and folder beside claims and exhibits.

    Attributes:
        judges: with their known error.
        notes: claims -> what a reader has to know.
        write: writes the tables beside the summary into the results folder.
        sections: sections of the page beside claims, exhibits and methods.
        seeds: of training runs.
        arms: the trained arms.
        rates: of the arms.
        methods: how to read the page, where it differs from studies that train.
        failed: how many verdicts failed, by cause.
    """

    judges: tuple[JudgeRow, ...]
    notes: Callable[[Sequence[ClaimRow]], Iterable[str]]
    write: Callable[[Path], None]
    sections: tuple[Section, ...]
    seeds: tuple[int, ...] = ()
    arms: tuple[ArmRow, ...] = ()
    rates: tuple[RateRow, ...] = ()
    methods: tuple[MethodNote, ...] = ()
    failed: Mapping[str, int] = field(default_factory=dict)


S = TypeVar("S", bound=World, default=Setting)
"""Setting of a study."""
F = TypeVar("F", default=Findings)
"""Findings that decide its claims."""


def _none(*_: object) -> tuple[()]:
    return ()


def _anywhere() -> None:
    """Pass always: the default readiness check."""


def _as_it_is(setting: S) -> S:
    return setting


def more_training(options: TrainedOptions, summary: Summary) -> Iterator[NextStep]:
    """Yield proposals of what to run after a study that trained."""
    chosen = options.model_dump(exclude_defaults=True)
    seeds = len(summary.seeds)
    # Claims whose unit is the training run; further seeds give the untrained base no further answers.
    over_runs = [claim for claim in summary.claims if claim.n <= seeds]
    if chosen.pop("quick", False):
        yield NextStep("All seeds and all answers", {name: value for name, value in chosen.items() if name != "seeds"})
    elif summary.looks:
        yield from _more_looks(options, summary, chosen)
    else:
        if options.arms and any(claim.status is ClaimStatus.NOT_RUN for claim in summary.claims):
            every = {name: value for name, value in chosen.items() if name != "arms"}
            yield NextStep("The arms that were left out; those that are done are kept", every)
        more, beyond = further_units(over_runs, seeds, MOST_SEEDS)
        yield NextStep(f"More training runs; those that are done are kept{beyond}", chosen | {"seeds": more})
    if summary.subject.is_organism:
        yield NextStep("The same on a model of your own", {"subject": "FOLDER", "grader": "MODEL"})
    elif options.grader is None:
        # Judged studies have other data and sizes where none are named, and so other arms.
        rest = {name: value for name, value in chosen.items() if name != "arms"}
        title = "Answers that a model judges, after training of their own: other data where none are named"
        yield NextStep(title, rest | {"grader": "MODEL"})
    elif options.labels is None:
        yield NextStep("The judge's error, from answers that you labelled", chosen | {"labels": "FILE"})


def _more_looks(options: TrainedOptions, summary: Summary, chosen: dict[str, Any]) -> Iterator[NextStep]:
    """Yield the looks that a budget left, or other runs: further looks at these would not hold the error."""
    assert summary.looks is not None
    if not any(claim.status is ClaimStatus.UNDECIDED for claim in summary.claims):
        return
    if summary.looks.done < len(summary.looks.units):
        limits = ("max_price", "max_hours", "budget")
        yield NextStep("The looks that are left", {name: value for name, value in chosen.items() if name not in limits})
    else:
        fresh = options.first_seed + summary.looks.units[-1]
        yield NextStep("What is undecided, on runs that nobody has seen", chosen | {"first_seed": fresh})


@dataclass(frozen=True)
class Study(Generic[S, F]):
    """A registered study.

    Attributes:
        name: its name for `astray run`.
        title: heading of its report.
        question: its question, one sentence.
        claims: findings, setting -> the decided claims.
        arms: setting -> the arms to train.
        always: arms that are run even if others were named: nearly every claim is compared with them.
        analyses: setting, runs -> steps made from the runs, for studies that explain or mitigate; all steps where
            nothing is trained.
        exhibits: findings, setting -> its own figures and tables for the report.
        fitted: the subject's setting -> the study's own, for studies that ask other questions or tell a reader more.
        settled: options -> setting, for studies that train nothing and need another setting than `settings` gives.
        read: plan, artifacts by key, setting -> findings and what is shown beside the claims, where the table is not of
            answers.
        ready: raises if the study cannot run on this machine; called before the first step.
        options: the options that a user may choose.
        next_steps: options, summary -> proposals of what to run next.
        announced: whether the user sees the forecast before it runs, since every sample may cost money.
        judge_free: whether it can be decided without a judge, so that a real model needs no grader.
        file: the study file that it was read from.
    """

    name: str
    title: str
    question: str
    claims: Callable[[F, S], Iterable[ClaimRow]]
    arms: Callable[[S], Iterable[Arm]] = _none
    always: tuple[str, ...] = ()
    analyses: Callable[[S, Sequence[Run]], Iterable[Analysis]] = _none
    exhibits: Callable[[F, S], Iterable[Exhibit]] = _none
    fitted: Callable[[S], S] = _as_it_is
    settled: Callable[[Any], S] | None = None
    read: Callable[[StudyPlan, Mapping[str, Artifact], S], tuple[F, Shown]] | None = None
    ready: Callable[[], None] = _anywhere
    options: type[BaseOptions] = StudyOptions
    next_steps: Callable[[Any, Summary], Iterable[NextStep]] = more_training
    announced: bool = False
    judge_free: bool = False
    file: Path | None = None

    def check(self, setting: S, folders: Sequence[Path]) -> None:
        """Refuse, before a run and before a plan, what could not be run to its end, keys included; nothing is asked.

        Raises:
            ConfigurationError, SubjectNotFoundError, JudgeError: the subject or the grader cannot be used.
            SandboxError: the study runs untrusted code, and this machine cannot.
        """
        setting.check(folders)
        self.ready()
