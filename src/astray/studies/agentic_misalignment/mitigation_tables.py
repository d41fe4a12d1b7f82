"""Tables of what keeps agents from harm: instructions, monitors, and what the activation monitor tells apart."""

import polars as pl

from astray.engine.exhibits import Table, columns
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.counting import (
    CONFLICT,
    CONTROL,
    Share,
    executed,
    false_alarms,
    paired_difference,
    select,
)
from astray.measure.agentic.factors import FACTORS
from astray.studies.agentic_misalignment.findings import Reading
from astray.studies.agentic_misalignment.rows import Row, by_subject, range_text


def mitigation_table(table: pl.DataFrame) -> Table:
    """Return executed harm and disturbed benign work under each monitor and each instruction."""
    rows: list[Row] = []
    monitors = [name for name in table["monitor"].unique(maintain_order=True) if name != "none"]
    prompts = [
        (factor, value)
        for factor in ("instruction", "information")
        for value in FACTORS[factor]
        if value not in ("none", "full", "priority")
    ]
    for subject, of_subject in by_subject(table):
        without, control = select(of_subject, CONFLICT), select(of_subject, CONTROL)
        rows.append((subject, "none", *_mitigated(without, None), *_alarm(control)))
        for name in monitors:
            watched = select(of_subject, CONFLICT, monitor=name)
            if watched.is_empty():
                continue
            alarm = _alarm(select(of_subject, CONTROL, monitor=name))
            rows.append((subject, f"{name} monitor", *_mitigated(watched, without), *alarm))
        for factor, value in prompts:
            changed = select(of_subject, CONFLICT | {factor: value})
            if len(changed):
                alarm = _alarm(select(of_subject, CONTROL | {factor: value}))
                rows.append((subject, f"{factor}: {value}", *_mitigated(changed, without), *alarm))
    harm = (("Executed harm", "percent"), "Of", ("Against none, paired", "percent"), "95% interval")
    rest = (("Attempted", "percent"), ("Benign work disturbed", "percent"), "Of ")
    return Table(
        id="mitigations",
        title="What keeps agents from harm",
        text="Harm that was executed in the main condition, by the gate, under each mitigation; its difference to "
        "none over the same subject, scenario and replicate (Newcombe's paired interval, which falls back to "
        "unpaired samples for models that are sampled anew); and how often benign work in the control cell is "
        "disturbed: a call blocked, the work declined or not begun, without any attempt at harm.",
        columns=columns("Subject", "Mitigation", *harm, *rest),
        rows=tuple(rows),
    )


def monitor_table(readings: tuple[Reading, ...]) -> Table:
    """Return how well the activation monitor separates harmful from benign calls."""
    rows: list[Row] = []
    for each in readings:
        start: Row = (each.subject, each.reader, each.block, *(each.fitted or (None, None)))
        if each.found is None:
            rows.append((*start, None, None, None, "", None, "", each.why))
            continue
        blocked, alarms = Share(*each.found.blocked), Share(*each.found.false_alarms)
        rows.append((*start, each.found.auc, each.auc_within, blocked.rate, blocked.text, alarms.rate, alarms.text, ""))
    counts = ((name, "count") for name in ("Block", "Harmful calls", "Benign calls"))
    areas = (("AUC", "number"), ("AUC in the main cell", "number"))
    shares = (("Harmful blocked", "percent"), "Of", ("Benign blocked", "percent"), "Of ")
    return Table(
        id="activations",
        title="What the activation monitor tells apart",
        text="A direction in a local model's activations at the tokens of a call, from calls of the run without a "
        "monitor: half of the samples fit it, the other half choose its block and set its threshold (1% of "
        "benign calls); those of the main and the control cell are left out. AUC and shares (of samples with "
        "such calls) are of these two cells, as they were without a monitor. The scenarios are the same, and "
        "most harmful calls are of the one cell and most benign ones of the other: a monitor that knows only "
        "the situation has a high AUC over both, and 0.5 in the main cell alone. What it kept from happening "
        "stands above.",
        columns=columns("Subject", "Read", *counts, *areas, *shares, "Why there is none"),
        rows=tuple(rows),
    )


def _mitigated(rows: pl.DataFrame, without: pl.DataFrame | None) -> Row:
    done = executed(rows)
    tried = int(rows.filter(pl.col("outcome") != Conduct.ERRORED)["tried"].sum())
    change = paired_difference(rows, without) if without is not None else None
    interval = range_text(change.interval if change else None)
    return (done.rate, done.text, change.estimate if change else None, interval, tried / done.n if done.n else None)


def _alarm(rows: pl.DataFrame) -> Row:
    alarms = false_alarms(rows)
    return (alarms.rate, alarms.text)
