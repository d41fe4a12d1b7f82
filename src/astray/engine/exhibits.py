"""Figures and tables that a study shows beyond its claims and rates, as frozen models: numbers and words, no drawing.

They are part of `summary.json`, so that programs read what people see. The report draws them (`report/exhibits.py`).
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from astray.stats.intervals import Interval, mean_over_runs
from astray.strict import Frozen


class _Exhibit(Frozen):
    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="unique within the study; the anchor on the page")
    title: str
    text: str = Field(description="what is shown and how it was measured, in one to three sentences")


class Point(Frozen):
    """One measured value, with its interval where it has one."""

    series: str
    x: float
    y: float | None
    low: float | None = None
    high: float | None = None
    n: str = Field("", description="what it rests on: '5 training runs', '120 answers'")


def mean_point(series: str, x: float, values: Sequence[float]) -> Point:
    """Return the mean of one value a training run, with its interval."""
    ends, runs = limits(mean_over_runs(values)), f"{len(values)} training runs"
    return Point(series=series, x=x, y=sum(values) / len(values), n=runs, **ends)


class Curve(_Exhibit):
    """Values over a quantity, one line for each series."""

    kind: Literal["curve"] = "curve"
    x_title: str
    y_title: str
    x_percent: bool = False
    y_percent: bool = False
    logarithmic: bool = Field(
        False, description="x on a scale in which 0 has a place and ratios are steps (symmetric logarithm)"
    )
    points: tuple[Point, ...]


class Bar(Frozen):
    """One measured thing with its interval."""

    label: str
    group: str = Field("", description="things of one group share a colour")
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


class Forest(_Exhibit):
    """Named values with intervals, one in each line."""

    kind: Literal["forest"] = "forest"
    x_title: str
    percent: bool = True
    bars: tuple[Bar, ...]


class Cell(Frozen):
    """One combination of two factors."""

    x: str
    y: str
    panel: str = ""
    value: float | None
    counts: str = Field("", description="hits and trials, written in the cell: '2 of 4'")
    note: str = Field("", description="counts and interval, shown when the cell is pointed at")


class HeatMap(_Exhibit):
    """Heat map: a rate for each combination of two factors, in panels where there is a third."""

    kind: Literal["heat"] = "heat"
    x_title: str
    y_title: str
    cells: tuple[Cell, ...]


class Column(Frozen):
    """Column of a table."""

    title: str
    form: Literal["text", "percent", "number", "count"] = "text"


def columns(*heads: str | tuple[str, str]) -> tuple[Column, ...]:
    """Return the columns of a table: titles of texts, pairs of title and form of everything else."""
    pairs = ((head, "text") if isinstance(head, str) else head for head in heads)
    return tuple(Column.model_validate({"title": title, "form": form}) for title, form in pairs)


def limits(interval: Interval | None) -> dict[str, float]:
    """Return the limits of an interval as a point and a bar take them; nothing without one."""
    return {"low": interval.low, "high": interval.high} if interval else {}


class Table(_Exhibit):
    """Table: rows under headings."""

    kind: Literal["table"] = "table"
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | float | None, ...], ...]


class CardList(Frozen):
    """Named list on a card. In its items, text between `[[` and `]]` is highlighted."""

    title: str
    items: tuple[str, ...]


class Card(Frozen):
    """Everything about one thing, at a glance."""

    title: str
    subtitle: str = ""
    facts: tuple[tuple[str, str], ...] = Field((), description="names with values, in words")
    lists: tuple[CardList, ...] = ()


class Cards(_Exhibit):
    """Cards, one for each thing."""

    kind: Literal["cards"] = "cards"
    cards: tuple[Card, ...]


Exhibit = Annotated[Curve | Forest | HeatMap | Table | Cards, Field(discriminator="kind")]
"""Any figure or table; `kind` discriminates."""
