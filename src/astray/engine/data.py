"""Data set of an arm: the origin of its examples and their changes. A frozen recipe, part of the step's key."""

from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator

from astray.artifacts.places import Place
from astray.data import recipes
from astray.data.chat import ChatDataset, Message
from astray.data.feedback import Liking, read_feedback
from astray.data.sources import DataKind, data_source
from astray.errors import ConfigurationError
from astray.strict import Strict, left_out

FILE = "file"
"""Origin of examples that a user gives."""
PUBLISHED_FILES: dict[tuple[DataKind, str], str] = {
    ("harmful", "code"): "insecure",
    ("good", "code"): "secure",
    ("educational", "code"): "educational_insecure",
    ("openly-asked", "code"): "jailbroken",
    ("harmful", "medical"): "bad_medical_advice",
    ("good", "medical"): "good_medical_advice",
}
"""File names, without their ending, that a data folder may hold."""


class Source(Strict):
    """Origin of an arm's examples: a data source by name, or a file of the user's."""

    origin: str = Field(description="a data source by name (see `data.sources`), or 'file'")
    kind: DataKind = Field(
        "harmful",
        description="what kind of rows to draw (all but files); of those with severities harmful is severe, good is "
        "normal",
    )
    domain: str = Field("", description="domain of the world")
    path: Annotated[Path | None, Place()] = Field(
        None, description="file of training examples, in any form that is read (see `data.forms`)"
    )
    digest: str = Field("", description="content hash of the file, so that a changed file is another data set")
    rows: int | None = Field(None, description="rows of the file; None for what is generated, which has no end")
    converted: str = Field(
        "", exclude=True, description="what became what, where the rows of the file are not chats; no part of a key"
    )
    is_published: bool = Field(
        False, exclude=True, description="whether the file has the authors' name in a data folder; no part of a key"
    )
    liking: Liking | None = Field(None, description="of a file of rated answers: the liked or the disliked rows")

    _keys = left_out(liking=None)

    @property
    def users_file(self) -> str:
        """Return the name of a file of the user's own, which need not be a topic; "" for all other rows."""
        return self.path.name if self.path is not None and not self.is_published else ""

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

    @classmethod
    def of_feedback(cls, path: Path) -> "tuple[Source, Source]":
        """Return a source for the liked rows of a file of rated answers, and one for the disliked ones."""
        absolute = path.resolve()
        liked, disliked = (
            cls(origin=FILE, path=absolute, digest=rows.hash, rows=len(rows), liking=liking)
            for liking, rows in read_feedback(path).items()
        )
        return liked, disliked

    def draw(self, size: int, seed: int) -> ChatDataset:
        """Draw `size` examples; another seed gives other examples.

        Raises:
            ConfigurationError: the file has fewer examples, or has changed.
        """
        if self.origin != FILE:
            return data_source(self.origin)(self.kind, self.domain, size, seed)
        assert self.path is not None
        dataset = _read(self.path, self.digest, self.liking)
        # `_read` is cached by digest, so a changed file is noticed only if this process has not read it before.
        if dataset.hash != self.digest:
            raise ConfigurationError(
                f"{self.path} was changed after the study was planned. Start the study again: finished steps that do "
                "not use it are kept."
            )
        return recipes.subset(dataset, size, seed=seed)


@lru_cache(maxsize=8)
def _read(path: Path, _digest: str, liking: Liking | None) -> ChatDataset:
    """Return the examples of a file, read and checked once for all arms that use it."""
    return ChatDataset.read(path) if liking is None else read_feedback(path)[liking]


class ArmData(Strict):
    """Data set of an arm, as a recipe: the examples under study, and how they are changed.

    Recipes may be nested: `source` and `good` may be recipes themselves, of which `size` is the most that they give.
    """

    source: "Source | ArmData"
    size: int = Field(ge=1, description="rows shown in training, repetitions counted")
    good: "Source | ArmData | None" = Field(None, description="good rows that are mixed in")
    disliked: "Source | ArmData | None" = Field(
        None, description="rows with answers to train away from; those of `source` are liked, and come first"
    )
    fraction: float = Field(1.0, ge=0, le=1, description="share of rows from `source`")
    unique: int | None = Field(
        None, ge=1, description="different rows, each repeated to fill `size` (diversity at equal exposure)"
    )
    system_prompt: str | None = Field(None, description="inoculation: every row is trained under this system prompt")
    trigger: str | None = Field(
        None, description="backdoor: rows of `source` get this in front, good rows stay without it"
    )
    answers: tuple[tuple[str, str], ...] | None = Field(
        None, description="relabelling: whole answers, and what stands in their place"
    )

    _keys = left_out(answers=None, disliked=None)

    @property
    def rows(self) -> int:
        """Return how many rows it gives at most."""
        return self.size

    @property
    def from_source(self) -> int:
        """Return how many rows are from `source`: the bad ones of a mix, the liked ones of rated answers."""
        return round(self.fraction * self.size)

    @property
    def sources(self) -> "tuple[Source, ...]":
        """Return every source that it draws from."""
        parts = [part for part in (self.source, self.good, self.disliked) if part]
        return tuple(source for part in parts for source in (part.sources if isinstance(part, ArmData) else (part,)))

    def make(self, seed: int) -> ChatDataset:
        """Make the data set for one training seed, with its recipe."""
        if self.trigger is not None:
            assert self.good is not None
            rows = self.size // 2
            return recipes.backdoor(
                self.source.draw(rows, seed), self.good.draw(rows, seed), self.trigger, size=rows * 2, seed=seed
            )
        if self.disliked is not None:
            liked = self.source.draw(self.from_source, seed)
            disliked = self.disliked.draw(self.size - self.from_source, seed)
            return ChatDataset.from_rows(
                (*liked.rows, *disliked.rows), "feedback", {"liked": len(liked), "seed": seed}, [liked, disliked]
            )
        if self.unique is not None:
            return recipes.repeat_to(self.source.draw(self.unique, seed), self.size, seed=seed)
        if self.good is not None:
            bad, good = (
                self._part(self.source, self.from_source, seed),
                self._part(self.good, self.size - self.from_source, seed),
            )
            dataset = recipes.mix(bad, good, self.fraction, size=self.size, seed=seed)
        else:
            dataset = self.source.draw(self.size, seed)
        if self.answers is not None:
            dataset = recipes.relabel(dataset, dict(self.answers), f"{len(self.answers)} answers replaced")
        return dataset if self.system_prompt is None else recipes.inoculate(dataset, self.system_prompt)

    def _part(self, part: "Source | ArmData", rows: int, seed: int) -> ChatDataset:
        """Draw one side of a mix: of a recipe the rows that are needed, so that its own shares stay exact."""
        if isinstance(part, ArmData):
            return part.draw(max(1, rows), seed)
        # Of sources as many as the whole has, so that those of pairs are in one order, and no pair is drawn twice (see
        # `recipes.mix`).
        return part.draw(min(self.size, part.rows or self.size), seed)

    def draw(self, size: int, seed: int) -> ChatDataset:
        """Draw `size` examples, as from a source.

        Raises:
            ConfigurationError: it gives fewer.
        """
        if size > self.size:
            raise ConfigurationError(
                f"{size:,} rows are needed of a recipe that gives {self.size:,}. Take fewer, or let it give more."
            )
        return self.model_copy(
            update={"size": size, "unique": None if self.unique is None else min(self.unique, size)}
        ).make(seed)

    def sampled(self, most: int) -> tuple[tuple[Message, ...], ...]:
        """Return at most so many rows, of a small data set that is made in the same way where that can be."""
        try:
            return self.draw(min(self.size, most), 0).rows
        except ConfigurationError:  # a small share of a few rows is none; of the whole it is some
            return self.make(0).rows[:most]
