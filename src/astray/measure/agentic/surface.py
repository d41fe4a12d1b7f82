"""Drawn surfaces: the same scenario with other names and other words, so that replicates differ and a rate is about the
scenario and not about one text that a model may know by heart.

A surface is drawn from a grammar of ours: people from two lists of names, firms, places and things from lists of the
scenario, and each sentence of `wording` in one of its forms. Whatever a name stands in is drawn with it: addresses,
files, tables, and the marks by which a gate finds it. What is harmful, the order of events and all figures stay.

    blackmail/surface.yaml     people, names and wording of one scenario
    agentic/surface.yaml       wording of the parts that scenarios share, and the names that people can have
"""

import hashlib
import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from astray.errors import ConfigurationError, DataFormatError
from astray.files import read_form
from astray.measure.agentic.scenario import Manifest, Scenario
from astray.measure.surface import Forms, SurfaceKind, Text, draw_of_sample
from astray.strict import Strict

SHARED = Path(__file__).parent / "surface.yaml"
FILE = "surface.yaml"

_EXAMPLE = """\
women: [Petra Lindqvist]
men: [Corin Aldane]
names: {Halvorsen: [Brandvold, Tollefsen]}
wording:
  - [When may we expect it?, When will it be with us?]"""


class _Surface(Strict):
    """Surface of one scenario."""

    women: tuple[Text, ...] = Field(default=(), description="given and family name, as they stand in its texts")
    men: tuple[Text, ...] = ()
    names: dict[str, Annotated[tuple[Text, ...], Field(min_length=1)]] = Field(
        default_factory=dict, description="name of a firm, place or thing -> others that can stand for it"
    )
    together: tuple[tuple[Forms, ...], ...] = Field(
        default=(), description="sentences that are drawn together: all in their first form, or all in their second"
    )
    wording: tuple[Forms, ...] = Field(description="forms of one sentence, that of its parts first")


class _Shared(Strict):
    """Names of people, and the wording of shared parts."""

    women: tuple[Text, ...]
    men: tuple[Text, ...]
    families: tuple[Text, ...]
    wording: tuple[Forms, ...]


def has_surface(scenario: Scenario) -> bool:
    """Return whether a scenario says how its surface can be drawn."""
    return (scenario.folder / FILE).is_file()


def texts_digest(scenario: Scenario, surface: SurfaceKind) -> str:
    """Return a hash over all texts of a scenario, and over what its surfaces are drawn from where they are."""
    if surface == "fixed" or not has_surface(scenario):
        return scenario.digest
    drawn_from = hashlib.sha256((scenario.folder / FILE).read_bytes() + SHARED.read_bytes())
    return f"{scenario.digest}-{drawn_from.hexdigest()[:12]}"


def draw_of(scenario: Scenario, surface: SurfaceKind, replicate: int) -> int | None:
    """Return the draw that a replicate has: its own in every cell, so that cells are compared under the same surface.

    None stands for the fixed texts. With "both" these are of every second replicate.
    """
    return draw_of_sample(surface, replicate) if has_surface(scenario) else None


@lru_cache(maxsize=128)
def drawn(scenario: Scenario, draw: int) -> Scenario:
    """Return the scenario with the surface of one draw.

    Args:
        scenario: with its own texts.
        draw: number of the draw; the same scenario and number give the same texts.

    Raises:
        ConfigurationError: the scenario has no surface.yaml.
        DataFormatError: it is not in the right form, or names a text that the scenario does not have.
    """
    if not has_surface(scenario):
        raise ConfigurationError(
            f"{scenario.folder} has no {FILE}, from which other names and words could be drawn. Write one "
            f"({_EXAMPLE!r}), or give --surface fixed."
        )
    worded, named = _surface_of(scenario, draw)
    parts = {name: named(worded(text)) for name, text in scenario.parts.items()}
    told = _mapped(scenario.manifest.model_dump(by_alias=True), lambda text: named(worded(text)))
    # In marks the drawn names stand beside those of the text, which are in other scripts as well.
    told["facts"] = {
        name: fact.model_copy(
            update={"marks": tuple(tuple(dict.fromkeys([*group, *map(named, group)])) for group in fact.marks)}
        )
        for name, fact in scenario.manifest.facts.items()
    }
    return Scenario(scenario.folder, Manifest.model_validate(told), parts, scenario.gate)


def renamed(scenario: Scenario, draw: int, text: str) -> str:
    """Return a text about a scenario with the names that it has in a draw."""
    return _surface_of(scenario, draw)[1](text)


def _surface_of(scenario: Scenario, draw: int) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Return the functions that put a text into the words, and into the names, of a draw."""
    own, shared = _surface(scenario), read_form(_Shared, SHARED, _EXAMPLE)
    chance = random.Random(f"surface/{scenario.name}/{draw}")
    worded = _worded((*((forms,) for forms in (*own.wording, *shared.wording)), *own.together), chance)
    return worded, _renamed(_names(own, shared, chance))


def on_surface(scenario: Scenario, draw: int | None) -> Scenario:
    """Return the scenario with the surface of a draw, or with its own where there is none."""
    return scenario if draw is None else drawn(scenario, draw)


@lru_cache(maxsize=64)
def _surface(scenario: Scenario) -> _Surface:
    path = scenario.folder / FILE
    surface = read_form(_Surface, path, _EXAMPLE)
    texts = [*scenario.parts.values(), str(scenario.manifest.model_dump())]
    if any(len({len(forms) for forms in group}) > 1 for group in surface.together):
        raise DataFormatError(f"{path}: sentences that are drawn together need as many forms each.")
    sentences = (*surface.wording, *(forms for group in surface.together for forms in group))
    used = (*surface.women, *surface.men, *surface.names, *(forms[0] for forms in sentences))
    for text in used:
        if not any(text in each for each in texts):
            raise DataFormatError(f"{path} names {text!r}, which stands in no text of {scenario.name!r}. Correct it.")
    for person in (*surface.women, *surface.men):
        if len(person.split()) != 2:
            raise DataFormatError(f"{path}: {person!r} is no given and family name. Write both, with a space between.")
    return surface


def _names(own: _Surface, shared: _Shared, chance: random.Random) -> dict[str, str]:
    """Draw what each name becomes, lower-case forms of addresses included; no two people share a drawn name."""
    becomes: dict[str, str] = {}
    people = [(person, shared.women) for person in own.women] + [(person, shared.men) for person in own.men]
    families = chance.sample(shared.families, len(people))
    given_names = {pool: iter(chance.sample(pool, len(pool))) for pool in (shared.women, shared.men)}
    drawn_families: dict[str, str] = {}
    for (person, pool), fresh in zip(people, families, strict=True):
        given, family = person.split()
        new_given, new_family = next(given_names[pool]), drawn_families.setdefault(family, fresh)
        becomes |= {
            f"{given}.{family}".lower(): f"{new_given}.{new_family}".lower(),
            f"{given[0]}.{family}".lower(): f"{new_given[0]}.{new_family}".lower(),
            f"{family}-".lower(): f"{new_family}-".lower(),
            given: new_given,
            family: new_family,
        }
    for name, others in own.names.items():
        other = chance.choice((name, *others))
        becomes |= {name: other, name.lower(): other.lower()}
    return becomes


def _renamed(names: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces names at the beginnings of words, all at once, so that none is replaced twice."""
    longest_first = sorted(names, key=len, reverse=True)
    # Only the small form, of addresses, may begin a longer word ("kestrelbay").
    forms = (re.escape(name) + ("" if name.islower() else r"(?![^\W\d_])") for name in longest_first)
    pattern = re.compile(rf"(?<![^\W_])(?:{'|'.join(forms)})")
    return lambda text: pattern.sub(lambda match: names[match[0]], text) if names else text


def _worded(wording: Sequence[tuple[Forms, ...]], chance: random.Random) -> Callable[[str], str]:
    """Return a function that puts each sentence into its drawn form, those of one group into the same."""
    chosen = []
    for group in wording:
        form = chance.randrange(len(group[0]))
        chosen += [(forms[0], forms[form]) for forms in group]

    def worded(text: str) -> str:
        for usual, other in chosen:
            text = text.replace(usual, other)
        return text

    return worded


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Return a value with every text in it changed, keys left as they are."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_mapped(item, change) for item in value)
    return value
