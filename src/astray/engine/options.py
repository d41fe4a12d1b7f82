"""Options that a user may choose for a study, each declared once: the command line and Python read them here."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from typing_extensions import override

from astray.errors import ConfigurationError

QUICK_SEEDS, MOST_SEEDS = 2, 100
Options = TypeVar("Options", bound=BaseModel)


def checked(kind: type[Options], **values: object) -> Options:
    """Return the options that a user gave; pydantic's errors become messages for people.

    Args:
        kind: the options of a study.
        values: the given values; None stands for the study's own value.

    Raises:
        ConfigurationError: a value is out of range or of the wrong type, or the study has no such option.
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


class BaseOptions(BaseModel):
    """Options of any study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    quick: bool = Field(False, description="fewer of everything: to see that it runs, not to conclude from")
    samples: int | None = Field(None, ge=1, description="answers a question, or samples a cell, if not the study's own")
    labels: Path | None = Field(None, description="labelled answers that graders are held against")

    @property
    def runs(self) -> tuple[range, tuple[str, ...]]:
        """Seeds of the training runs of an arm, and the arms to run; no seeds and all arms where nothing is trained."""
        return range(0), ()


class StudyOptions(BaseOptions):
    """Options of a study that trains."""

    subject: str = Field("organism", description="'organism', a local folder or a hub name")
    seeds: int = Field(5, ge=1, le=MOST_SEEDS, description="training runs an arm; the unit for 'this data causes it' (at least 3, better 5)")
    first_seed: int = Field(0, ge=0, description="the first training seed; another one repeats a study on runs that nobody has seen")
    quick: bool = Field(False, description="two seeds and a quarter of the answers: to see that everything runs, not to conclude from")
    data: Path | None = Field(None, description="folder with insecure.jsonl, secure.jsonl ... for a real model; without it our generated code pairs")
    grader: str | None = Field(None, description="Inspect model that judges a real model's answers, such as openai/gpt-4o")
    labels: Path | None = Field(None, description="labelled answers (.csv, .jsonl) that the grader is held against; without it answers of the world")
    size: int | None = Field(None, ge=16, description="training rows an arm, if not the study's own")
    max_tokens: int | None = Field(None, ge=1, description="longest answer in tokens, if not the study's own")
    arms: tuple[str, ...] = Field((), description="only these arms, beside the untrained base and the good data; all if none is named")

    @field_validator("arms", mode="before")
    @classmethod
    def _split(cls, given: object) -> object:
        """Accept the command line's form as well: names with commas between them."""
        names = tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given
        if isinstance(given, str) and not names:
            raise ValueError(f"{given!r} names none: leave it out, or write names with commas between them")
        return names

    @property
    @override
    def runs(self) -> tuple[range, tuple[str, ...]]:
        """Seeds of the training runs of an arm, and the arms to run; all if none is named."""
        return self.training_seeds, self.arms

    @property
    def training_seeds(self) -> range:
        """Seeds of the training runs of an arm."""
        count = min(self.seeds, QUICK_SEEDS) if self.quick else self.seeds
        return range(self.first_seed, self.first_seed + count)
