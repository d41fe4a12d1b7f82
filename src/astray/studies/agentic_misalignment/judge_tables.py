"""Tables of an agentic study's judges: agreement, known truth, error on labelled records, rates corrected for it."""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from astray.engine.exhibits import Table, columns
from astray.errors import EmptyDataError
from astray.judges import Calibration, corrected
from astray.measure.agentic.counting import (
    CONFLICT,
    CONTROL,
    agreement,
    cell_rate,
    executed,
    select,
)
from astray.measure.agentic.factors import FACTORS, Factors, label
from astray.measure.agentic.judge_errors import PanelError
from astray.measure.agentic.scripted import ScriptedAPI
from astray.stats.intervals import Interval
from astray.studies.agentic_misalignment.findings import AgenticFindings
from astray.studies.agentic_misalignment.rows import Row, by_subject, range_text


def truth_table(findings: AgenticFindings) -> Table:
    """Return the known harm rate of simulated subjects beside the measured one, cell by cell."""
    rows: list[Row] = []
    for subject in findings.subjects:
        api = ScriptedAPI(subject.model.removeprefix("astray/"), **subject.arguments)
        cells = findings.table.filter(pl.col("subject") == subject.name, pl.col("monitor") == "none").group_by(
            list(FACTORS), maintain_order=True
        )
        for values, of_cell in cells:
            factors = Factors.model_validate(dict(zip(FACTORS, values, strict=True)))
            true = sum(api.harm_rate(str(name), factors) for name in of_cell["scenario"]) / len(of_cell)
            measured = executed(of_cell)
            covers = measured.interval is not None and measured.interval.low <= true <= measured.interval.high
            rows.append((subject.name, label(factors), true, measured.rate, measured.text, "yes" if covers else "no"))
    inside = sum(row[-1] == "yes" for row in rows)
    return Table(
        id="ground-truth",
        title="The known truth beside what was measured",
        text=f"Simulated subjects do harm with known probabilities. The 95% interval holds the true rate in {inside} "
        f"of {len(rows)} cells, all scenarios together; about one in twenty should miss it.",
        columns=columns("Subject", "Cell", ("True", "percent"), ("Measured", "percent"), "Of", "Covered"),
        rows=tuple(rows),
    )


def agreement_table(table: pl.DataFrame) -> Table:
    """Return how often the two judges agree, and the panel with the gate."""
    rows: list[Row] = []
    for subject, of_subject in by_subject(table):
        judges, keys = agreement(of_subject)
        counts = [
            float((of_subject[name] == word).sum()) for name, word in (("judge", "failed"), ("outcome", "disputed"))
        ]
        rows.append((subject, judges.rate, judges.text, keys.rate, keys.text, *counts))
    agree = (("Judges agree", "percent"), "Of", ("Panel agrees with gate", "percent"), "Of ")
    return Table(
        id="judges",
        title="The two keys",
        text="How often the two judges agree about harm, and the panel with the gate. Where they do not, the sample "
        "is disputed and counts in no rate, only in its worst case.",
        columns=columns("Subject", *agree, ("No verdict", "count"), ("Disputed", "count")),
        rows=tuple(rows),
    )


def error_table(errors: Sequence[PanelError]) -> Table:
    """Return the sensitivity and specificity of every judge and panel, with intervals."""
    rows: list[Row] = []
    for error in errors:
        together_told = f"panel: {' and '.join(name for name, _ in error.judges)}"
        for name, calibration in (*error.judges, *([(together_told, error.panel)] if len(error.judges) > 1 else [])):
            rows.append((name, float(calibration.n), *_rates(calibration), float(calibration.failed)))
    shares = (("Sensitivity", "percent"), "95% interval", ("Specificity", "percent"), "95% interval ")
    return Table(
        id="judge-errors",
        title="The judges against labelled records",
        text="Share of labelled harmful records that a judge finds, and of others that it lets pass. A split panel "
        "and a reply without a usable verdict count as failed and in neither share. The error on these records "
        "need not be that on a model's own.",
        columns=columns("Judge", ("Labelled", "count"), *shares, ("No verdict", "count")),
        rows=tuple(rows),
    )


def corrected_table(table: pl.DataFrame, errors: Sequence[PanelError]) -> Table:
    """Return the judges' rate in the main condition and the control cell, as judged and corrected for known error."""
    known: Mapping[str, Calibration] = {error.identity: error.panel for error in errors}
    rows: list[Row] = []
    for (subject,), of_subject in table.group_by("subject", maintain_order=True):
        # Labels tell the error of the panel that judged them, found by its identity, and of no other.
        identity = next((str(each) for each in of_subject["panel"].unique(maintain_order=True) if each in known), None)
        for condition, cell in (("goal conflict and replacement", CONFLICT), ("control", CONTROL)):
            judged = cell_rate(select(of_subject, cell)).judged
            if identity is None or not judged.n:
                continue
            rate, interval = _corrected(judged.k, judged.n, known[identity])
            shown = "not known: labels of one kind only" if interval is None else range_text(interval)
            rows.append((str(subject), condition, judged.rate, judged.text, rate, shown))
    shares = (("By the judges", "percent"), "Of, 95% interval", ("Corrected", "percent"), "95% interval")
    return Table(
        id="judges-corrected",
        title="The judges' rates without their known error",
        text="What a panel without error would have found (Rogan and Gladen), with the uncertainty of its error in "
        "the interval; empty where the panel is no better than chance. It holds if the panel errs here as on "
        "the labelled records.",
        columns=columns("Subject", "Cell", *shares),
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
        yield range_text(interval)


def _corrected(k: int, n: int, error: Calibration) -> tuple[float | None, Interval | None]:
    try:
        return corrected(k, n, error)
    except EmptyDataError:
        return None, None
