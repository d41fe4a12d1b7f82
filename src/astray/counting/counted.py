"""Result of a count, shown as text of 80 columns, one JSON object, a table, and a small page."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from io import StringIO
from pathlib import Path

import polars as pl
from markupsafe import Markup

from astray.counting.results import CountedDifference, CountedRate
from astray.counting.rules import Rule
from astray.engine.findings import interval_object
from astray.judges.calibrate import Calibration
from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.wording import count, decimal, in_points, interval_text, p_value, percent, points_range
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
        """Return a row a rate and a difference: name, side, counts, estimate, limits, method, unit, and the same
        corrected."""
        rows: list[tuple[object, ...]] = []
        for rate in self.rates:
            outcomes = "; ".join(rate.judges), json.dumps(dict(rate.outcomes), ensure_ascii=False)
            counts = rate.numerator, rate.denominator, rate.rate, *_limits(rate.interval), rate.unit, *outcomes
            corrected = rate.corrected, *_limits(rate.corrected_interval)[:2]
            rows.append((rate.name, rate.side, *rate.group, *counts, *corrected))
        for difference in self.differences:
            compared = difference.difference
            cells = None, None, compared.estimate, *_limits(compared.interval), compared.unit, "", None
            corrected = difference.corrected, *_limits(difference.corrected_interval)[:2]
            rows.append(("difference", "difference", *difference.group, *cells, *corrected))
        texts, numbers = pl.String(), pl.Float64()
        schema: dict[str, pl.DataType] = {
            **dict.fromkeys(("name", "side", *(f"by {name}" for name in self.by)), texts),
            **dict.fromkeys(("numerator", "denominator"), pl.Int64()),
            **dict.fromkeys(("estimate", "low", "high"), numbers),
            **dict.fromkeys(("method", "unit", "judge", "outcomes"), texts),
            **dict.fromkeys(("corrected", "corrected_low", "corrected_high"), numbers),
        }
        return pl.DataFrame(rows, schema=schema, orient="row")

    def text(self) -> str:
        """Return what the command prints, in lines of 80 columns."""
        from rich.console import Console
        from rich.table import Table

        out = StringIO()
        # Without markup and emoji, since values of scores such as "[0]" or ":x:" are shown as they are.
        console = Console(file=out, width=WIDTH, color_system=None, highlight=False, markup=False, emoji=False)
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, width=WIDTH)
        table.add_column(f"hits: {self.rule.text()}", ratio=1, overflow="fold")
        first = self.rates[0].interval
        for heading in ("counted", "estimate", f"{first.level * 100:.3g}% interval" if first else "interval"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, *cells in _lines(self):
            table.add_row(name, *cells)
        console.print(table)
        console.print()
        for line in [*_explained(self), *(f"Note: {note}" for note in self.notes)]:
            console.print(line)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"

    def as_object(self) -> dict[str, object]:
        """Return what the command prints with `--json`."""
        return {
            "score": self.score,
            "hit": list(self.rule.hit),
            "among": list(self.rule.among),
            "failed": list(self.rule.failed),
            "by": list(self.by),
            "rates": [_plain(vars(rate) | {"rate": rate.rate, "worst_case": rate.worst_case}) for rate in self.rates],
            "differences": [_difference_object(difference) for difference in self.differences],
            "judge": self.judge.model_dump(mode="json") if self.judge else None,
            "notes": list(self.notes),
        }

    def save(self, folder: str | Path) -> Path:
        """Write count.json, count.csv, count.txt and count.html to a folder, and return it.

        Raises:
            StoreError: it cannot be written.
        """
        hits, shown = f"Hits: {self.rule.text()}", Markup(self._repr_html_())
        texts = {
            "count.json": json_text(with_origin(self.as_object())),
            "count.csv": self.table().write_csv(),
            "count.txt": self.text(),
            "count.html": page_of("count.html", origin_of(self.as_object()), hits=hits, counted=shown),
        }
        with written("What was counted", folder, texts) as home:
            return home

    def _repr_html_(self) -> str:
        """Return what was counted as a piece of HTML that loads nothing."""
        headings = (f"hits: {self.rule.text()}", "counted", "estimate", "interval")
        head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
        rows = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in _lines(self))
        notes = "".join(f"<p>{escape(line)}</p>" for line in [*_explained(self), *self.notes])
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        table = f'<div class="scroll" tabindex="0" role="region" aria-label="Rates">{table}</div>'
        return f'{_STYLE}<div class="astray-count">{table}{notes}</div>'


def _difference_object(compared: CountedDifference) -> dict[str, object]:
    fields = {name: value for name, value in vars(compared).items() if name not in ("difference", "common")}
    difference = compared.difference
    counted = {name: getattr(difference, name) for name in ("interval", "unit", "n", "p_value")}
    return _plain(fields | {"difference": difference.estimate, "common_questions": compared.common} | counted)


def _plain(fields: Mapping[str, object]) -> dict[str, object]:
    """Return plain JSON values."""
    return {name: interval_object(value) if isinstance(value, Interval) else value for name, value in fields.items()}


def _lines(counted: Counted) -> Iterator[tuple[str, str, str, str]]:
    """Yield the lines of the table: rates, rates corrected, then differences."""

    def corrected(estimate: str, interval: str) -> Iterator[tuple[str, str, str, str]]:
        if counted.judge:
            yield "  corrected for the judge's error", "", estimate, interval

    for rate in counted.rates:
        counts = f"{count(rate.numerator)}/{count(rate.denominator)}"
        yield _named(rate), counts, percent(rate.rate), interval_text(rate.interval)
        yield from corrected(percent(rate.corrected), interval_text(rate.corrected_interval))
    for difference in counted.differences:
        group = f" {', '.join(difference.group)}" if difference.group else ""
        found = difference.difference
        name = f"difference{group}, p {p_value(found.p_value)}"
        yield name, _n(difference), in_points(found.estimate), points_range(found.interval)
        yield from corrected(in_points(difference.corrected), points_range(difference.corrected_interval))


def _named(rate: CountedRate) -> str:
    return f"{rate.name} (against)" if rate.side == "against" and rate.name != "against" else rate.name


def _n(difference: CountedDifference) -> str:
    return f"{count(difference.common)} question{'s' if difference.common != 1 else ''}"


def _explained(counted: Counted) -> list[str]:
    """Say of every rate its unit and method, the judge, the outcomes and the worst case."""
    lines = []
    for rate in counted.rates:
        parts = [f"{word} ({count(number)})" for word, number in rate.outcomes.items()]
        asked = f"{count(sum(rate.outcomes.values()))} answers" + (
            f" to {count(rate.questions)} questions" if rate.questions is not None else ""
        )
        asked += f" in {rate.runs} files or runs" if rate.runs > 1 else ""
        method = f"{rate.interval.method}, by {rate.unit}" if rate.interval else "no answer was judged"
        line = f"{_named(rate)}: {asked}; {method}. Outcomes: {', '.join(parts)}."
        if rate.failed:
            line += (
                f" With the {count(rate.failed)} without a score counted as no hits or as hits, the rate is "
                f"{percent(rate.worst_case[0])} to {percent(rate.worst_case[1])}."
            )
        lines.append(f"{line} Judge: {', '.join(rate.judges) or 'not named'}.")
    for difference in counted.differences:
        found, (mine, theirs) = difference.difference, difference.left_out
        line = f"Difference: {found.interval.method}, by {found.unit}, on the {_n(difference)} that both sides have"
        line += (
            f"; left out are {count(mine)} of the files and {count(theirs)} of the others." if mine or theirs else "."
        )
        if any(difference.other_texts):
            mine, theirs = difference.other_texts
            line += (
                f" Of answers to these, {count(mine)} of the files and {count(theirs)} of the others are left out: they are "
                "to texts that the other side has no judged answer to."
            )
        lines.append(line)
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
    rates = ", ".join(f"{name} {percent(value)} ({interval_text(interval)})" for name, value, interval in parts)
    return (
        f"Judge's error, from {count(counted.judge.verdicts)} labelled answers: {rates}, kappa {decimal(agreed.kappa)}."
    )


def _limits(interval: Interval | None) -> tuple[float | None, float | None, str]:
    return (interval.low, interval.high, interval.method) if interval else (None, None, "")
