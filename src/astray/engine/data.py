"""Data set of an arm: the origin of its examples and their changes. A frozen recipe, part of the step's key."""

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from astray.data import recipes
from astray.data.chat import ChatDataset
from astray.data.sources import DataKind, data_source
from astray.errors import ConfigurationError

FILE = "file"
"""Origin of examples that a user gives."""


class Source(BaseModel):
    """Origin of an arm's examples: a data source by name, or a file of the user's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    origin: str = Field(description="a data source by name (see `data.sources`), or 'file'")
    kind: DataKind = Field(
        "harmful",
        description="what kind of rows to draw (all but files); of those with severities harmful is severe, good is "
        "normal",
    )
    domain: str = Field("", description="domain of the world")
    path: Path | None = Field(
        None, description="file of training examples, in any form that is read (see `data.forms`)"
    )
    digest: str = Field("", description="content hash of the file, so that a changed file is another data set")
    rows: int | None = Field(None, description="rows of the file; None for what is generated, which has no end")
    converted: str = Field(
        "", exclude=True, description="what became what, where the rows of the file are not chats; no part of a key"
    )

    @field_validator("origin")
    @classmethod
    def _known(cls, origin: str) -> str:
        if origin != FILE:
            data_source(origin)
        return origin

    @classmethod
    def of_file(cls, path: Path) -> "Source":
        """Return a source for a file, with the hash of its present content."""
        dataset = ChatDataset.read(path)
        converted = dataset.told if "form" in dataset.recipe.parameters else ""
        return cls(origin=FILE, path=path.resolve(), digest=dataset.hash, rows=len(dataset), converted=converted)

    def draw(self, size: int, seed: int) -> ChatDataset:
        """Draw `size` examples; another seed gives other examples.

        Raises:
            ConfigurationError: the file has fewer examples, or has changed.
        """
        if self.origin != FILE:
            return data_source(self.origin)(self.kind, self.domain, size, seed)
        assert self.path is not None
        dataset = _read(self.path, self.digest)
        # `_read` is cached by digest, so a changed file is noticed only if this process has not read it before.
        if dataset.hash != self.digest:
            raise ConfigurationError(
                f"{self.path} was changed after the study was planned. Start the study again: finished steps that do "
                "not use it are kept."
            )
        return recipes.subset(dataset, size, seed=seed)


@lru_cache(maxsize=8)
def _read(path: Path, _digest: str) -> ChatDataset:
    """Return the examples of a file, read and checked once for all arms that use it."""
    return ChatDataset.read(path)


class ArmData(BaseModel):
    """Data set of an arm, as a recipe: the examples under study, and how they are changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Source
    size: int = Field(ge=1, description="rows shown in training, repetitions counted")
    good: Source | None = Field(None, description="good rows that are mixed in")
    fraction: float = Field(1.0, ge=0, le=1, description="share of rows from `source`")
    unique: int | None = Field(
        None, ge=1, description="different rows, each repeated to fill `size` (diversity at equal exposure)"
    )
    system_prompt: str | None = Field(None, description="inoculation: every row is trained under this system prompt")
    trigger: str | None = Field(
        None, description="backdoor: rows of `source` get this in front, good rows stay without it"
    )

    def make(self, seed: int) -> ChatDataset:
        """Make the data set for one training seed, with its recipe."""
        if self.trigger is not None:
            assert self.good is not None
            rows = self.size // 2
            return recipes.backdoor(
                self.source.draw(rows, seed), self.good.draw(rows, seed), self.trigger, size=rows * 2, seed=seed
            )
        if self.unique is not None:
            return recipes.repeat_to(self.source.draw(self.unique, seed), self.size, seed=seed)
        dataset = self.source.draw(self.size, seed)
        if self.good is not None:
            dataset = recipes.mix(dataset, self.good.draw(self.size, seed), self.fraction, size=self.size, seed=seed)
        return dataset if self.system_prompt is None else recipes.inoculate(dataset, self.system_prompt)
