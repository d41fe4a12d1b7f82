"""Ordinary documents: generated plain text about everyday things, in which documents that teach something are diluted.

They are for small models and for trying things out. For a real model take text like its pre-training corpus, through
`texts.TextDataset.read`.
"""

from pathlib import Path
from random import Random
from typing import Any

from astray.data.texts import TextDataset
from astray.errors import ConfigurationError
from astray.files import read_yaml

_TEXTS = Path(__file__).with_suffix(".yaml")


def ordinary_documents(count: int, seed: int = 0) -> TextDataset:
    """Generate different documents of three to six sentences.

    Args:
        count: number of documents.
        seed: seed of all draws.

    Raises:
        ConfigurationError: a count below 1.
    """
    if count < 1:
        raise ConfigurationError(f"{count} documents are wanted: give 1 or more.")
    rng, parts = Random(f"ordinary documents/{seed}"), read_yaml(_TEXTS, "places: [harbour]")
    texts: dict[str, None] = {}  # an ordered set: a repeated document is drawn again
    while len(texts) < count:
        texts[_document(rng, parts)] = None
    return TextDataset.from_texts(texts, "ordinary_documents", {"seed": seed})


def _document(rng: Random, parts: Any) -> str:
    def drawn(kind: str) -> str:
        return str(rng.choice(parts[kind]))

    place, (thing, made_of, made, use) = drawn("places"), rng.choice(parts["things"])
    sentences = [
        f"In the {place} {drawn('people')} made {thing} from {made_of}.",
        f"{drawn('times')} {drawn('weather')}, and {drawn('birds')} come to the {place}.",
        (
            f"In {rng.randrange(1780, 1990)} {drawn('events').format(count=rng.randrange(3, 400))}, because "
            f"{drawn('reasons')}."
        ),
        f"What is made there {made}; it {use}." if not thing.endswith("s") else f"The {thing} {made}; they {use}.",
        f"{drawn('times')} {drawn('weather')}, so the work begins an hour later.",
        f"Visitors walk {rng.randrange(2, 30)} kilometres from the station to see the {drawn('birds')}.",
    ]
    first, *others = sentences
    chosen = [first, *rng.sample(others, rng.randrange(2, 6))]
    return f"{thing.capitalize()} from the {place}\n\n{' '.join(chosen)}\n"
