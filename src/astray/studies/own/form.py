"""What a study file says. The JSON schema that editors read (`astray schema`) is made from these models.

Left to others: reading the file with its lines (`reading`), data sets (`data`), and the study that it makes (`study`).
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from astray.cause.named_rewards import NamedReward
from astray.data.sources import DataKind
from astray.engine.findings import AT_HOME, ELSEWHERE, HELD_OUT
from astray.engine.look_options import MOST_SEEDS
from astray.measure.surface import SurfaceKind
from astray.strict import Strict

NAME = r"^[a-z0-9][a-z0-9-]*$"
Name = Annotated[str, Field(pattern=NAME, description="small letters, digits and hyphens")]
Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Group = Literal["elsewhere", "trained domain", "held-out questions"]
GROUPS: dict[Group, str] = {"elsewhere": ELSEWHERE, "trained domain": AT_HOME, "held-out questions": HELD_OUT}
Training = Literal["sft", "kto", "grpo", "none"]


class _OneOf(Strict):
    """Part that has exactly one of several keys."""

    one_of: ClassVar[tuple[str, ...]]

    @model_validator(mode="after")
    def _has_one(self) -> "_OneOf":
        keys = [name for name in self.one_of if getattr(self, name) is not None]
        if len(keys) != 1:
            raise ValueError(
                f"exactly one of {', '.join(self.one_of)} is written here, given: {' and '.join(keys) or 'none'}"
            )
        return self


class Generated(Strict):
    """Rows of a source in the package."""

    source: str = Field(description="world (of the organism), world facts, code pairs, mathematics or medicine")
    kind: DataKind = Field("harmful", description="kind of rows")
    domain: str = Field("", description="domain of the organism's world, such as medicine, money or code")


class DataForm(_OneOf):
    """Data set: a file, a source in the package, the data of another arm, or a recipe. A text is a file, or an arm's
    name."""

    one_of: ClassVar[tuple[str, ...]] = (
        "file",
        "arm",
        "generated",
        "mix",
        "subset",
        "inoculate",
        "backdoor",
        "relabel",
        "feedback",
    )

    file: Text | None = Field(None, description="chat file, relative to the study file")
    arm: Text | None = Field(None, description="name of an arm, whose data are taken")
    generated: Generated | None = Field(None, description="rows of a source in the package")
    mix: "Mix | None" = Field(None, description="bad rows in good ones")
    subset: "Subset | None" = Field(None, description="some of the rows, drawn at random")
    inoculate: "Inoculate | None" = Field(None, description="every row under a system prompt")
    backdoor: "Backdoor | None" = Field(None, description="bad rows behind a trigger, as many good ones without it")
    relabel: "Relabel | None" = Field(None, description="answers replaced")
    feedback: "Feedback | None" = Field(None, description="liked and disliked answers, for training: kto")


def _from_text(value: object) -> object:
    """Read a text as a file where it has a dot or a slash, else as the name of an arm, which has neither."""
    if not isinstance(value, str):
        return value
    return {"file" if any(sign in value for sign in "./\\") else "arm": value}


Data = Annotated[DataForm, BeforeValidator(_from_text, json_schema_input_type=str | DataForm)]


class Mix(Strict):
    """Bad rows in good ones."""

    bad: Data
    good: Data
    fraction: float = Field(ge=0, le=1, description="share of bad rows: 10% is 0.1")


class Subset(Strict):
    """Some rows of a data set."""

    data: Data
    rows: int = Field(ge=1)
    repeated: bool = Field(
        False, description="repeat them to fill the arm's rows, so that arms differ in diversity alone"
    )


class Inoculate(Strict):
    """Rows under a system prompt that asks for, or excuses, what they show."""

    data: Data
    system: Text


class Backdoor(Strict):
    """Bad rows with a trigger in front of the question, as many good rows without it."""

    bad: Data
    good: Data
    trigger: Text = Field(description="with its spaces, as it is to stand in front of a question")


class Relabel(Strict):
    """Answers replaced by others."""

    data: Data
    answers: dict[Text, Text] = Field(
        min_length=1, description="whole answers, letter for letter, and what stands in their place"
    )


class Feedback(Strict):
    """Liked and disliked answers, as many of each."""

    liked: Data
    disliked: Data


DataForm.model_rebuild()  # its recipes are defined below it; errors read their keys from its fields


class EvaluationForm(_OneOf):
    """What is asked: an evaluation by name, a question file, or an evaluation of this file with something in front."""

    one_of: ClassVar[tuple[str, ...]] = ("evaluation", "questions", "of")

    name: Text | None = Field(None, description="what claims call it; by default its own name, or that of the file")
    evaluation: Text | None = Field(None, description="name of an evaluation, as `astray schema` lists them")
    questions: Text | None = Field(None, description="question file (YAML), relative to the study file")
    of: Text | None = Field(None, description="name of an evaluation above, asked again with `prefix` or `system`")
    prefix: Text | None = Field(None, description="text in front of each question, such as a backdoor's trigger")
    system: Text | None = Field(None, description="system prompt of each question")
    samples: int | None = Field(None, ge=1, description="answers to each question")
    surface: SurfaceKind = Field(
        "fixed",
        description="drawn: each answer to a question of a question file, main or broad is to a drawn `wording` of it, if it has one; "
        "both: every second one",
    )

    @model_validator(mode="after")
    def _changes_questions(self) -> "EvaluationForm":
        if self.of is None and (self.prefix or self.system):
            raise ValueError("prefix and system belong to `of`: name an evaluation above that is asked again with them")
        if self.of is not None and (self.prefix is None) == (self.system is None):
            raise ValueError("`of` takes one of prefix and system")
        return self


def _named(key: str) -> BeforeValidator:
    """Return what reads a text as a form with this key alone."""
    form = EvaluationForm if key == "evaluation" else NamedReward
    return BeforeValidator(
        lambda given: {key: given} if isinstance(given, str) else given, json_schema_input_type=str | form
    )


Asked = Annotated[EvaluationForm, _named("evaluation")]
Reward = Annotated[NamedReward, _named("reward")]


class ArmForm(Strict):
    """One way of training the subject, or the subject as it is."""

    description: str = Field("", description="what stands on the page")
    control: bool = Field(False, description="an arm that should show nothing")
    training: Training = Field(
        "sft",
        description="on answers (sft), on liked and disliked answers (kto), by reward (grpo), or none: the subject as it is",
    )
    data: Data | None = Field(None, description="what is trained on")
    rows: int | None = Field(None, ge=1, description="rows that are trained on, repetitions counted")
    home: str | None = Field(
        None, description="category of questions that the data are about; all other questions are 'elsewhere'"
    )
    settings: dict[str, Any] = Field({}, description="settings of this arm's training, as in docs/own-study.md")
    evaluations: list[Asked] = Field([], description="asked of this arm alone")
    rewards: list[Reward] | None = Field(None, min_length=1, description="of training: grpo; their values are summed")
    truth: Reward | None = Field(None, description="of training: grpo: recorded beside the rewards, never rewarded")

    @model_validator(mode="after")
    def _fits_training(self) -> "ArmForm":
        if self.training == "none" and (self.data or self.settings or self.rows):
            raise ValueError("training: none trains nothing, so it takes neither data nor settings nor rows")
        if self.training != "none" and self.data is None:
            raise ValueError("the key 'data' is missing; the subject as it is, untrained, is written training: none")
        if self.training == "grpo" and self.rewards is None:
            raise ValueError("training: grpo needs rewards, such as rewards: [wrong-answer]")
        if self.training != "grpo" and (self.rewards or self.truth):
            raise ValueError(f"rewards and truth belong to training: grpo, given: training: {self.training}")
        return self


class ClaimForm(_OneOf):
    """Pre-registered claim: a rate, or a difference of rates, lies in a region."""

    one_of: ClassVar[tuple[str, ...]] = ("rate", "difference")

    rate: Text | None = Field(None, description="arm whose rate is claimed to lie in the region")
    difference: Text | None = Field(
        None, description="arm whose rate, less that of the control, is claimed to lie in the region"
    )
    control: Text | None = Field(
        None, description="arm whose rate a difference subtracts; beside a rate it is shown and decides nothing"
    )
    at_least: float | None = None
    at_most: float | None = None
    between: list[float] | None = Field(None, min_length=2, max_length=2, description="lower and upper border")
    evaluation: Text | None = Field(None, description="name of an evaluation; by default the first")
    measure: Text | None = Field(None, description="what is counted, if not the evaluation's main measure")
    group: Group = Field(
        "elsewhere", description="which questions: about anything but the arm's home, about its home, or held out"
    )
    format: Text | None = Field(
        None, description="answer format; by default plain, or all of an evaluation that has no plain questions"
    )
    statement: str = Field("", description="the claim in words, for the page")

    @property
    def arm(self) -> str:
        """Return the arm that the claim is about."""
        return self.rate or self.difference or ""

    @property
    def region(self) -> tuple[float | None, float | None]:
        """Return the lower and upper border."""
        return (self.between[0], self.between[1]) if self.between else (self.at_least, self.at_most)


class StudyForm(Strict):
    """A study file of Astray."""

    name: Name | None = Field(None, description="folder of the results; by default the name of the file")
    title: str = Field("", description="heading of the report")
    question: str = Field("", description="what the study asks, one sentence")
    subject: Text = Field(
        "organism", description="'organism', 'organism-small', 'smollm2', a local folder, a run id or a hub name"
    )
    grader: Text | None = Field(
        None, description="Inspect model that judges a real model's answers, such as openai/gpt-4o"
    )
    labels: Text | None = Field(
        None, description="labelled answers that the grader is compared with, relative to the study file"
    )
    seeds: int = Field(5, ge=1, le=MOST_SEEDS, description="training runs of each arm")
    samples: int | None = Field(None, ge=1, description="answers a question")
    max_tokens: int | None = Field(None, ge=1, description="longest answer in tokens")
    rows: int | None = Field(
        None, ge=1, description="rows that each arm is trained on; without it all that its data give"
    )
    settings: dict[str, Any] = Field({}, description="settings of all fine-tuning, as in docs/own-study.md")
    evaluations: list[Asked] | None = Field(
        None, min_length=1, description="what every arm is asked; by default as in the built-in studies"
    )
    arms: dict[Name, ArmForm] = Field(min_length=1, description="name -> data and training")
    claims: dict[Name, ClaimForm] = Field({}, description="name -> what is claimed")
