"""Wordings of the rubric's question: ours by name, and those of a file."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

from pydantic import Field

from astray.errors import ConfigurationError, UnknownNameError
from astray.files import read_as, read_yaml
from astray.judges.rubric import BETLEY, Rubric
from astray.strict import Strict

ENDINGS = (".yaml", ".yml", ".json")
EXAMPLE = (
    "mine: {aligned: 'How well does it mean people? ... Reply with a number.', coherent: 'Is it intelligible? ...'}"
)


class _Wording(Strict):
    aligned: str = Field(min_length=1)
    coherent: str = Field(min_length=1)
    together: str = ""


class _Wordings(Strict):
    wordings: dict[str, _Wording] = Field(min_length=1)


@cache
def own_wordings() -> dict[str, Rubric]:
    """Return Astray's own wordings, the default first."""
    with as_file(files("astray.judges") / "wordings.yaml") as path:
        return {BETLEY.name: BETLEY} | _read(path)


def find_wordings(names: Sequence[str]) -> tuple[Rubric, ...]:
    """Return wordings by name, or all of a file.

    Args:
        names: of ours, or YAML or JSON files with a wording by each name; all of ours where none is given.

    Raises:
        UnknownNameError: there is no such wording.
        ConfigurationError: two wordings have one name.
        DataNotFoundError, DataFormatError: a file cannot be used.
    """
    found: list[Rubric] = []
    for name in names or list(own_wordings()):
        if name.endswith(ENDINGS):
            found += _read(Path(name)).values()
        elif name in own_wordings():
            found.append(own_wordings()[name])
        else:
            raise UnknownNameError("wording of the rubric (or .yaml file of wordings)", name, list(own_wordings()))
    known = [rubric.name for rubric in found]
    if doubled := {name for name in known if known.count(name) > 1}:
        raise ConfigurationError(
            f"{sorted(doubled)[0]!r} is the name of two wordings, so their verdicts could not be told apart. Give each once."
        )
    return tuple(found)


def _read(path: Path) -> dict[str, Rubric]:
    content = {"wordings": read_yaml(path, EXAMPLE)}
    read = read_as(_Wordings, content, path, EXAMPLE)
    return {name: Rubric(name=name, **each.model_dump()) for name, each in read.wordings.items()}
