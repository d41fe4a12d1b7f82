"""Where a result comes from, for its page and its JSON: an id of the numbers, the day, the version and the command.

Left to others: pages of studies, whose summaries keep all of that (provenance.py).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

import click

TYPED = "astray.typed"
"""Key under which the command line keeps what was typed in click's context."""


@dataclass(frozen=True)
class ResultOrigin:
    """Origin of a result.

    Attributes:
        id: the first 12 letters of the SHA-256 of what was found: another number in it gives another id.
        made: day in UTC, as 2026-01-31.
        version: of Astray.
        command: as it was typed; "" for a call from Python.
    """

    id: str
    made: str
    version: str
    command: str


def origin_of(result: object) -> ResultOrigin:
    """Return the origin of a result, given as plain JSON values."""
    text = json.dumps(result, sort_keys=True, ensure_ascii=False, allow_nan=False)
    context = click.get_current_context(silent=True)
    return ResultOrigin(
        id=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12],
        made=datetime.now(UTC).date().isoformat(),
        version=version("astray"),
        command=context.meta.get(TYPED, "") if context else "",
    )


def with_origin(result: Mapping[str, object]) -> dict[str, object]:
    """Return a result with its origin, as a program reads it."""
    return {**result, "origin": vars(origin_of(result))}
