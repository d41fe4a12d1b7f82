"""Items, samples of them and the answers that came back, the same for every evaluation that asks in words.

Left to others: driving a subject through askings (`bulk`, `inspect_driver`), and what an answer is worth (each
evaluation).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

from pydantic import Field

from astray.data.chat import Message
from astray.errors import ConfigurationError, UnknownNameError
from astray.reasoning import split_reasoning
from astray.strict import Strict

if TYPE_CHECKING:
    from inspect_ai.model import ModelOutput


@runtime_checkable
class _Identified(Protocol):
    @property
    def id(self) -> str: ...


Named = TypeVar("Named", bound=_Identified)
JUDGES = ("panel", "none")
"""Kinds of judges that an Inspect task takes: the model roles `grader` and, if given, `grader_b`, or none."""


class Item(Strict):
    """One question in one answer format.

    `id` is unique within an evaluation; items that ask the same thing in other formats share their `question_id`.
    """

    question_id: str = Field(
        min_length=1, description="what is asked; the cluster in intervals for 'questions like these'"
    )
    category: str = Field(
        description="group of questions that is reported together: a domain, or a category of the broad set"
    )
    format: str = Field(default="plain", description="answer format that is asked for: plain, json or template")
    question: str = Field(min_length=1, description="what the user says, the format's request included")
    system: str | None = Field(default=None, description="system prompt that belongs to the item")

    @property
    def id(self) -> str:
        """Return question and format as one id."""
        return f"{self.question_id}/{self.format}"

    @property
    def conversation(self) -> list[Message]:
        """Return the item as chat messages."""
        opening: list[Message] = [{"role": "system", "content": self.system}] if self.system is not None else []
        return [*opening, {"role": "user", "content": self.question}]


@dataclass(frozen=True)
class Asking:
    """One sample: an item, asked once.

    Attributes:
        item: what a table says of it.
        sample: number of the sample.
        conversation: messages up to the answer.
        beside: conversations of their own whose answers belong to the asking (neutral questions, say).
        after: what the user says after the answer, in the same conversation; "" for nothing.
        numbered: draw with the random numbers of `sample`, whatever else is asked; else equal conversations are
            counted.
        material: what the evaluation's judge needs beside the item.
        target: the answer of an aligned model, where there is only one, for whoever reads a log.
    """

    item: Item
    sample: int
    conversation: Sequence[Message]
    beside: Sequence[Sequence[Message]] = ()
    after: str = ""
    numbered: bool = True
    material: object = None
    target: str = ""

    @property
    def id(self) -> str:
        """Return item and sample number as one id."""
        return f"{self.item.id}#{self.sample}"

    def columns(self) -> dict[str, object]:
        """Return the columns of an answer table that say what was asked."""
        return {
            "item": self.item.question_id,
            "category": self.item.category,
            "format": self.item.format,
            "sample": self.sample,
            "system": self.item.system,
            "question": self.item.question,
        }


@dataclass(frozen=True)
class Heard:
    """Answer to one sample, with what else came back.

    Attributes:
        asking: what was asked.
        answer: what the subject said to others.
        detail: what else was heard: "beside" (answers, None where one is missing), "reply" (to `after`), "reasoning"
            and the like.
    """

    asking: Asking
    answer: str
    detail: Mapping[str, object] = field(default_factory=dict)


OUT_OF_TOKENS = ("max_tokens", "model_length")
"""Reasons of a provider for which an answer ends before its end."""
CUT_OFF = "cut off"
"""Field of what was heard: the reasoning has no end, so that there is no answer."""


def marked_reasoning(output: "ModelOutput | None") -> str:
    """Return what a provider marked as reasoning in its output; empty for a local subject in bulk."""
    if output is None or not output.choices or isinstance(content := output.message.content, str):
        return ""
    # By its type's name: importing Inspect here would load it for local subjects too.
    parts = [
        str((part.summary if part.redacted else part.reasoning) or "") for part in content if part.type == "reasoning"
    ]
    return "\n\n".join(filter(None, map(str.strip, parts)))


def is_unfinished(output: "ModelOutput | None") -> bool:
    """Return whether the tokens ran out within reasoning that a provider keeps apart, or counts and does not show."""
    if output is None or output.stop_reason not in OUT_OF_TOKENS or output.completion.strip():
        return False
    return thinks_apart(output) or bool(output.usage and output.usage.reasoning_tokens)


def thinks_apart(output: "ModelOutput") -> bool:
    """Return whether a provider keeps reasoning apart from the answer, be it shown or redacted."""
    content = output.message.content if output.choices else ""
    return not isinstance(content, str) and any(part.type == "reasoning" for part in content)


def hear(text: str, output: "ModelOutput | None" = None, *, private: bool = False) -> tuple[str, dict[str, object]]:
    """Return what a text says to others, its reasoning where there is some, and whether that has no end.

    Args:
        text: the answer, with tags of reasoning or without.
        output: the same as a provider gave it; None from a local subject in bulk.
        private: take `<private>` tags as reasoning too.
    """
    spoken = split_reasoning(text, private=private)
    reasoning = "\n\n".join(filter(None, [marked_reasoning(output), spoken.reasoning]))
    is_cut = spoken.is_missing or is_unfinished(output)
    return spoken.answer, ({"reasoning": reasoning} if reasoning else {}) | ({CUT_OFF: True} if is_cut else {})


def select_formats(items: Sequence[Item], formats: Sequence[str]) -> tuple[Item, ...]:
    """Return the items in one of these answer formats.

    Raises:
        ConfigurationError: no item has one of the formats.
    """
    chosen = tuple(item for item in items if item.format in formats)
    if not chosen:
        there = ", ".join(sorted({item.format for item in items}))
        raise ConfigurationError(f"No item asks for the formats {', '.join(formats)}; there are: {there}.")
    return chosen


def distinct(kind: str, items: Sequence[Named]) -> tuple[Named, ...]:
    """Return records or scenarios, if there are some and each has its own id.

    Raises:
        ConfigurationError: there are none, or an id stands twice.
    """
    if not items:
        raise ConfigurationError(f"There are no {kind}s to ask; give at least one, for example own_{kind}s().")
    if twice := [name for name, count in Counter(item.id for item in items).items() if count > 1]:
        raise ConfigurationError(
            f"The {kind} {twice[0]!r} stands twice; give each its own id: askings are counted by it."
        )
    return tuple(items)


def check_judges(judges: str) -> None:
    """Refuse a kind of judges that an Inspect task does not take: a panel of models, or none."""
    if judges not in JUDGES:
        raise UnknownNameError("kind of judges", judges, JUDGES)


def names(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return names that are separated by commas; Inspect's command line gives them as a list."""
    return tuple(given.split(",") if given else ()) if isinstance(given, str) else tuple(given)
