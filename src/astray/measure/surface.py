"""Drawn surfaces: what is asked in other words from sample to sample, so that a rate is about a question and not about one
text that a model may know by heart.

A question's `wording` lists parts of its text, each with forms that say the same. The number of a sample tells its draw:
whoever is asked, and in whatever answer format, sample 7 of a question has one text.

Left to others: files with wordings (`question_sets`), names and words of agentic scenarios (`agentic.surface`).
"""

import math
import random
import re
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Annotated, Literal
from unicodedata import east_asian_width

from pydantic import Field, model_validator

from astray.errors import ConfigurationError
from astray.measure.asking import Item
from astray.strict import Strict

SurfaceKind = Literal["drawn", "fixed", "both"]
"""What the texts are: of each sample its own, the same for all, or the same for every second one."""
MOST_DRAWS = 1000
"""Draws of a question, after which the first one comes again."""

Text = Annotated[str, Field(min_length=1)]
Forms = Annotated[tuple[Text, ...], Field(min_length=2)]


def draw_of_sample(surface: SurfaceKind, sample: int) -> int | None:
    """Return the draw of a sample; None for the fixed text, which with "both" samples with an even number have."""
    return None if surface == "fixed" or (surface == "both" and sample % 2 == 0) else sample


def check_draws(surface: SurfaceKind, samples: int, name: str) -> None:
    """Refuse "both" with one sample a question, which is asked in the fixed wording alone.

    Raises:
        ConfigurationError: there is one.
    """
    if surface == "both" and samples < 2:
        raise ConfigurationError(
            f"With surface both every second answer is to a drawn wording, and {name} asks for one answer to each "
            "question. Ask for more samples, or take surface drawn."
        )


class Wording(Strict):
    """One question and the forms that its parts can have."""

    question_id: str
    text: Text = Field(description="what is asked in the fixed wording")
    forms: tuple[Forms, ...] = Field(min_length=1, description="forms of a part of the text, that of the text first")

    @model_validator(mode="after")
    def _has_each_part_once(self) -> "Wording":
        places_of(self.text, self.forms)
        return self

    def in_forms(self, chosen: Sequence[int]) -> str:
        """Return the text with each part, where it stands in the fixed text, in its chosen form."""
        text, places = self.text, places_of(self.text, self.forms)
        # From behind, so that the places before stay as they are.
        for (start, end), forms, form in sorted(zip(places, self.forms, chosen, strict=True), reverse=True):
            text = text[:start] + forms[form] + text[end:]
        return text


@lru_cache(maxsize=1024)
def places_of(text: str, wording: tuple[tuple[str, ...], ...]) -> tuple[tuple[int, int], ...]:
    """Return start and end of each part of a text that has forms, in characters.

    Raises:
        ValueError: a part does not stand in the text once, as whole words, or overlaps another; or its forms are not
            different.
    """
    places: list[tuple[int, int]] = []
    for part, *others in wording:
        found = [match.start() for match in re.finditer(f"(?={re.escape(part)})", text)]
        whole = [start for start in found if not (_within_word(text, start) or _within_word(text, start + len(part)))]
        if not found:
            raise ValueError(f"the first form of a wording is a part of the question, and {part!r} is none")
        if not whole:
            raise ValueError(f"{part!r} stands in the question within a word only; write whole words")
        if len(whole) > 1:
            raise ValueError(
                f"{part!r} stands {len(whole)} times in the question; write a longer part, which stands there once"
            )
        start, end = whole[0], whole[0] + len(part)
        if other := next((text[low:high] for low, high in places if start < high and low < end), None):
            raise ValueError(f"the parts {other!r} and {part!r} overlap; write one part of both, or two that do not")
        if len({part, *others}) <= len(others):
            raise ValueError(f"a form of {part!r} stands twice; write each once")
        places.append((start, end))
    return tuple(places)


def _within_word(text: str, place: int) -> bool:
    """Return whether a place between two characters is within a word; none is where words stand without blanks."""
    beside = text[max(place - 1, 0) : place + 1] if place > 0 else ""
    return len(beside) == 2 and all(
        re.match(r"\w", character) and east_asian_width(character) not in "WF" for character in beside
    )


class DrawnSurface(Strict):
    """What a set of questions is worded by, where it is not asked in its fixed texts."""

    kind: Literal["drawn", "both"]
    wordings: tuple[Wording, ...] = Field(min_length=1, description="of the questions that have one")

    @cached_property
    def by_question(self) -> dict[str, Wording]:
        """Return the wordings by the id of their question."""
        return {wording.question_id: wording for wording in self.wordings}

    def asked(self, item: Item, sample: int) -> Item:
        """Return an item as a sample of it is asked; as it is where its question has no wording."""
        draw, wording = draw_of_sample(self.kind, sample), self.by_question.get(item.question_id)
        if draw is None or wording is None:
            return item
        texts = drawn_texts(wording)
        # Drawn samples are counted, as of an even number of texts the odd samples alone would reach half.
        draw = draw // 2 if self.kind == "both" else draw
        # The first occurrence alone: a format's request and template stand behind the question and stay.
        question = item.question.replace(wording.text, texts[draw % len(texts)], 1)
        return item.model_copy(update={"question": question})


@lru_cache(maxsize=1024)
def drawn_texts(wording: Wording) -> tuple[str, ...]:
    """Return the texts of a question's draws: each once, the fixed one never, at most `MOST_DRAWS`."""
    sizes = [len(forms) for forms in wording.forms]
    # Seeded by a text, which does not depend on the process; number 0 has each part in its first form.
    chance = random.Random(f"surface/{wording.question_id}")
    combinations = math.prod(sizes)
    numbers = chance.sample(range(1, combinations), min(MOST_DRAWS, combinations - 1))
    texts = dict.fromkeys(wording.in_forms(_digits(number, sizes)) for number in numbers)
    return tuple(text for text in texts if text != wording.text)


def _digits(number: int, sizes: Sequence[int]) -> list[int]:
    """Return the form of each part in one of all combinations of forms."""
    digits = []
    for size in sizes:
        number, digit = divmod(number, size)
        digits.append(digit)
    return digits
