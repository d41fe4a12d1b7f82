"""Parts shared by the commands that measure without a study: audit, gate and screen."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Result(Protocol):
    """Result of such a command."""

    def text(self) -> str:
        """Return it for a terminal."""

    def as_object(self) -> dict[str, Any]:
        """Return it for programs."""


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given; the function behind the verb knows the defaults of the others."""
    return {name: value for name, value in options.items() if value is not None}


def show(verb: str, result: Result, *, as_json: bool, out: Path, beside: str) -> None:
    """Print a result, and where its page and other files are."""
    if as_json:
        from astray.report.origin import with_origin

        print(json.dumps(with_origin(result.as_object()), ensure_ascii=False, allow_nan=False))
        return
    print(result.text())
    print(f"\nPage: {out / verb / verb}.html\nBeside it: {beside}")
