"""Rows and columns that the tables of an agentic study share."""

from collections.abc import Iterator

import polars as pl

from astray.engine.exhibits import Column
from astray.stats.intervals import Interval

Row = tuple[str | float | None, ...]


def by_subject(table: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield each subject's name and rows, in the order of the table."""
    for (name,), rows in table.group_by("subject", maintain_order=True):
        yield str(name), rows


def columns(*heads: tuple[str, str]) -> tuple[Column, ...]:
    """Return columns from pairs of title and form."""
    return tuple(Column.model_validate({"title": title, "form": form}) for title, form in heads)


def range_text(interval: Interval | None) -> str:
    """Return the limits of an interval as text; empty without one."""
    return f"{interval.low:.1%} to {interval.high:.1%}" if interval else ""
