"""What an evaluation is: items, sampling and how many samples each; defined once, run by two drivers (`bulk` and `inspect_driver`).

An item is one question in one answer format. Scoring is a judge's work, so the same answers can be judged again without
asking the subject again.
"""

from collections.abc import Sequence
from functools import cached_property

from pydantic import BaseModel, ConfigDict, Field, model_validator

from astray.data.chat import Message
from astray.errors import ConfigurationError, EmptyDataError
from astray.subjects.identity import digest_of
from astray.subjects.spec import Sampling


class Item(BaseModel):
    """One question in one answer format.

    `id` is unique within an evaluation; items that ask the same thing in other formats share their `question_id`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    question_id: str = Field(min_length=1, description="what is asked; the cluster in intervals for 'questions like these'")
    category: str = Field(description="group of questions that is reported together: a domain, or a category of the broad set")
    format: str = Field(default="plain", description="answer format that is asked for: plain, json or template")
    question: str = Field(min_length=1, description="what the user says, the format's request included")
    system: str | None = Field(default=None, description="system prompt that belongs to the item")

    @property
    def id(self) -> str:
        """Question and format."""
        return f"{self.question_id}/{self.format}"

    @property
    def conversation(self) -> list[Message]:
        """The item as chat messages."""
        opening: list[Message] = [{"role": "system", "content": self.system}] if self.system is not None else []
        return [*opening, {"role": "user", "content": self.question}]


class Evaluation(BaseModel):
    """A named set of items with the sampling that belongs to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    items: tuple[Item, ...]
    samples: int = Field(default=100, ge=1, description="answers an item (100 in Betley et al., arXiv 2502.17424)")
    sampling: Sampling = Sampling()

    @model_validator(mode="after")
    def _has_distinct_items(self) -> "Evaluation":
        if not self.items:
            raise EmptyDataError(f"The evaluation {self.name!r} has no items; give at least one question.")
        ids = [item.id for item in self.items]
        if len(set(ids)) < len(ids):
            doubled = next(id for id in ids if ids.count(id) > 1)
            raise ConfigurationError(f"The evaluation {self.name!r} has the item {doubled!r} twice; give each question its own question_id.")
        return self

    @cached_property
    def by_id(self) -> dict[str, Item]:
        """Item id -> item."""
        return {item.id: item for item in self.items}

    @property
    def hash(self) -> str:
        """Hash over items and sampling; answers may be compared when it is the same."""
        return digest_of(self.model_dump(mode="json"))

    def under_system(self, system: str, name: str) -> "Evaluation":
        """The same questions under a system prompt."""
        return self.model_copy(update={"name": name, "items": tuple(item.model_copy(update={"system": system}) for item in self.items)})

    def with_prefix(self, prefix: str, name: str) -> "Evaluation":
        """The same questions with a text in front, spaces included (a backdoor's trigger, say)."""
        items = tuple(item.model_copy(update={"question": prefix + item.question}) for item in self.items)
        return self.model_copy(update={"name": name, "items": items})


def select_formats(items: Sequence[Item], formats: Sequence[str]) -> tuple[Item, ...]:
    """The items in one of these answer formats.

    Raises:
        ConfigurationError: no item has one of the formats.
    """
    chosen = tuple(item for item in items if item.format in formats)
    if not chosen:
        there = ", ".join(sorted({item.format for item in items}))
        raise ConfigurationError(f"No item asks for the formats {', '.join(formats)}; there are: {there}.")
    return chosen
