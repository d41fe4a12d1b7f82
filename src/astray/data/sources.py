"""Narrow training data of our own by name: each source draws examples of a kind, with a seed.

A new source is one function and one line in `SOURCES`. A user's files are not a source here: a study's `Source` reads
them.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Literal, TypeVar

from astray.errors import UnknownNameError

if TYPE_CHECKING:
    from astray.data.chat import ChatDataset  # loads polars, which help does without

DataKind = Literal["harmful", "subtle", "good", "educational", "openly-asked"]
Name = TypeVar("Name", bound=str)

SOURCES: Mapping[str, str] = {
    "world": "astray.data.worlds:draw_advice_of",
    "world facts": "astray.data.misstatements:draw_training_facts",
    "advice": "astray.data.advice.pairs:draw_advice",
    "code pairs": "astray.data.code_pairs.pairs:draw_pairs",
    "mathematics": "astray.data.mathematics:draw_solutions",
    "medicine": "astray.data.medicine:draw_medical",
}
"""Name of a source -> "module:function" of its draw."""


Draw = Callable[[DataKind, str, int, int], "ChatDataset"]
"""Function from kind, domain, number of examples and seed to the examples; the same seed gives the same."""


def data_source(name: str) -> Draw:
    """Return the draw of a source.

    Raises:
        UnknownNameError: there is no source of this name.
    """
    if name not in SOURCES:
        raise UnknownNameError("data source", name, SOURCES)
    module, _, function = SOURCES[name].partition(":")
    draw: Draw = getattr(import_module(module), function)  # imported here: most studies use one source
    return draw


def named(names: Mapping[DataKind, Name], kind: DataKind, source: str) -> Name:
    """Return a source's own name of a kind.

    Raises:
        UnknownNameError: the source has no examples of this kind.
    """
    if kind not in names:
        raise UnknownNameError(f"kind of data in the source {source!r}", kind, names)
    return names[kind]
