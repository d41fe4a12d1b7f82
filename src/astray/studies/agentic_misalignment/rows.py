"""Rows that the tables of an agentic study share."""

from collections.abc import Iterator

import polars as pl

from astray.stats.intervals import Interval

Row = tuple[str | float | None, ...]


def by_subject(table: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each subject's name and rows, in the order of the table."""
    for (name,), rows in table.group_by("subject", maintain_order=True):
        yield str(name), rows


def range_text(interval: Interval | None) -> str:
    """Return the limits of an interval as text; empty without one."""
    return f"{interval.low:.1%} to {interval.high:.1%}" if interval else ""
