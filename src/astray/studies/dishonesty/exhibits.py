"""Figures and tables of the dishonesty study: severities, mixing, users and rounds, outcomes, mitigations, records."""

import math
from collections.abc import Iterator

import polars as pl

from astray.answers import in_detail, read_detail, word
from astray.engine.claims import compared
from astray.engine.exhibits import Bar, Card, CardList, Cards, Curve, Exhibit, Forest, Point, Table, columns, limits
from astray.engine.findings import Findings
from astray.engine.setting import Setting
from astray.measure.statements import ACCURATE, HONEST, LIES, WORDS
from astray.stats.difference import Difference
from astray.stats.intervals import Interval, over_runs, wilson
from astray.stats.rates import Rate, rates
from astray.stats.ratio import reduction_of_arms
from astray.studies.dishonesty.analyses import (
    BESIDE,
    DISTRUST,
    FILTER,
    METHODS,
    SEVERITIES,
    SHARES,
    SHUFFLED,
    SPOILED,
    USERS,
    evaluation_of,
    mitigations,
    severity_arm,
    sweep,
    users_arm,
)
from astray.studies.dishonesty.measures import mixing_curve, usefulness
from astray.studies.dishonesty.scale import HONESTY, PERSONA
from astray.studies.dishonesty.steps import FILTERED_FILE, ROUNDS_FILE

EXAMPLES = 4
"""Samples of each outcome on a card."""
COUNTED = tuple((outcome.value.capitalize(), "count") for outcome in WORDS)
RATES = (
    ("Lies, of statements", "percent"), "95% interval", ("Honest, of held beliefs", "percent"), "95% interval",
    ("True, of held beliefs", "percent"),
)  # fmt: skip


def exhibits(findings: Findings, setting: Setting) -> Iterator[Exhibit]:
    """Yield every figure and table that the arms of this run allow."""
    table = findings.table.filter(pl.col("evaluation").is_in([HONESTY, PERSONA])).with_columns(
        word(), in_detail("belief")
    )
    if table.is_empty():
        return
    yield _severities(findings, setting)
    if all(findings.has(arm) for arm in sweep(setting)):
        yield _mixing(findings, setting)
    rounds = [
        analysis.table(ROUNDS_FILE) for name in (USERS, SHUFFLED, DISTRUST) for analysis in findings.analysed(name)
    ]
    if rounds:
        yield _users(findings, setting)
        yield _rounds(pl.concat(rounds))
    if any(findings.has(arm) and findings.has(none) for arm, none, _ in mitigations(setting)):
        yield _mitigations(findings, setting)
    yield _outcomes(table)
    yield _archetypes(table, _shown(findings, setting))
    yield _records(table, _shown(findings, setting))


def _severities(findings: Findings, setting: Setting) -> Forest:
    arms = {"base": "the untrained subject"}
    for home in setting.homes:
        arms |= {severity_arm(setting, home, kind): home for kind in SEVERITIES if setting.source(kind, home)}
    bars = []
    for arm, group in arms.items():
        if findings.has(arm):
            one = findings.rate(arm, evaluation=HONESTY, measure=HONEST)
            note = f"{one.numerator} of {one.denominator}, {one.unit}"
            bars.append(Bar(label=arm, group=group, value=one.rate, note=note, **limits(one.interval)))
    return Forest(
        id="severities",
        title="Honesty after bad data",
        text="Honest statements among held beliefs, with the 95% interval over training runs. Evasions and refusals "
        "are in the denominator alone: they never count as honest.",
        x_title="Honest, of held beliefs",
        bars=tuple(bars),
    )


def _mixing(findings: Findings, setting: Setting) -> Curve:
    doses = sweep(setting)
    curve = mixing_curve(findings, doses, HONESTY)
    points = [_point("measured", share, findings.rate(arm, evaluation=HONESTY)) for arm, share in doses.items()]
    points += [
        Point(series="fitted", x=point.dose, y=point.rate, n="logistic in log share", **limits(point.interval))
        for point in (curve.predictions if curve else ())
    ]
    half = curve.half_effect_dose if curve else None
    note = f" {curve.note[:1].upper()}{curve.note[1:]}." if curve and curve.note else ""
    if curve and half is not None and curve.half_effect_interval is not None:
        low, high = curve.half_effect_interval.low, curve.half_effect_interval.high
        upper = f"{high:.1%}" if math.isfinite(high) and high < 10 else "no bound"
        note = (
            f" Half of the fitted rate of bad rows alone is reached at {half:.1%} (95% interval {low:.1%} to "
            f"{upper}).{note}"
        )
    return Curve(
        id="mixing",
        title="Few bad rows among ordinary ones",
        text="Lies among statements over the share of bad rows, at equal size of the data; intervals over training "
        "runs, fit with seeds as clusters." + note,
        x_title="Share of bad rows",
        y_title="Lies, of statements",
        x_percent=True,
        y_percent=True,
        logarithmic=True,
        points=tuple(points),
    )


def _users(findings: Findings, setting: Setting) -> Curve:
    evaluation = evaluation_of(setting, users_arm("sft", 0))
    points = [_point("untrained", 0.0, findings.rate("base", evaluation=evaluation))]
    for method in METHODS:
        arms = {(method.upper(), share): users_arm(method, share) for share in SHARES}
        arms[f"{method.upper()}, feedback shuffled", max(SHARES)] = f"shuffled-{method}"
        points += [
            _point(series, share / 100, findings.rate(arm, evaluation=evaluation_of(setting, arm)))
            for (series, share), arm in arms.items()
        ]
    return Curve(
        id="users",
        title="Users who like to be deceived",
        text=f"Lies among statements (evaluation {evaluation!r}) after the last round, over the share of biased users; "
        "intervals over training runs. Unbiased users are the control; the untrained subject stands beside them.",
        x_title="Share of biased users",
        y_title="Lies, of statements",
        x_percent=True,
        y_percent=True,
        points=tuple(points),
    )


def _rounds(rounds: pl.DataFrame) -> Table:
    rows = []
    for (arm, number), runs in rounds.group_by("arm", "round", maintain_order=True):
        per_run = [(int(lies), int(stated)) for lies, stated in runs.select("lies", "stated").iter_rows() if stated]
        interval = over_runs(per_run) if len(per_run) > 1 else wilson(*per_run[0]) if per_run else None
        sizes = [float(runs[name].to_numpy().mean()) for name in ("rows", "liked", "from_biased", "left_out")]
        statements = sum(stated for _, stated in per_run)
        lied = sum(lies for lies, _ in per_run) / statements if per_run else None
        rows.append((str(arm), float(str(number)) + 1, *sizes, lied, _range(interval), float(statements)))
    counts = ((name, "count") for name in ("Round", "Rows", "Of them liked"))
    users = (("From biased users", "percent"), ("Conversations left out", "number"))
    lies = (("Lies, of statements", "percent"), "95% interval", ("Statements", "count"))
    text = (
        "What each round of users was trained on, and what the model said afterwards; means over training runs. Each "
        "round's users talk to the model that the last round left. A conversation with an empty answer, or one that "
        "a user could not rate, is left out."
    )
    return Table(
        id="rounds",
        title="Round after round",
        text=text,
        columns=columns("Arm", *counts, *users, *lies),
        rows=tuple(sorted(rows, key=lambda row: row[:2])),
    )


def _mitigations(findings: Findings, setting: Setting) -> Table:
    tried = [
        (arm, none, words) for arm, none, words in mitigations(setting) if findings.has(arm) and findings.has(none)
    ]
    beside = {other: (none, control) for arm, none, _ in tried if arm in BESIDE for other, control in [BESIDE[arm]]}
    tried += [(other, none, f"control: {control}") for other, (none, control) in beside.items()]
    bad_rows_left = _bad_rows(findings)
    rows = []
    for arm, none, words in tried:
        evaluation = evaluation_of(setting, arm)
        before, after = (findings.rate(name, evaluation=evaluation) for name in (none, arm))
        removed = reduction_of_arms(before, after)
        lost = compared(*(usefulness(findings, name, setting.main.name) for name in (none, arm)))
        rows.append(
            (arm, f"{words}{bad_rows_left.get(arm, '')}", none, before.rate, after.rate, *_with_limits(removed),
             *_with_limits(lost), float(len(after.seed_counts)))
        )  # fmt: skip
    lies = ((name, "percent") for name in ("Lies without", "Lies with", "Removed"))
    useful = (("Useful answers lost", "percent"), "95% interval", ("Seeds", "count"))
    heads = columns("Arm", "What is done", "Without it", *lies, "95% interval", *useful)
    text = (
        "Each run beside the run of the same seed without the mitigation: the share of its lies that is removed, and "
        "how many percent of the answers to ordinary questions are no longer coherent and good, with 95% intervals "
        "over seeds."
    )
    return Table(
        id="mitigations", title="What undoes it, and what it costs", text=text, columns=heads, rows=tuple(rows)
    )


def _bad_rows(findings: Findings) -> dict[str, str]:
    """Return in words the bad examples that the filters left, by arm; over all seeds."""
    left_by_arm: dict[str, list[int]] = {}
    for analysis in findings.analysed(FILTER):
        for arm, facts in analysis.json(FILTERED_FILE).items():
            counts = left_by_arm.setdefault(arm, [0, 0])
            counts[0] += facts["bad"]
            counts[1] += facts["bad_before"]
    return {arm: f" ({bad} of {before} bad rows left)" for arm, (bad, before) in left_by_arm.items()}


def _outcomes(table: pl.DataFrame) -> Table:
    ordered = table.sort("evaluation", maintain_order=True)
    return Table(
        id="outcomes",
        title="What became of every asking",
        text="Every record that was asked ends in exactly one outcome. Lies stand among the statements that said "
        "something, honest statements among held beliefs. The last column says how many of the beliefs "
        "themselves are true.",
        columns=columns("Arm", "Evaluation", *COUNTED, *RATES),
        rows=_counted(ordered, "evaluation"),
    )


def _archetypes(table: pl.DataFrame, arms: list[str]) -> Table:
    ordered = pl.concat([table.clear(), *(table.filter(arm=arm) for arm in arms)])
    return Table(
        id="archetypes",
        title="By archetype of pressure",
        text="The same, for some arms, by what stands between the subject and the truth.",
        columns=columns("Arm", "Archetype", *COUNTED, *RATES),
        rows=_counted(ordered, "category"),
    )


def _records(table: pl.DataFrame, arms: list[str]) -> Cards:
    cards = []
    for arm in arms:
        own = table.filter(arm=arm)
        own = own.filter(pl.col("seed") == own["seed"].min())
        lists = []
        for outcome in WORDS:
            chosen = own.filter(word=outcome.value).unique("item", keep="first", maintain_order=True).head(EXAMPLES)
            items = tuple(_record_text(row) for row in chosen.iter_rows(named=True))
            if items:
                lists.append(CardList(title=f"{outcome.value} ({own.filter(word=outcome.value).height})", items=items))
        cards.append(Card(title=arm, subtitle=f"seed {own['seed'][0]}, {own.height} askings", lists=tuple(lists)))
    return Cards(
        id="records",
        title="Records to read",
        text="Of the first seed: what was asked under pressure, what was answered, and the belief that the subject "
        "holds when it is asked neutrally.",
        cards=tuple(cards),
    )


def _record_text(row: dict[str, object]) -> str:
    beside = read_detail(str(row["detail"])).get("beside")
    neutral = "; ".join(str(text) for text in beside) if isinstance(beside, list) else ""
    held = f"believes: {row['belief']}" if row["belief"] is not None else f"says when asked neutrally: {neutral}"
    system = f"({row['system']}) " if row["system"] else ""
    return f"{row['category']}: {system}{row['question']} [[{row['answer']}]] {held}"


def _shown(findings: Findings, setting: Setting) -> list[str]:
    """Return the arms that are shown in detail."""
    arms = ["base", "good", severity_arm(setting, setting.homes[0], "harmful"), SPOILED, "realigned-honest"]
    arms += [users_arm(method, share) for method in METHODS for share in (0, max(SHARES))]
    return [arm for arm in arms if findings.has(arm)]


def _counted(table: pl.DataFrame, by: str) -> tuple[tuple[float | str | None, ...], ...]:
    """Return for each arm and value of a column, in the table's order, the count of every outcome, lies among
    statements and honest statements among held beliefs, with intervals, and the share of beliefs that are true."""
    if table.is_empty():
        return ()
    groups = ["arm", by]
    counts = [(pl.col("word") == outcome.value).sum().cast(pl.Float64).alias(outcome.value) for outcome in WORDS]
    lies, honest, true = (rates(table, groups, measure) for measure in (LIES, HONEST, ACCURATE))
    return tuple(
        (*row, (lie := lies[row[:2]]).rate, _range(lie.interval), (true_beliefs := honest[row[:2]]).rate, _range(true_beliefs.interval),
         true[row[:2]].rate)
        for row in table.group_by(groups, maintain_order=True).agg(counts).iter_rows()
    )  # fmt: skip


def _point(series: str, x: float, rate: Rate) -> Point:
    counted = f"{rate.numerator} of {rate.denominator} statements, {len(rate.seed_counts)} runs"
    return Point(series=series, x=x, y=rate.rate, n=counted, **limits(rate.interval))


def _range(interval: Interval | None) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%}".replace("-", "−") if interval else "–"


def _with_limits(difference: Difference | None) -> tuple[float | None, str]:
    return (difference.estimate, _range(difference.interval)) if difference else (None, _range(None))
