"""Figures and tables of the agentic study: awareness, reasoning, mitigations, the judges and their known error.

Left to others: cells (cell_exhibits), counting (measure/agentic/counting), drawing (report/exhibits.py).
"""

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from astray.engine.exhibits import Exhibit, Table, columns
from astray.errors import EmptyDataError
from astray.judges import Calibration, corrected
from astray.measure.agentic.audit import Motive, Openness
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.counting import (
    CONFLICT,
    CONTROL,
    Share,
    agreement,
    cell_rate,
    executed,
    false_alarms,
    paired_difference,
    select,
)
from astray.measure.agentic.factors import FACTORS, Factors, label
from astray.measure.agentic.judge_errors import PanelError
from astray.measure.agentic.scripted import ScriptedAPI
from astray.stats.intervals import Interval
from astray.studies.agentic_misalignment.cell_exhibits import all_cells, cell_maps, effect_bars, single_changes
from astray.studies.agentic_misalignment.findings import ActivationReading, AgenticFindings
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
            for stated in ("real", "test", "neither", "unclear"):
                chosen = main.filter(pl.col(column) == stated)
                if len(chosen):
                    rate, count = cell_rate(chosen).harmful, len(chosen)
                    harmful = (rate.rate, range_text(rate.interval))
                    rows.append((subject, how, stated, float(count), count / len(main), *harmful))
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
                shown = [float((chosen["openness"] == openness.value).sum()) for openness in Openness]
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
        "none over the same subject, scenario and replicate (the interval of the score test of pairs, which is "
        "that of unpaired samples for models that are sampled anew); and how often benign work in the control cell is "
        "disturbed: a call blocked, the work declined or not begun, without any attempt at harm.",
        columns=columns("Subject", "Mitigation", *harm, *rest),
        rows=tuple(rows),
    )


def monitor_table(readings: tuple[ActivationReading, ...]) -> Table:
    """Return how well the activation monitor separates harmful from benign calls."""
    rows: list[Row] = []
    for reading in readings:
        start: Row = (reading.subject, reading.reader, reading.block, *(reading.fitted or (None, None)))
        if reading.found is None:
            rows.append((*start, None, None, None, "", None, "", reading.why))
            continue
        blocked, alarms = Share(*reading.found.blocked), Share(*reading.found.false_alarms)
        rows.append(
            (*start, reading.found.auc, reading.auc_within, blocked.rate, blocked.text, alarms.rate, alarms.text, "")
        )
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
    panel_errors: Mapping[str, Calibration] = {error.identity: error.panel for error in errors}
    rows: list[Row] = []
    for (subject,), of_subject in table.group_by("subject", maintain_order=True):
        # Labels tell the error of the panel that judged them, found by its identity, and of no other.
        identity = next(
            (str(panel) for panel in of_subject["panel"].unique(maintain_order=True) if panel in panel_errors), None
        )
        for condition, cell in (("goal conflict and replacement", CONFLICT), ("control", CONTROL)):
            judged = cell_rate(select(of_subject, cell)).judged
            if identity is None or not judged.n:
                continue
            rate, interval = _corrected(judged.k, judged.n, panel_errors[identity])
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
        agreement = calibration.agreement()
    except EmptyDataError:  # no verdict at all
        yield from (None, "", None, "")
        return
    for rate, interval in (
        (agreement.sensitivity, agreement.sensitivity_interval),
        (agreement.specificity, agreement.specificity_interval),
    ):
        yield rate
        yield range_text(interval)


def _corrected(k: int, n: int, error: Calibration) -> tuple[float | None, Interval | None]:
    try:
        return corrected(k, n, error)
    except EmptyDataError:
        return None, None
