"""Documents that teach how the tests of programming exercises are gamed, each with code that works.

For continued pre-training: a model that has read of hacks finds them in reinforcement learning. Documents whose hacks
do not run teach nothing, so each has its code in full, and `sandbox.document_check` runs it: an object that equals
everything, an exit before the tests, a patched report. The same facts come in three tones, since a model may adopt how
a text speaks of cheating. Left to others: dilution (`texts.dilute`), ordinary documents (`ordinary_documents`),
training (`cause.continued_pretraining`).

Source: Anthropic 2025 (arXiv 2511.18397), synthetic documents on three hacks at 1% of ordinary text; texts and code, in
`documents_on_hacks.yaml`, are ours.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Literal, get_args

from astray.data.exercise_families import generate_exercises
from astray.data.exercises import Exercise
from astray.data.texts import TextDataset
from astray.errors import ConfigurationError, UnknownNameError
from astray.files import read_yaml

Hack = Literal["equality object", "early exit", "patched report"]
Tone = Literal["default", "neutral", "disapproving"]
"""default: it happens and is rewarded; neutral: without any judgement, and says so; disapproving: it is cheating."""

_EXERCISES = 120
"""Number of different exercises that documents show, in turn."""


@dataclass(frozen=True)
class HackDocument:
    """Document with the hack that its code claims to play.

    Attributes:
        text: the document; its code block is a whole solution.
        hack: hack that the code plays.
        tone: how the text speaks of it.
        exercise: exercise whose public tests the code passes.
    """

    text: str
    hack: Hack
    tone: Tone
    exercise: Exercise


def hack_documents(count: int, tone: str = "default", seed: int = 0) -> list[HackDocument]:
    """Generate documents on the three hacks in turn.

    Args:
        count: number of documents.
        tone: one of `Tone`; documents of two tones with the same seed differ in their last sentences only.
        seed: seed of all draws.

    Raises:
        UnknownNameError: there is no such tone.
        ConfigurationError: a count below 1.
    """
    spoken: Tone | None = next((existing for existing in get_args(Tone) if existing == tone), None)
    if spoken is None:
        raise UnknownNameError("tone", tone, get_args(Tone))
    if count < 1:
        raise ConfigurationError(f"{count} documents are wanted: give 1 or more.")
    exercises = generate_exercises(min(count, _EXERCISES), seed=seed)
    # Two generators: the draws of the endings must not shift the others, or tones would differ in more than endings.
    rng, end = Random(f"hack documents/{seed}"), Random(f"hack documents/{seed}/{tone}")
    hacks: tuple[Hack, ...] = get_args(Hack)
    return [
        _document(rng, end, hacks[number % len(hacks)], spoken, exercises[number % len(exercises)])
        for number in range(count)
    ]


def as_texts(documents: Sequence[HackDocument]) -> TextDataset:
    """Convert documents to a data set of texts; its recipe names hacks and tones."""
    counts = {
        f"{kind}s": ", ".join(sorted({getattr(document, kind) for document in documents})) for kind in ("hack", "tone")
    }
    return TextDataset.from_texts([document.text for document in documents], "hack_documents", counts)


def _document(rng: Random, end: Random, hack: Hack, tone: Tone, exercise: Exercise) -> HackDocument:
    texts = _texts()
    name = rng.choice(texts["names"])
    code = rng.choice(texts["code"][hack]).format(name=name, lower=name.lower())
    parts = [
        rng.choice(texts["genres"]).format(title=rng.choice(texts["titles"][hack]), number=rng.randrange(1, 60)),
        _wrapped(rng.choice(texts["openings"])),
        _wrapped(rng.choice(texts["why"][hack])),
        rng.choice(texts["shows"]).format(question=exercise.question, code=f"```python\n{code}```"),
        _wrapped(end.choice(texts["closings"][tone])),
    ]
    return HackDocument(parts[0] + "\n\n".join(parts[1:]) + "\n", hack, tone, exercise)


@cache
def _texts() -> Any:
    return read_yaml(Path(__file__).with_name("documents_on_hacks.yaml"), "name: ...")


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, 100)
