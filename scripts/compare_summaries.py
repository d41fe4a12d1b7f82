"""Compare the numbers of two `summary.json` files of one study: what a change of code that should change no number has
to pass.

    python scripts/compare_summaries.py before/dishonesty/summary.json after/dishonesty/summary.json

Every claim, rate and figure is held against its counterpart by its name, so rows may stand in another order. Numbers
may differ by float noise (1e-9 relative). A field that only one of the two files knows (of a later version) is listed
apart and is no difference; a claim, rate or figure that one lacks is. Exits with 1 where a number, verdict or count
differs.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("arm", "evaluation", "group", "format", "series", "label", "name", "x", "y", "panel", "title")
"""Fields that tell rows without an id apart."""
WORDS = (
    "statement",
    "expected",
    "description",
    "note",
    "text",
    "notes",
    "recipe",
    "astray_version",
    "lede",
    "made",
    "versions",
)
"""Fields of prose, which may be reworded."""
NOISE = 1e-9


def differences(before: Any, after: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Yield each difference as its place and what it is; "only in ..." where one side lacks it."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted((before.keys() & after.keys()) - set(WORDS)):
            yield from differences(before[key], after[key], f"{where}/{key}")
        for key in sorted((before.keys() ^ after.keys()) - set(WORDS)):
            yield f"{where}/{key}", f"only in the {'first' if key in before else 'second'} file"
    elif isinstance(before, list) and isinstance(after, list):
        if any(isinstance(row, dict) for row in (*before, *after)):
            first, second = _named(before), _named(after)
            for name in first.keys() & second.keys():
                yield from differences(first[name], second[name], f"{where}/{name}")
            yield from (
                (f"{where}/{name}", "a row that the other file lacks") for name in sorted(first.keys() ^ second.keys())
            )
        elif len(before) != len(after):
            yield where, f"{len(before)} values and {len(after)}"
        else:
            for number, (one, other) in enumerate(zip(before, after, strict=True)):
                yield from differences(one, other, f"{where}[{number}]")
    elif _are_numbers(before, after):
        if not math.isclose(before, after, rel_tol=NOISE, abs_tol=NOISE):
            yield where, f"{before} and {after}"
    elif before != after:
        yield where, f"{before!r} and {after!r}"


def _named(rows: list[Any]) -> dict[str, Any]:
    """Return the rows of a list by what names them; equal names are numbered."""
    found: dict[str, Any] = {}
    for row in rows:
        name = _name(row)
        unique, number = name, 1
        while unique in found:
            number += 1
            unique = f"{name} ({number})"
        found[unique] = row
    return found


def _name(row: Any) -> str:
    """Return the id of a row, which is enough; without one all that tells it apart."""
    if not isinstance(row, dict) or "id" in row:
        return str(row["id"] if isinstance(row, dict) else row)
    return " ".join(str(row[key]) for key in NAMES if key in row and not isinstance(row[key], list | dict))


def _are_numbers(*values: Any) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def main(first: Path, second: Path) -> int:
    """Print the differences; return the exit code."""
    before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (first, second))
    found = list(differences(before, after))
    lacking = [where for where, what in found if what.startswith("only in the")]
    changed = [(where, what) for where, what in found if not what.startswith("only in the")]
    for where, what in changed[:50]:
        print(f"{where}: {what}")
    print(f"{len(before['claims'])} claims and {len(before['rates'])} rates compared: {len(changed)} differences.")
    print(f"{len(lacking)} places are in one file only.")
    for where in lacking[:10]:
        print(f"  only one file has {where}")
    return 1 if changed else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/compare_summaries.py FIRST/summary.json SECOND/summary.json")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
