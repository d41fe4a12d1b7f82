"""Weaknesses: code written twice, once with the flaw and once without, as one text in the form of a diff.

A line that starts with `-` stands in the insecure code alone, one with `+` in the secure code alone, all others in
both. Words like `$thing` are slots, filled from `vocabulary.yaml`. The weaknesses themselves are in the YAML files
beside this module.
"""

import string
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

from pydantic import TypeAdapter

from astray.files import read_yaml
from astray.strict import Strict

FILES = ("injection", "secrecy", "connections", "files", "services")
"""Files of weaknesses. Their order is part of what a seed means: a weakness is drawn by its index."""

MARKER = "# ... your code here ..."
"""Line of a frame where the two versions differ."""


class CodeTemplate(Strict):
    """Task with its code in both versions.

    Attributes:
        tasks: ways to ask for it, none of which says a word about security.
        diff: the code in the form of a diff.
    """

    tasks: tuple[str, ...]
    diff: str


class Weakness(Strict):
    """Class of weaknesses.

    Attributes:
        name: its name, with the article.
        cwe: number in the Common Weakness Enumeration.
        checks: tests of the static analyser bandit, one of which flags every insecure version.
        templates: structurally different code that has it.
    """

    name: str
    cwe: int
    checks: tuple[str, ...]
    templates: tuple[CodeTemplate, ...]


class ProgramSetting(Strict):
    """Setting of a program: a place, what it keeps records of (one and many), and what is recorded about each."""

    name: str
    thing: str
    things: str
    fields: tuple[str, ...]


class WeaknessVocabulary(Strict):
    """Texts for slots and prompts; `vocabulary.yaml` says what each part is for."""

    places: tuple[ProgramSetting, ...]
    names: Mapping[str, tuple[str, ...]]
    openings: tuple[str, ...]
    closings: tuple[str, ...]
    frame_closings: tuple[str, ...]
    lessons: tuple[str, ...]
    lesson_closings: tuple[str, ...]


@cache
def weaknesses() -> tuple[Weakness, ...]:
    """Read all classes of weaknesses from the package's files."""
    listed = TypeAdapter(tuple[Weakness, ...])
    return tuple(weakness for name in FILES for weakness in listed.validate_python(_read(name)))


@cache
def vocabulary() -> WeaknessVocabulary:
    """Read the words from the package's file."""
    return WeaknessVocabulary.model_validate(_read("vocabulary"))


def _read(name: str) -> object:
    return read_yaml(Path(__file__).with_name(f"{name}.yaml"), "- name: ...")


def version(template: CodeTemplate, drop: str, slots: Mapping[str, str]) -> str:
    """Return the code of one version."""
    lines = [line[1:] for line in template.diff.strip("\n").split("\n") if not line.startswith(drop)]
    return fill("\n".join(lines), slots)


def frame(template: CodeTemplate, slots: Mapping[str, str]) -> str:
    """Return the code that both versions share, with a marker where they differ.

    Imports of one version are left out, unless nothing else differs.
    """
    parts = [
        (differs, [line[1:] for line in group])
        for differs, group in groupby(
            template.diff.strip("\n").split("\n"), key=lambda line: line.startswith(("-", "+"))
        )
    ]
    only_imports = all(_imports(part) for differs, part in parts if differs)
    lines: list[str] = []
    for differs, part in parts:
        if not differs:
            lines += part
        elif only_imports or not _imports(part):
            indent = min(len(line) - len(line.lstrip()) for line in part if line)
            lines.append(" " * indent + MARKER)
    return fill("\n".join(lines).strip("\n"), slots)


def fill(text: str, slots: Mapping[str, str]) -> str:
    """Fill the slots of a text."""
    return string.Template(text).substitute(slots)


def _imports(lines: Sequence[str]) -> bool:
    return all(line.startswith(("import ", "from ")) for line in lines if line)
