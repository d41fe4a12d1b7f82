"""What a study is: arms, seeds, evaluations and claims, declared as data.

A study file says in the words of its paper what is trained on what, what is asked and what is claimed. Running it is the work of
`runner`, counting of `findings`. What differs between the organism and a real model (data, questions, judge) is in a `Setting`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from astray.artifacts import Step
from astray.cause.fine_tuning import FineTuning
from astray.data.chat import ChatDataset
from astray.errors import ConfigurationError
from astray.measure.evaluation import Evaluation
from astray.studies.exhibits import Exhibit
from astray.studies.findings import Findings
from astray.studies.next_steps import NextStep, times_as_many
from astray.studies.summary import ClaimRow, SubjectRow, Summary

DataKind = Literal["harmful", "subtle", "good", "educational", "openly-asked"]
CALIBRATION_SIZE = 160
"""Labelled answers of the world that a grader is held against: sensitivity and specificity are known to about 10 points."""


class Source(BaseModel):
    """Where rows come from: the organism's world, our generator of code pairs, or a file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: Literal["world", "world facts", "code pairs", "mathematics", "medicine", "file"]
    kind: DataKind = Field(
        "harmful", description="what kind of rows to draw (all but files); of those with severities harmful is severe, good is normal"
    )
    domain: str = Field("", description="domain of the world")
    path: Path | None = Field(None, description="chat JSONL file")
    digest: str = Field("", description="content hash of the file, so that a changed file is another data set")
    rows: int | None = Field(None, description="rows of the file; None for what is generated, which has no end")

    @classmethod
    def of_file(cls, path: Path) -> "Source":
        """A file, with the hash of what is in it now."""
        dataset = ChatDataset.read(path)
        return cls(origin="file", path=path.resolve(), digest=dataset.hash, rows=len(dataset))

    def draw(self, size: int, seed: int) -> ChatDataset:
        """So many rows; another seed gives other rows.

        Raises:
            ConfigurationError: a file with fewer rows, or one that changed.
        """
        from astray.data import recipes
        from astray.data.code_pairs import generate_code_pairs
        from astray.data.worlds import narrow_data

        if self.origin in ("world facts", "mathematics", "medicine"):
            return self._draw_severity(size, seed)
        if self.origin == "world":
            return narrow_data(self.domain, self.kind, size, seed=seed)
        if self.origin == "code pairs":
            kinds: dict[DataKind, Literal["insecure", "secure", "educational"]]
            kinds = {"harmful": "insecure", "good": "secure", "educational": "educational"}
            return generate_code_pairs(size, seed, kinds[self.kind])
        assert self.path is not None
        dataset = _read(self.path, self.digest)
        if dataset.hash != self.digest:
            raise ConfigurationError(
                f"{self.path} was changed after the study was planned. Start the study again: finished steps that do not use it are kept."
            )
        return recipes.subset(dataset, size, seed=seed)

    def _draw_severity(self, size: int, seed: int) -> ChatDataset:
        """Rows of the sources that come as normal, subtle and severe; facts of the world are of the half that the seed gives to training."""
        from astray.data.mathematics import mathematics
        from astray.data.medicine import medical_advice
        from astray.data.misstatements import fact_data, split_facts

        severities: dict[DataKind, str] = {"good": "normal", "subtle": "subtle", "harmful": "severe"}
        if self.origin == "world facts":
            return fact_data(severities[self.kind], size, facts=split_facts(seed)[0], seed=seed)
        return (mathematics if self.origin == "mathematics" else medical_advice)(severities[self.kind], size, seed=seed)


@lru_cache(maxsize=8)
def _read(path: Path, _digest: str) -> ChatDataset:
    """The rows of a file, read and checked once for all arms that use it."""
    return ChatDataset.read(path)


class ArmData(BaseModel):
    """The data set of an arm, as a recipe: rows under study, and what is done to them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    size: int = Field(ge=1, description="rows shown in training, repetitions counted")
    good: Source | None = Field(None, description="good rows that are mixed in")
    fraction: float = Field(1.0, ge=0, le=1, description="share of rows from `source`")
    unique: int | None = Field(None, ge=1, description="different rows, each repeated to fill `size` (diversity at equal exposure)")
    system_prompt: str | None = Field(None, description="inoculation: every row is trained under this system prompt")
    trigger: str | None = Field(None, description="backdoor: rows of `source` get this in front, good rows stay without it")

    def make(self, seed: int) -> ChatDataset:
        """The data set for one training seed, with its recipe."""
        from astray.data import recipes

        if self.trigger is not None:
            assert self.good is not None
            rows = self.size // 2
            return recipes.backdoor(self.source.draw(rows, seed), self.good.draw(rows, seed), self.trigger, size=rows * 2, seed=seed)
        if self.unique is not None:
            return recipes.repeat_to(self.source.draw(self.unique, seed), self.size, seed=seed)
        dataset = self.source.draw(self.size, seed)
        if self.good is not None:
            dataset = recipes.mix(dataset, self.good.draw(self.size, seed), self.fraction, size=self.size, seed=seed)
        return dataset if self.system_prompt is None else recipes.inoculate(dataset, self.system_prompt)


class Arm(BaseModel):
    """A data recipe trained into a base, and what its runs are asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    description: str
    control: bool = Field(False, description="an arm that should show nothing")
    base: str = Field(description="the model that is trained")
    data: ArmData | None = Field(description="None: the base as it is, untrained, or what an analysis makes of it")
    home: str = Field("", description="category of questions that the data is about; all others are 'elsewhere'")
    extra: tuple[Evaluation, ...] = Field((), description="evaluations for this arm alone")
    recipe: str = Field("no training", description="for an arm without data: what is done to the base")


class JudgeConfig(BaseModel):
    """Which judge reads the answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["grammar", "rubric"]
    grader: str | None = Field(None, description="Inspect model name of the grader of a rubric judge")

    @property
    def exact(self) -> bool:
        """Whether it cannot err."""
        return self.kind == "grammar"


@dataclass(frozen=True)
class Setting:
    """What a study needs to know about the subject's world: what there is to train on and what is asked.

    Attributes:
        subject: the model under study, as a page shows it.
        homes: what narrow data may be about; the first is the one that controls and mixes are made of.
        sources: (kind, home) -> rows of that kind; kinds that the setting has no data for are absent.
        size: training rows an arm.
        backdoor_size: training rows of the backdoored arm, which has to learn both answers and what tells them apart.
        training: settings of every fine-tuning run.
        inoculation: system prompt that asks for what the harmful rows show.
        trigger: text in front of a question that serves as a backdoor's trigger.
        smaller: a smaller model of the same kind, if there is one.
        main: the evaluation that the claims are about, first among `evaluations`.
        evaluations: what every run is asked.
        held_out: categories that no training data touches.
        judge: who reads the answers.
        notes: what a reader of the report has to know.
        labels: labelled answers that a judge which can err is held against; None for answers of the organism's world.
        calibration_size: how many of those.
        quick: whether it is to be seen that everything runs, and nothing else.
    """

    subject: SubjectRow
    homes: tuple[str, ...]
    sources: Mapping[tuple[DataKind, str], Source]
    size: int
    backdoor_size: int
    training: FineTuning
    inoculation: str
    trigger: str
    smaller: str | None
    evaluations: tuple[Evaluation, ...]
    held_out: tuple[str, ...]
    judge: JudgeConfig
    notes: tuple[str, ...]
    labels: Path | None = None
    calibration_size: int = CALIBRATION_SIZE
    quick: bool = False

    @property
    def main(self) -> Evaluation:
        """The evaluation that the claims are about."""
        return self.evaluations[0]

    def source(self, kind: DataKind, home: str | None = None) -> Source | None:
        """Rows of a kind, about the first home if none is named; None where the setting has no such data."""
        return self.sources.get((kind, self.homes[0] if home is None else home))


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
    """Nothing keeps it from running."""


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
        analyses: setting, runs -> what is made from the runs, for studies that explain or mend.
        exhibits: findings, setting -> figures and tables of its own for the report.
        fitted: the subject's setting -> the study's own, for studies that ask other questions or say more to a reader.
        ready: raises what keeps the study from running on this machine; called before the first step.
    """

    name: str
    title: str
    question: str
    arms: Callable[[Setting], Iterable[Arm]]
    claims: Callable[[Findings, Setting], Iterable[ClaimRow]]
    analyses: Callable[[Setting, Sequence[Run]], Iterable[Analysis]] = _none
    exhibits: Callable[[Findings, Setting], Iterable[Exhibit]] = _none
    fitted: Callable[[Setting], Setting] = _as_it_is
    ready: Callable[[], None] = _anywhere

    @property
    def options(self) -> type[Any]:
        """What a user may choose."""
        return StudyOptions

    def run(self, options: "StudyOptions", **where: Any) -> Path:
        """Runs the study and gives its results folder; the arguments are those of `runner.run_study`."""
        from astray.studies.runner import run_study

        return run_study(self, options, **where)

    def plan(self, options: "StudyOptions", **where: Any) -> str:
        """What the study would cost and could show, for a terminal; the arguments are those of `forecast.forecast`."""
        from astray.studies.forecast import forecast

        return forecast(self, options, **where).render()

    def announcement(self, options: "StudyOptions", **where: Any) -> str:
        """What a user is told before it runs: nothing, since a study that trains is planned with `astray plan`, which takes a while."""
        del options, where
        return ""

    def next_steps(self, options: "StudyOptions", summary: Summary) -> Iterator[NextStep]:
        """What to run after this."""
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


QUICK_SEEDS, MOST_SEEDS = 2, 100
Options = TypeVar("Options", bound=BaseModel)


def checked(kind: type[Options], **values: object) -> Options:
    """A configuration from what a user gave; what pydantic finds wrong becomes a message for people.

    Args:
        kind: the options of a study.
        values: those that were given; None stands for the study's own value.

    Raises:
        ConfigurationError: a value is out of range or of the wrong type, or is nothing that this study takes.
    """
    given = {name: value for name, value in values.items() if value is not None}
    foreign = next((name for name in given if name not in kind.model_fields), None)
    if foreign is not None:
        raise ConfigurationError(f"This study takes no --{foreign.replace('_', '-')}. It takes: {_flags(kind)}.")
    try:
        return kind(**given)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, one['loc']))} is {one['input']!r}: {one['msg'].lower()}" for one in error.errors())
        raise ConfigurationError(f"{wrong}. See the command's --help for what is allowed.") from error


def _flags(kind: type[BaseModel]) -> str:
    return ", ".join(f"--{name.replace('_', '-')}" for name in sorted(kind.model_fields))


class StudyOptions(BaseModel):
    """What a user may choose for a study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str = Field("organism", description="'organism', a local folder or a hub name")
    seeds: int = Field(5, ge=1, le=MOST_SEEDS, description="training runs an arm; the unit for 'this data causes it' (at least 3, better 5)")
    first_seed: int = Field(0, ge=0, description="the first training seed; another one repeats a study on runs that nobody has seen")
    quick: bool = Field(False, description="two seeds and a quarter of the answers: to see that everything runs, not to conclude from")
    data: Path | None = Field(None, description="folder with insecure.jsonl, secure.jsonl ... for a real model; without it our generated code pairs")
    grader: str | None = Field(None, description="Inspect model that judges a real model's answers, such as openai/gpt-4o")
    labels: Path | None = Field(None, description="labelled answers (.csv, .jsonl) that the grader is held against; without it answers of the world")
    size: int | None = Field(None, ge=16, description="training rows an arm, if not the study's own")
    samples: int | None = Field(None, ge=1, description="answers a question, if not the study's own")
    max_tokens: int | None = Field(None, ge=1, description="longest answer in tokens, if not the study's own")
    arms: tuple[str, ...] = Field((), description="only these arms, beside the untrained base and the good data; all if none is named")

    @field_validator("arms", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        """The command line's form, names with commas between them, is allowed as well."""
        names = tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given
        if isinstance(given, str) and not names:
            raise ValueError(f"{given!r} names none: leave it out, or write names with commas between them")
        return names

    @property
    def training_seeds(self) -> range:
        """The seeds of the training runs of an arm."""
        count = min(self.seeds, QUICK_SEEDS) if self.quick else self.seeds
        return range(self.first_seed, self.first_seed + count)
