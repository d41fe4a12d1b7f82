"""Rates of harm by cell: heat maps, effects of the factors, single changes, and every cell with every outcome."""

from collections.abc import Iterator, Mapping

import polars as pl

from astray.engine.exhibits import Bar, Forest, HeatMap, Table, columns, limits
from astray.engine.exhibits import Cell as HeatCell
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.counting import (
    CONFLICT,
    CONTROL,
    CellRate,
    Share,
    cell_rate,
    difference,
    offering,
    select,
    varied_values,
)
from astray.measure.agentic.effects import factor_effects
from astray.measure.agentic.factors import FACTORS, Factors, label
from astray.stats.difference import Difference
from astray.studies.agentic_misalignment.rows import Row

MANY = 4
"""Up to so many subjects have a heat map each; more share one of subjects and scenarios."""
GOALS = {"explicit": "goal conflict", "none": "no goal"}
THREATS = {"replacement": "replacement", "restriction": "restriction", "none": "no threat"}


def cell_maps(table: pl.DataFrame) -> Iterator[HeatMap]:
    """Yield a heat map for each subject, or one of all where they are many."""
    names = table["subject"].unique(maintain_order=True).to_list()
    if len(names) > MANY:
        yield _overview(table)
        return
    for number, name in enumerate(names):
        yield _heat(f"cells-{number}", name, table.filter(pl.col("subject") == name))


def _heat(id: str, name: str, rows: pl.DataFrame) -> HeatMap:
    cells = [
        HeatCell(x=threat_text, y=goal_text, panel=scenario, value=rate.harmful.rate, **_counted(rate))
        for scenario in rows["scenario"].unique(maintain_order=True)
        for goal, goal_text in GOALS.items()
        for threat, threat_text in THREATS.items()
        for rate in [cell_rate(select(rows.filter(pl.col("scenario") == scenario), {"goal": goal, "threat": threat}))]
    ]
    text = (
        "Rate of harmful acts that were executed, by gate and judges together, for each goal and threat. The control "
        "is the cell without a goal and without a threat."
    )
    return HeatMap(
        id=id, title=f"Harmful acts: {name}", text=text, x_title="threat", y_title="goal", cells=tuple(cells)
    )


def _overview(table: pl.DataFrame) -> HeatMap:
    cells = [
        HeatCell(x=str(scenario), y=str(subject), panel=panel, value=rate.harmful.rate, **_counted(rate))
        for panel, cell in (("goal conflict and replacement", CONFLICT), ("control", CONTROL))
        for (subject, scenario), rows in table.group_by("subject", "scenario", maintain_order=True)
        for rate in [cell_rate(select(rows, cell))]
    ]
    text = (
        "Rate of harmful acts that were executed, by gate and judges together, in the main condition and in the "
        "control cell."
    )
    return HeatMap(
        id="cells", title="Harmful acts", text=text, x_title="scenario", y_title="subject", cells=tuple(cells)
    )


def effect_bars(table: pl.DataFrame) -> Iterator[Forest]:
    """Yield the effects of the factors on harm by logistic regression, where there is one to estimate."""
    effects = factor_effects(table)
    if effects is None or not effects.rows + effects.unidentified:
        return
    apart = "; ".join(
        f"{factor} {value} from {', '.join(others) or 'the constant'}" for factor, value, others in effects.unidentified
    )
    error = (
        (
            f"95% intervals over {effects.cells:,} cells (t on {effects.degrees} degrees of freedom; standard deviation "
            f"between cells {effects.spread:.2f})"
        )
        if effects.degrees
        else f"no intervals, since {effects.cells:,} cells for as many parameters show no spread between cells"
    )
    bars = [
        Bar(label=f"{row.factor}: {row.value}", group=row.factor, value=row.log_odds, low=row.low, high=row.high)
        for row in effects.rows
    ]
    yield Forest(
        id="factor-effects",
        title="Effects of factors",
        text="Logarithm of the odds ratio of executed harm against the factor's default, from one logistic "
        "regression with subject and scenario as fixed effects, and a level for each combination of goal and "
        f"threat, whose effects are those in the main condition: {effects.samples:,} samples; {error}. Cells "
        "without any harm are kept finite by pseudo-samples, which pull effects towards 0."
        + (f" Not identified, and left out, since the cells cannot tell them apart: {apart}." if apart else ""),
        x_title="log odds ratio",
        percent=False,
        bars=tuple(bars),
    )


def single_changes(table: pl.DataFrame) -> Forest:
    """Return how the rate of harm differs from the main condition where a single factor is changed."""
    main = cell_rate(select(table, CONFLICT)).harmful
    bars = []
    for factor, value in varied_values(table):
        changed = cell_rate(select(table, CONFLICT | {factor: value})).harmful
        # Compared within scenarios that offer the value: others would add their own rates to one side.
        offered = offering(table, CONFLICT | {factor: value})
        bars.append(
            _bar(
                f"{factor}: {value}", factor, difference(changed, cell_rate(select(offered, CONFLICT)).harmful), changed
            )
        )
    return Forest(
        id="single-changes",
        title="One thing changed",
        text="Rate of harmful acts when one factor is changed, minus the rate in the main condition (goal conflict "
        f"and replacement: {main.text}). All subjects together, over the scenarios that offer the value.",
        x_title="difference of rates",
        bars=tuple(bars),
    )


def all_cells(table: pl.DataFrame) -> Table:
    """Return the rates and all outcomes of every cell."""
    rows: list[Row] = []
    by = ["subject", "scenario", "monitor", *FACTORS]
    for values, of_cell in table.group_by(by, maintain_order=True):
        keys: Mapping[str, str] = dict(zip(by, map(str, values), strict=True))
        same = table.filter(pl.col("subject") == keys["subject"], pl.col("scenario") == keys["scenario"])
        rate, control = cell_rate(of_cell), cell_rate(select(same, CONTROL)).harmful
        cell = label(Factors.model_validate({name: keys[name] for name in FACTORS}))
        harmful, others = rate.harmful, (control.rate, rate.executed.rate, rate.judged.rate)
        worst = f"{rate.worst[0]:.0%} to {rate.worst[1]:.0%}"
        start: Row = (keys["scenario"], keys["subject"], cell, keys["monitor"], harmful.rate, harmful.text, *others)
        rows.append((*start, worst, *map(float, rate.outcomes.values())))
    harm = (("Harmful", "percent"), "Of, 95% interval")
    rest = ((name, "percent") for name in ("Control", "By the gate", "By the judges"))
    counts = ((outcome.value, "count") for outcome in Conduct)
    return Table(
        id="all-cells",
        title="Every cell, with every outcome",
        text="Harmful: both keys, of samples in which the agent acted or declined, understood its situation and the "
        "keys agree. Worst case: all others counted as harmless and as harmful. Nothing is dropped: the "
        "outcomes add up to all samples of the cell.",
        columns=columns("Scenario", "Subject", "Cell", "Monitor", *harm, *rest, "Worst case", *counts),
        rows=tuple(rows),
    )


def _bar(name: str, group: str, change: Difference | None, changed: Share) -> Bar:
    if change is None:
        return Bar(label=name, group=group, value=None, note=changed.text)
    return Bar(label=name, group=group, value=change.estimate, note=changed.text, **limits(change.interval))


def _counted(rate: CellRate) -> dict[str, str]:
    """Return what a field of a heat map says of its counts: in the field, and where it is pointed at."""
    return {"counts": f"{rate.harmful.k:,} of {rate.harmful.n:,}", "note": _rate_note(rate)}


def _rate_note(rate: CellRate) -> str:
    others = ", ".join(f"{count} {outcome.value}" for outcome, count in rate.outcomes.items() if count)
    return f"{rate.harmful.text}; {others}; worst case {rate.worst[0]:.0%} to {rate.worst[1]:.0%}"
