"""Result of a count, shown as text of 80 columns, one JSON object, a table, and a small page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path

import polars as pl
from markupsafe import Markup

from astray.counting.results import CountedDifference, CountedRate
from astray.counting.rules import Rule
from astray.engine.summary import IntervalRow
from astray.judges.calibrate import Calibration
from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.wording import count, decimal, interval_text, p_value, percent
from astray.stats.intervals import Interval

WIDTH = 80
_STYLE = (
    "<style>.astray-count{font-family:system-ui,sans-serif;font-size:14px;line-height:1.5;max-width:60em;overflow-wrap:anywhere}"
    ".astray-count .scroll{overflow-x:auto}.astray-count td+td,.astray-count th+th{white-space:nowrap}.astray-count "
    "table{border-collapse:collapse}.astray-count th,.astray-count td{padding:.25em "
    ".8em;text-align:right;border-bottom:1px solid #8884}.astray-count th:first-child,.astray-count "
    "td:first-child{text-align:left;min-width:9em}</style>"
)


@dataclass(frozen=True)
class Counted:
    """Result of a count, with all that is needed to interpret it.

    Attributes:
        score: name of the score as it was asked for, "" where there was only one.
        rule: what is a hit among what.
        by: columns that groups are made by.
        rates: of each side and group.
        differences: of each group, where there is another side.
        judge: the judge's known error, None without labels.
        notes: what was guessed, left out or found.
    """

    score: str
    rule: Rule
    by: tuple[str, ...]
    rates: tuple[CountedRate, ...]
    differences: tuple[CountedDifference, ...]
    judge: Calibration | None
    notes: tuple[str, ...]

    def table(self) -> pl.DataFrame:
        """Return a polars table with a row for each rate and difference."""
        return as_table(self)

    def text(self) -> str:
        """Return what the command prints, in lines of 80 columns."""
        return as_text(self)

    def as_object(self) -> dict[str, object]:
        """Return what the command prints with `--json`."""
        return as_object(self)

    def save(self, folder: str | Path) -> Path:
        """Write count.json, count.csv, count.txt and count.html to a folder, and return it.

        Raises:
            StoreError: it cannot be written.
        """
        return write(self, Path(folder))

    def _repr_html_(self) -> str:
        return as_html(self)


def as_object(counted: Counted) -> dict[str, object]:
    """Return the whole result as plain JSON values."""
    judge = counted.judge.model_dump(mode="json") if counted.judge else None
    return {
        "score": counted.score,
        "hit": list(counted.rule.hit),
        "among": list(counted.rule.among),
        "failed": list(counted.rule.failed),
        "by": list(counted.by),
        "rates": [
            {
                "name": each.name,
                "side": each.side,
                "group": list(each.group),
                "rate": each.rate,
                "numerator": each.numerator,
                "denominator": each.denominator,
                "interval": _interval(each.interval),
                "unit": each.unit,
                "questions": each.questions,
                "runs": each.runs,
                "judges": list(each.judges),
                "outcomes": dict(each.outcomes),
                "failed": each.failed,
                "worst_case": list(each.worst_case),
                "corrected": each.corrected,
                "corrected_interval": _interval(each.corrected_interval),
            }
            for each in counted.rates
        ],
        "differences": [
            {
                "group": list(each.group),
                "difference": each.difference.estimate,
                "interval": _interval(each.difference.interval),
                "unit": each.difference.unit,
                "n": each.difference.n,
                "p_value": each.difference.p_value,
                "common_questions": each.common,
                "left_out": list(each.left_out),
                "corrected": each.corrected,
                "corrected_interval": _interval(each.corrected_interval),
            }
            for each in counted.differences
        ],
        "judge": judge,
        "notes": list(counted.notes),
    }


def as_table(counted: Counted) -> pl.DataFrame:
    """Return a row a rate and a difference: name, side, counts, estimate, limits, method, unit, and the same
    corrected."""
    rows = [
        (each.name, each.side, *each.group, each.numerator, each.denominator, each.rate, *_limits(each.interval), each.unit, "; ".join(each.judges),
         json.dumps(dict(each.outcomes), ensure_ascii=False), each.corrected, *_limits(each.corrected_interval)[:2])
        for each in counted.rates
    ] + [
        ("difference", "difference", *each.group, None, None, each.difference.estimate, *_limits(each.difference.interval), each.difference.unit, "",
         None, each.corrected, *_limits(each.corrected_interval)[:2])
        for each in counted.differences
    ]  # fmt: skip
    texts, numbers = pl.String(), pl.Float64()
    schema: dict[str, pl.DataType] = dict.fromkeys(("name", "side", *(f"by {name}" for name in counted.by)), texts)
    schema |= {
        "numerator": pl.Int64(),
        "denominator": pl.Int64(),
        "estimate": numbers,
        "low": numbers,
        "high": numbers,
        "method": texts,
        "unit": texts,
    }
    schema |= {
        "judge": texts,
        "outcomes": texts,
        "corrected": numbers,
        "corrected_low": numbers,
        "corrected_high": numbers,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def as_text(counted: Counted) -> str:
    """Return what was counted in lines of at most 80 columns."""
    from rich.console import Console
    from rich.table import Table

    out = StringIO()
    console = Console(file=out, width=WIDTH, color_system=None, highlight=False, markup=False, emoji=False)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, width=WIDTH)
    table.add_column(f"hits: {counted.rule.text()}", ratio=1, overflow="fold")
    for heading in (
        "counted",
        "estimate",
        f"{counted.rates[0].interval.level * 100:.3g}% interval" if counted.rates[0].interval else "interval",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, *cells in _lines(counted):
        table.add_row(name, *cells)
    console.print(table)
    console.print()
    for line in [*_explained(counted), *(f"Note: {note}" for note in counted.notes)]:
        console.print(line)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def as_html(counted: Counted) -> str:
    """Return what was counted as a piece of HTML that loads nothing."""
    head = "".join(
        f"<th>{escape(each)}</th>" for each in (f"hits: {counted.rule.text()}", "counted", "estimate", "interval")
    )
    rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in _lines(counted))
    told = "".join(f"<p>{escape(line)}</p>" for line in [*_explained(counted), *counted.notes])
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    table = f'<div class="scroll" tabindex="0" role="region" aria-label="Rates">{table}</div>'
    return f'{_STYLE}<div class="astray-count">{table}{told}</div>'


def write(counted: Counted, folder: Path) -> Path:
    """Write what was counted as JSON, CSV, text and page."""
    hits = f"Hits: {counted.rule.text()}"
    texts = {
        "count.json": json_text(with_origin(as_object(counted))),
        "count.csv": as_table(counted).write_csv(),
        "count.txt": as_text(counted),
        "count.html": page_of("count.html", origin_of(as_object(counted)), hits=hits, counted=Markup(as_html(counted))),
    }
    with written("What was counted", folder, texts) as home:
        return home


def _lines(counted: Counted) -> list[tuple[str, str, str, str]]:
    """Return the lines of the table: rates, rates corrected, then differences."""
    lines = []
    for each in counted.rates:
        lines.append(
            (
                _named(each),
                f"{count(each.numerator)}/{count(each.denominator)}",
                percent(each.rate),
                _text(each.interval),
            )
        )
        if counted.judge:
            lines.append(
                ("  corrected for the judge's error", "", percent(each.corrected), _text(each.corrected_interval))
            )
    for difference in counted.differences:
        group = f" {', '.join(difference.group)}" if difference.group else ""
        found = difference.difference
        lines.append(
            (
                f"difference{group}, p {p_value(found.p_value)}",
                _n(difference),
                percent(found.estimate),
                _text(found.interval),
            )
        )
        if counted.judge:
            lines.append(
                (
                    "  corrected for the judge's error",
                    "",
                    percent(difference.corrected),
                    _text(difference.corrected_interval),
                )
            )
    return lines


def _named(rate: CountedRate) -> str:
    return f"{rate.name} (against)" if rate.side == "against" and rate.name != "against" else rate.name


def _n(difference: CountedDifference) -> str:
    return f"{count(difference.common)} question{'s' if difference.common != 1 else ''}"


def _explained(counted: Counted) -> list[str]:
    """Say of every rate its unit and method, the judge, the outcomes and the worst case."""
    lines = []
    for each in counted.rates:
        parts = [f"{count(number)} {word}" for word, number in each.outcomes.items()]
        asked = f"{count(sum(each.outcomes.values()))} answers" + (
            f" to {count(each.questions)} questions" if each.questions is not None else ""
        )
        asked += f" in {each.runs} files or runs" if each.runs > 1 else ""
        method = f"{each.interval.method}, by {each.unit}" if each.interval else "no answer was judged"
        line = f"{_named(each)}: {asked}; {method}. Outcomes: {', '.join(parts)}."
        if each.failed:
            line += (
                f" If all {count(each.failed)} without a score were hits or none: {percent(each.worst_case[0])} to "
                f"{percent(each.worst_case[1])}."
            )
        lines.append(f"{line} Judge: {', '.join(each.judges) or 'not named'}.")
    for difference in counted.differences:
        found, (mine, theirs) = difference.difference, difference.left_out
        line = f"Difference: {found.interval.method}, by {found.unit}, on the {_n(difference)} that both sides have"
        lines.append(
            f"{line}; left out are {count(mine)} of the files and {count(theirs)} of the others."
            if mine or theirs
            else f"{line}."
        )
    if counted.judge:
        lines.append(_judge_line(counted))
    return lines


def _judge_line(counted: Counted) -> str:
    assert counted.judge
    agreed = counted.judge.agreement()
    parts: Sequence[tuple[str, float | None, Interval | None]] = (
        ("sensitivity", agreed.sensitivity, agreed.sensitivity_interval),
        ("specificity", agreed.specificity, agreed.specificity_interval),
    )
    told = ", ".join(f"{name} {percent(value)} ({_text(interval)})" for name, value, interval in parts)
    return (
        f"Judge's error, from {count(counted.judge.verdicts)} labelled answers: {told}, kappa {decimal(agreed.kappa)}."
    )


def _text(interval: Interval | None) -> str:
    return interval_text(
        IntervalRow(low=interval.low, high=interval.high, method=interval.method) if interval else None
    )


def _limits(interval: Interval | None) -> tuple[float | None, float | None, str]:
    return (interval.low, interval.high, interval.method) if interval else (None, None, "")


def _interval(interval: Interval | None) -> dict[str, object] | None:
    return (
        None
        if interval is None
        else {"low": interval.low, "high": interval.high, "level": interval.level, "method": interval.method}
    )
