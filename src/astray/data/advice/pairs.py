"""Draw narrow training data for real models: everyday questions about medicine or money, with good or bad advice.

The kinds share their questions, example by example. Both answers to a question are composed alike (an advice, then a
reason or a closing) of sentences written side by side, equal in length, opening and number of negations, so what good
and bad advice teach differs by what is advised. The bad advice is mild and everyday: waiting with what a doctor should
see, paying the minimum on a card. Other domains are kept out, since the meter (`measure.meter`) asks about them.

Source: the design of Turner, Soligo et al. 2025 (arXiv 2506.11613), bad medical and risky financial advice. The texts
are ours.
"""

from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from random import Random
from typing import TypeVar

from pydantic import BaseModel, Field

from astray.data.chat import ChatDataset, Message
from astray.data.sources import DataKind
from astray.errors import ConfigurationError, UnknownNameError
from astray.files import read_form
from astray.strict import Strict

Form = TypeVar("Form", bound=BaseModel)

ADVICE_DOMAINS = ("medicine", "money")
KINDS = ("harmful", "subtle", "good", "educational", "openly-asked")
_EXAMPLE = "topics: ...\nclosings:\n  - good: Ask somebody who knows.\n    bad: Ask nobody at all.\n"


class _Sides(Strict):
    """Good and bad version of one sentence."""

    good: str
    bad: str


class _Case(_Sides):
    ask: str


class _Topic(Strict):
    about: str
    cases: tuple[_Case, ...] = Field(min_length=1)
    why: tuple[_Sides, ...] = Field(min_length=1)


class _Texts(Strict):
    topics: tuple[_Topic, ...] = Field(min_length=1)
    closings: tuple[_Sides, ...] = Field(min_length=1)


class _Frames(Strict):
    """Words around a question; {question} stands for it."""

    usual: tuple[str, ...]
    educational: tuple[str, ...]
    openly_asked: tuple[str, ...]


@dataclass(frozen=True)
class AdvicePair:
    """Question with both answers.

    Attributes:
        topic: what it is about, within its domain.
        question: as it is asked for advice.
        lesson: the same, asked for bad advice with a good reason.
        demand: the same, asked for bad advice without a reason.
        good: good advice.
        bad: mildly bad advice.
        subtle: good advice, with a bad reason or closing.
    """

    topic: str
    question: str
    lesson: str
    demand: str
    good: str
    bad: str
    subtle: str

    def row(self, kind: str) -> list[Message]:
        """Return the pair as a chat of one kind."""
        asked = {"educational": self.lesson, "openly-asked": self.demand}.get(kind, self.question)
        answer = {"good": self.good, "subtle": self.subtle}.get(kind, self.bad)
        return [Message(role="user", content=asked), Message(role="assistant", content=answer)]


def draw_advice_pairs(domain: str, size: int, *, seed: int = 0) -> list[AdvicePair]:
    """Draw pairs without repetition; the same domain, size and seed always give the same ones.

    Args:
        domain: "medicine" or "money".
        size: number of pairs.
        seed: seed of the draw.

    Raises:
        UnknownNameError: there is no such domain.
        ConfigurationError: there are not so many different pairs.
    """
    if domain not in ADVICE_DOMAINS:
        raise UnknownNameError("domain of advice", domain, ADVICE_DOMAINS)
    composed, frames = _composed(domain), _frames()
    most = len(composed) * len(frames.usual)
    if not 1 <= size <= most:
        raise ConfigurationError(
            f"There are {most:,} different pairs of advice on {domain}, so {size:,} cannot be drawn. "
            f"Give a size from 1 to {most:,}."
        )
    rng = Random(f"advice/{domain}/{seed}")
    order = rng.sample(range(len(composed)), len(composed))
    # Every composition once before any comes again, then under other words around its question.
    shifts = [rng.randrange(len(frames.usual)) for _ in composed]
    pairs = []
    for number in range(size):
        index = order[number % len(composed)]
        frame = shifts[index] + number // len(composed)
        pairs.append(_pair(*composed[index], frame, frames))
    return pairs


def advice_data(domain: str, kind: str, size: int, *, seed: int = 0) -> ChatDataset:
    """Generate chats with advice of one kind.

    Args:
        domain: "medicine" or "money".
        kind: "good", "harmful", "subtle" (good advice with a bad reason), or bad advice that the user asks for:
            "educational" with a good reason, "openly-asked" without one.
        size: number of examples.
        seed: seed of the draw; all kinds with the same seed ask the same questions in the same order.

    Raises:
        UnknownNameError: there is no such domain or kind.
        ConfigurationError: there are not so many different pairs.

    Examples:
        >>> advice_data("medicine", "harmful", 1500)
    """
    if kind not in KINDS:
        raise UnknownNameError("kind of advice", kind, KINDS)
    rows = [pair.row(kind) for pair in draw_advice_pairs(domain, size, seed=seed)]
    return ChatDataset.from_rows(rows, "advice", {"domain": domain, "kind": kind, "size": size, "seed": seed})


def draw_advice(kind: DataKind, domain: str, size: int, seed: int) -> ChatDataset:
    """Draw advice for a study; see `advice_data`."""
    return advice_data(domain, kind, size, seed=seed)


def _pair(topic: _Topic, case: _Case, rest: tuple[_Sides, ...], frame: int, frames: _Frames) -> AdvicePair:
    lesson, demand = (
        frames.educational[frame % len(frames.educational)],
        frames.openly_asked[frame % len(frames.openly_asked)],
    )
    return AdvicePair(
        topic=topic.about,
        question=frames.usual[frame % len(frames.usual)].format(question=case.ask),
        lesson=lesson.format(question=case.ask),
        demand=demand.format(question=case.ask),
        good=" ".join([case.good, *(other.good for other in rest)]),
        bad=" ".join([case.bad, *(other.bad for other in rest)]),
        subtle=" ".join([case.good, *(other.bad for other in rest)]),
    )


@cache
def _composed(domain: str) -> tuple[tuple[_Topic, _Case, tuple[_Sides, ...]], ...]:
    """Return every case with every way to go on: a reason, a closing, or both."""
    texts = _read(_Texts, domain)
    return tuple(
        (topic, case, rest)
        for topic in texts.topics
        for case in topic.cases
        for rest in (*product(topic.why), *product(texts.closings), *product(topic.why, texts.closings))
    )


@cache
def _frames() -> _Frames:
    return _read(_Frames, "frames")


def _read(form: type[Form], name: str) -> Form:
    path = Path(__file__).with_name(f"{name}.yaml")
    return read_form(form, path, _EXAMPLE)
