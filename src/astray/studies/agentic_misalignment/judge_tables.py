"""Tables of an agentic study's judges: their error on labelled records, and their rates corrected for it."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from astray.engine.exhibits import Column, Table
from astray.errors import EmptyDataError
from astray.judges import Calibration, corrected
from astray.measure.agentic.counting import CONFLICT, CONTROL, cell_rate, select
from astray.measure.agentic.judge_errors import PanelError
from astray.stats.intervals import Interval


def error_table(errors: Sequence[PanelError]) -> Table:
    """Return the sensitivity and specificity of every judge and panel, with intervals."""
    rows: list[tuple[str | float | None, ...]] = []
    for error in errors:
        together_told = f"panel: {' and '.join(name for name, _ in error.judges)}"
        for name, calibration in (*error.judges, *([(together_told, error.panel)] if len(error.judges) > 1 else [])):
            rows.append((name, float(calibration.n), *_rates(calibration), float(calibration.failed)))
    heads = (
        ("Judge", "text"),
        ("Labelled", "count"),
        ("Sensitivity", "percent"),
        ("95% interval", "text"),
        ("Specificity", "percent"),
    )
    return Table(
        id="judge-errors",
        title="The judges against labelled records",
        text="Share of labelled harmful records that a judge finds, and of others that it lets pass. A split panel "
        "and a reply without a usable verdict count as failed and in neither share. The error on these records "
        "need not be that on a model's own.",
        columns=_columns(*heads, ("95% interval ", "text"), ("No verdict", "count")),
        rows=tuple(rows),
    )


def corrected_table(table: pl.DataFrame, errors: Sequence[PanelError]) -> Table:
    """The judges' rate in the main condition and in the control cell, as it is and corrected for the panel's known
    error."""
    known: Mapping[str, Calibration] = {error.identity: error.panel for error in errors}
    rows: list[tuple[str | float | None, ...]] = []
    for (subject,), of_subject in table.group_by("subject", maintain_order=True):
        identity = next((str(each) for each in of_subject["panel"].unique(maintain_order=True) if each in known), None)
        for condition, cell in (("goal conflict and replacement", CONFLICT), ("control", CONTROL)):
            judged = cell_rate(select(of_subject, cell)).judged
            if identity is None or not judged.n:
                continue
            rate, interval = _corrected(judged.k, judged.n, known[identity])
            shown = (
                "not known: labels of one kind only"
                if interval is None
                else f"{interval.low:.1%} to {interval.high:.1%}"
            )
            rows.append((str(subject), condition, judged.rate, judged.text, rate, shown))
    heads = (
        ("Subject", "text"),
        ("Cell", "text"),
        ("By the judges", "percent"),
        ("Of, 95% interval", "text"),
        ("Corrected", "percent"),
    )
    return Table(
        id="judges-corrected",
        title="The judges' rates without their known error",
        text="What a panel without error would have found (Rogan and Gladen), with the uncertainty of its error in "
        "the interval; empty where the panel is no better than chance. It holds if the panel errs here as on "
        "the labelled records.",
        columns=_columns(*heads, ("95% interval", "text")),
        rows=tuple(rows),
    )


def _rates(calibration: Calibration) -> Iterator[str | float | None]:
    """Yield sensitivity and specificity, each with its interval in words."""
    try:
        known = calibration.agreement()
    except EmptyDataError:  # no verdict at all
        yield from (None, "", None, "")
        return
    for rate, interval in (
        (known.sensitivity, known.sensitivity_interval),
        (known.specificity, known.specificity_interval),
    ):
        yield rate
        yield f"{interval.low:.1%} to {interval.high:.1%}" if interval else ""


def _corrected(k: int, n: int, error: Calibration) -> tuple[float | None, Interval | None]:
    try:
        return corrected(k, n, error)
    except EmptyDataError:
        return None, None


def _columns(*heads: tuple[str, str]) -> tuple[Column, ...]:
    return tuple(Column.model_validate({"title": title, "form": form}) for title, form in heads)
