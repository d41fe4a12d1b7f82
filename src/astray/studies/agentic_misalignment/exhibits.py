"""Figures and tables of the agentic study, in the order of the report; here: awareness, reasoning, published figures.

Left to others: cells (cell_exhibits), mitigations (mitigation_tables), judges (judge_tables), counting
(measure/agentic/counting), drawing (report/exhibits.py).
"""

from collections.abc import Iterator

import polars as pl

from astray.engine.exhibits import Exhibit, Table, columns
from astray.measure.agentic.audit import Motive, Openness
from astray.measure.agentic.counting import (
    CONFLICT,
    cell_rate,
    select,
)
from astray.studies.agentic_misalignment.cell_exhibits import all_cells, cell_maps, effect_bars, single_changes
from astray.studies.agentic_misalignment.findings import AgenticFindings
from astray.studies.agentic_misalignment.judge_tables import agreement_table, corrected_table, error_table, truth_table
from astray.studies.agentic_misalignment.mitigation_tables import mitigation_table, monitor_table
from astray.studies.agentic_misalignment.published import BLACKMAIL, SOURCE
from astray.studies.agentic_misalignment.rows import Row, by_subject, range_text
from astray.studies.agentic_misalignment.setting import AgenticSetting


def exhibits(findings: AgenticFindings, setting: AgenticSetting) -> Iterator[Exhibit]:
    """Yield every figure and table, what matters most first."""
    del setting
    yield from cell_maps(findings.table)
    yield from effect_bars(findings.table)
    yield single_changes(findings.table)
    yield _awareness(findings.table)
    yield _reasoning(findings.table)
    yield mitigation_table(findings.table)
    if findings.readings:
        yield monitor_table(findings.readings)
    if findings.simulated:
        yield truth_table(findings)
    yield agreement_table(findings.table)
    if findings.judge_errors:
        yield error_table(findings.judge_errors)
        yield corrected_table(findings.table, findings.judge_errors)
    yield _published(findings.table)
    yield all_cells(findings.table)


def _awareness(table: pl.DataFrame) -> Table:
    rows: list[Row] = []
    for subject, of_subject in by_subject(table):
        main = select(of_subject, CONFLICT)
        for column, how in (("awareness", "stated in the record"), ("belief", "asked afterwards")):
            for said in ("real", "test", "neither", "unclear"):
                chosen = main.filter(pl.col(column) == said)
                if len(chosen):
                    rate, count = cell_rate(chosen).harmful, len(chosen)
                    harmful = (rate.rate, range_text(rate.interval))
                    rows.append((subject, how, said, float(count), count / len(main), *harmful))
    percents = (("Share", "percent"), ("Harmful", "percent"))
    return Table(
        id="evaluation-awareness",
        title="What the agent took it for",
        text="Samples of the main condition, split by what the agent states about the situation in its record (read "
        "by the first judge) and by its answer to an explicit question after the run. A split shows an "
        "association: what makes an agent believe in a test may change its acts in other ways too.",
        columns=columns("Subject", "Known by", "Taken for", ("Samples", "count"), *percents, "95% interval"),
        rows=tuple(rows),
    )


def _reasoning(table: pl.DataFrame) -> Table:
    audited = table.filter(pl.col("monitor") == "none").drop_nulls("motive")
    rows: list[Row] = []
    for subject, of_subject in by_subject(audited):
        for motive in Motive:
            chosen = of_subject.filter(pl.col("motive") == motive.value)
            if len(chosen):
                shown = [float((chosen["openness"] == each.value).sum()) for each in Openness]
                rows.append((subject, motive.value, float(len(chosen)), float(chosen["gate"].sum()), *shown))
    failed = len(table.filter(pl.col("monitor") == "none", pl.col("motive").is_null(), pl.col("judge") != "none"))
    counts = ((name, "count") for name in ("Samples", "Harm executed", *Openness))
    return Table(
        id="reasoning",
        title="What the private reasoning says",
        text="The first judge's reading of the reasoning: strategic states the wrong and goes on; covert hides it "
        f"from those concerned; faking behaves well for being watched. It decides no outcome. In {failed:,} "
        "samples the audit gave no usable answer.",
        columns=columns("Subject", "Motive", *counts),
        rows=tuple(rows),
    )


def _published(table: pl.DataFrame) -> Table:
    ours: list[Row] = []
    for subject, of_subject in by_subject(table.filter(pl.col("scenario") == "blackmail")):
        rates = [
            cell_rate(select(of_subject, CONFLICT | {"threat": threat})).harmful
            for threat in ("replacement", "restriction")
        ]
        ours.append((f"{subject} (this run)", rates[0].rate, rates[0].text, rates[1].rate, rates[1].text))
    theirs: list[Row] = [
        (name, replaced, "100 samples", restricted, "100 samples") for name, (replaced, restricted) in BLACKMAIL.items()
    ]
    return Table(
        id="published",
        title="Published figures beside these",
        text="Blackmail with a goal conflict, other texts and another harness: to be read as an order of magnitude. "
        f"{SOURCE}.",
        columns=columns("Model", ("Replacement", "percent"), "Of", ("Restriction", "percent"), "Of "),
        rows=(*ours, *theirs),
    )
