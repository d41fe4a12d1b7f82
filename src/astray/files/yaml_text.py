"""YAML read strictly: no key twice, no tags, and a plain word is text where YAML 1.1 would guess.

A date, `010` (eight), `1:30` (ninety) and `1_000` stay what they are written as; fields of a form then refuse what they
cannot take.
"""

import re
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from astray.errors import DataFormatError, EmptyDataError
from astray.files.reading import whole_text
from astray.files.values import MAX_DEPTH, check_values

MAX_ALIASED = 1_000_000
"""Values that a file may have when each alias is written out: aliases of aliases can make billions of a few lines."""

_TAB = " The line has a tab: YAML takes spaces alone in front of keys and values."

# libyaml's parser is ten times faster; wheels of PyYAML have it, builds from source may not.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _StrictLoader(_Base):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        # "<<", the merge key, may stand twice: each merges another mapping.
        twice = next((key for key, count in keys.items() if count > 1 and key != "<<"), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(
                problem=f"the key {twice!r} stands twice", problem_mark=_last(node, twice)
            )
        found: dict[Hashable, Any] = super().construct_mapping(node, deep=deep)
        return found


for _name, _form, _first in (
    ("bool", r"(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)", "yYnNtTfFoO"),
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789"),
):  # fmt: skip
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_form})$"), list(_first))


def _last(node: yaml.MappingNode, name: str) -> Any:
    return [key.start_mark for key, _ in node.value if key.value == name][-1]


def read_yaml(path: Path, example: str) -> object:
    """Return the content of a YAML file; arguments and errors as for `read_marked`."""
    return read_marked(path, example)[0]


def read_marked(path: Path, example: str) -> tuple[object, yaml.Node]:
    """Return the content of a YAML file, and the node that knows where each of its values stands; anchors and merge
    keys are resolved.

    Args:
        path: the file.
        example: a right file, shown in errors.

    Raises:
        DataNotFoundError, StoreError: as their names say.
        EmptyDataError: there is nothing in it.
        DataFormatError: it is no YAML, a key stands twice, or a value is none that a file should have.
    """
    text = whole_text(path)
    try:
        _check_shape(text)
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        content: object = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        why = (
            _TAB
            if mark and text.splitlines()[mark.line : mark.line + 1] and "\t" in text.splitlines()[mark.line]
            else ""
        )
        raise DataFormatError(
            f"{path}{line} is not a YAML file: {error.problem or error.context or error}.{why} A right file looks "
            f"like\n{example}"
        ) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DataFormatError(f"{path} is not a YAML file: {error}. A right file looks like\n{example}") from error
    if content is None or content in ([], {}):
        raise EmptyDataError(f"{path} is empty. A right file looks like\n{example}")
    check_values(content, str(path))
    return content, node


def _check_shape(text: str) -> None:
    """Look at a file's events before anything is built from them: depth, tags, and what its aliases stand for."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    size = 0
    event: Any  # the stubs know no attributes of events
    for event in yaml.parse(text, Loader=_Base):
        fault = ""
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in {name for name, _ in open_nodes}:
                fault = f"the alias {event.anchor!r} stands inside of what it names"
            size += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
            size += 1
            if getattr(event, "tag", None):
                fault = f"the tag {event.tag!r} is not read; write a plain value"
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, size))
            elif event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor:
                sizes[anchor] = size - before + 1
        if len(open_nodes) > MAX_DEPTH:
            fault = f"it is nested deeper than {MAX_DEPTH} levels"
        if size > MAX_ALIASED and sizes:
            fault = f"its aliases stand for more than {MAX_ALIASED:,} values"
        if fault:
            raise yaml.MarkedYAMLError(problem=fault, problem_mark=event.start_mark)
