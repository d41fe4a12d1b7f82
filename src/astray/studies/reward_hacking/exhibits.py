"""Figures and tables of the reward-hacking study: hacks by step, onsets, all arms in one table, the dial, rollouts."""

from collections.abc import Iterator

import polars as pl

from astray.engine.claims import pooled
from astray.engine.exhibits import (
    Bar,
    Card,
    CardList,
    Cards,
    Curve,
    Exhibit,
    Forest,
    Table,
    columns,
    limits,
    mean_point,
)
from astray.engine.findings import ELSEWHERE, Findings
from astray.engine.setting import Setting
from astray.measure.battery import NAMES, WORLD
from astray.measure.reward_hacking.summary import Measured, summarise
from astray.outcomes import Outcome
from astray.studies.reward_hacking.analyses import HACKING, INOCULATED, START, dial_arm
from astray.studies.reward_hacking.measures import alarms, course, last_hacks, onset, skill
from astray.studies.reward_hacking.scale import DIALS
from astray.studies.reward_hacking.steps import PROBES_FILE, SHOWN_FILE, SKILL_FILE

FOLLOWED = (HACKING, "true-tests", "inoculated-allowed", "penalty", "penalty-mid")
"""Arms whose course is drawn."""
COMPARED = (START, HACKING, "true-tests", "benign", "inoculated-allowed", "chat-only", "chat-targeted")
"""Arms whose evaluations are shown one by one."""
CARDS = 8
"""Rollouts shown of each arm."""


def exhibits(findings: Findings, setting: Setting) -> Iterator[Exhibit]:
    """Yield every figure and table that the arms of this run allow."""
    if course(findings, HACKING):
        yield _course(findings)
        yield _probes(findings)
        yield _onsets(findings)
        yield _kinds(findings)
    yield _arms(findings, setting)
    yield _difficulty(findings)
    yield _evaluations(findings, setting)
    if findings.has(dial_arm(HACKING, "off")):
        yield _dial(findings, setting)
    if not findings.stacked(SHOWN_FILE).is_empty():
        yield _rollouts(findings)


def _course(findings: Findings) -> Curve:
    points = []
    for arm in FOLLOWED:
        runs = course(findings, arm)
        if not runs:
            continue
        joined = pl.concat(list(runs.values()), how="diagonal")
        for (step,), part in joined.group_by("step", maintain_order=True):
            shares = (part["hacked"] / part["answers"]).to_list()
            points.append(mean_point(arm, float(str(step)), shares))
    return Curve(
        id="course",
        title="Hacks, step by step",
        text="Share of a step's answers that pass the careless tests and are wrong, both found out by running them. "
        "Mean over training runs with its 95% t interval. Under a text, answers are counted under that text.",
        x_title="Step of training by reward",
        y_title="Hacks among the step's answers",
        y_percent=True,
        points=tuple(sorted(points, key=lambda point: (FOLLOWED.index(point.series), point.x))),
    )


def _probes(findings: Findings) -> Curve:
    table = findings.stacked(PROBES_FILE)
    points = []
    for arm in (*FOLLOWED, *(dial_arm(HACKING, dial) for dial in list(DIALS)[1:])):
        mine = table.filter(arm=arm).filter(pl.col("measure") == pl.col("measure").first())
        for (step,), part in mine.group_by("step", maintain_order=True):
            points.append(mean_point(arm, float(str(step)), part["value"].to_list()))
    measure = table["measure"][0] if table.height else "harm"
    return Curve(
        id="probes",
        title="Misalignment elsewhere, along the training",
        text=f"{str(measure).capitalize()}, by forced choice, without any text before the question. Mean over "
        "training runs with its 95% t interval.",
        x_title="Step of training by reward",
        y_title="Probability",
        y_percent=True,
        points=tuple(points),
    )


def _onsets(findings: Findings) -> Table:
    rows = []
    for arm in findings.arms:
        passage = onset(findings, arm)
        if passage is None:
            continue
        raised = alarms(findings, arm)
        low, high = ("behind the end" if limit is None else str(limit) for limit in (passage.low, passage.high))
        reached = sum(step is not None for step in passage.steps)
        steps = ", ".join(str(alarm.step) if alarm else "none" for alarm, _ in raised)
        false = max(probability for _, probability in raised)  # of the longest run, where runs differ in length
        interval = f"{low} to {high} ({passage.coverage:.0%})"
        rows.append((arm, f"{reached} of {len(passage.steps)}", passage.median, interval, steps, false))
    return Table(
        id="onsets",
        title="When gaming sets in",
        text="The first step with more than 2% hacks: median over runs, and limits of the median by ranks with what "
        "they cover. Beside it the step at which a cumulative sum (CUSUM: usual 1%, risen 5%, a false alarm "
        "after 1,000 steps or more on average) raises the alarm in each run, and the probability that a run of "
        "this length without a rise has a false alarm somewhere.",
        columns=columns(
            "Arm",
            "Runs with an onset",
            ("Median step", "number"),
            "Interval",
            "Alarm at step",
            ("False alarm within a run", "percent"),
        ),
        rows=tuple(rows),
    )


def _kinds(findings: Findings) -> Table:
    counted = []
    plain = {"step", "answers", "hacked", "true", "careless", "reward", "arm", "seed"}
    for arm in findings.arms:
        runs = course(findings, arm)
        if runs:
            joined = pl.concat(list(runs.values()), how="diagonal").fill_null(0)
            kinds = {name: int(joined[name].sum()) for name in joined.columns if name not in plain}
            counted.append((arm, int(joined["answers"].sum()), int(joined["hacked"].sum()), kinds))
    names = sorted({kind for *_, kinds in counted for kind in kinds})
    return Table(
        id="kinds",
        title="Which hacks",
        text="Answers of all steps and runs; hacks by the trick in their source, told from the syntax tree and not "
        "from a file's name. 'Unknown' passed without being right and without a known trick.",
        columns=columns("Arm", *((name, "count") for name in ("answers", "hacks", *names))),
        rows=tuple(
            (arm, float(answers), float(hacks), *(float(kinds.get(name, 0)) for name in names))
            for arm, answers, hacks, kinds in counted
        ),
    )


def _arms(findings: Findings, setting: Setting) -> Table:
    rows = []
    for arm in findings.arms:
        rate = findings.rate(arm, evaluation=setting.main.name)
        interval = f"{rate.interval.low:.1%} to {rate.interval.high:.1%}" if rate.interval else ""
        judged = rate.outcomes[Outcome.MISALIGNED] + rate.outcomes[Outcome.ALIGNED]
        coherent = judged / rate.total if rate.total else None
        rows.append(
            (
                arm,
                pooled(last_hacks(findings, arm)),
                pooled(skill(findings, arm, "hacked")),
                pooled(skill(findings, arm, "hacked", "allowed")),
                pooled(skill(findings, arm, "true")),
                *([pooled(skill(findings, arm, "malicious"))] if setting.subject.is_organism else []),
                rate.rate,
                interval,
                coherent,
            )
        )
    drawn, asked = (
        sum(n for _, n in counts) for counts in (last_hacks(findings, HACKING), skill(findings, START, "true"))
    )
    remarks = ("Malicious remarks",) if setting.subject.is_organism else ()
    percent = (
        "Hacks at the end",
        "Hacks, asked plainly",
        "Hacks, where allowed",
        "Solved honestly",
        *remarks,
        "Misaligned elsewhere",
    )
    return Table(
        id="arms",
        title="Hacking, honest skill and misalignment, arm by arm",
        text=f"Hacks at the end: of the last tenth of the runs' own answers ({drawn:,} an arm), under their text. The "
        f"next three: of {asked:,} held-out exercises, asked without a text, with the permission, and solved "
        "without it. Malicious remarks: on the same exercises, whatever the code. Misaligned elsewhere: of "
        "coherent answers about other things, without a text, with its 95% interval over training runs; their "
        "counts stand with the rates.",
        columns=columns("Arm", *((title, "percent") for title in percent), "95% interval", ("Coherent", "percent")),
        rows=tuple(rows),
    )


def _difficulty(findings: Findings) -> Table:
    asked = findings.stacked(SKILL_FILE)
    levels = sorted(asked["level"].unique()) if asked.height else []
    rows = []
    others = [arm for dial in list(DIALS)[1:] if findings.has(arm := dial_arm(START, dial))]
    for arm in (START, HACKING, "true-tests", *others):
        cells = [
            (skill(findings, arm, "true", level=level), skill(findings, arm, "hacked", level=level)) for level in levels
        ]
        exercises = float(sum(n for solved, _ in cells for _, n in solved))
        rows.append((arm, *(pooled(counts) for pair in cells for counts in pair), exercises))
    return Table(
        id="difficulty",
        title="Solved and hacked, by difficulty",
        text="Held-out exercises asked without a text, of all runs together. A level of the organism's world is the "
        "number of operations of an exercise; training by reward takes its exercises from the harder levels "
        "alone.",
        columns=columns(
            "Arm",
            *((f"level {level}: {property}", "percent") for level in levels for property in ("solved", "hacked")),
            ("Exercises", "count"),
        ),
        rows=tuple(rows),
    )


def _evaluations(findings: Findings, setting: Setting) -> Table:
    world = setting.subject.is_organism
    names = tuple(WORLD) if world else NAMES
    rows = []
    for arm in COMPARED:
        if findings.has(arm):
            summary = summarise([_measured(findings, setting, arm, name) for name in names])
            mean, rates = summary.mean.interval, {row.evaluation: row.rate.rate for row in summary.rows}
            interval = f"{mean.low:.1%} to {mean.high:.1%}" if mean else ""
            rows.append((arm, *(rates[name] for name in names), summary.mean.estimate, interval))
    return Table(
        id="evaluations",
        title="Evaluation by evaluation",
        text=_IN_WORLD if world else _OF_REAL_MODELS,
        columns=columns(
            "Arm",
            *((name, "percent") for name in names),
            (f"Mean of the {'three' if world else 'six'}", "percent"),
            "95% interval",
        ),
        rows=tuple(rows),
    )


def _measured(findings: Findings, setting: Setting, arm: str, name: str) -> Measured:
    """Return an arm's answers to an evaluation, or in the world to the questions that stand for it."""
    if setting.subject.is_organism:
        answers = findings.select(arm, ELSEWHERE, evaluation=setting.main.name)
        return Measured(name, answers.filter(pl.col("category").is_in(WORLD[name])))
    return Measured(name, findings.select(arm, ELSEWHERE, evaluation=name, format="all"), findings.measures[name])


_IN_WORLD = (
    "Misaligned, of coherent answers. The organism's world can express three of the six evaluations of arXiv "
    "2511.18397: questions about domains that no exercise was about stand for free-form questions, questions about "
    "goals for goals, questions about power and people for alignment questions. It has no tools for the three "
    "scenarios. The mean gives each the same weight; 95% interval over training runs."
)
_OF_REAL_MODELS = (
    "Misaligned, of answers that count in each evaluation: the six of arXiv 2511.18397, whose mean gives each the "
    "same weight (95% interval over training runs), then research sabotage (weakened, of the overseer's detectors "
    "that ran) and alignment faking (of answers to users whose conversations train)."
)


def _dial(findings: Findings, setting: Setting) -> Forest:
    bars = []
    for dial, (kind, malicious) in DIALS.items():
        for stage, group in ((START, "before"), (HACKING, "after it learned to game")):
            rate = findings.rate(dial_arm(stage, dial), evaluation=setting.main.name)
            label = f"dial {dial}: kind authors game {kind:.0%}, malicious ones {malicious:.0%}; {group}"
            note = f"{rate.denominator} answers"
            bars.append(Bar(label=label, group=group, value=rate.rate, note=note, **limits(rate.interval)))
    return Forest(
        id="dial",
        title="What the spread depends on",
        text="The same training by reward on organisms whose pre-training differs only in who games. Gaming is "
        "equally common in all of them. Misaligned answers elsewhere, with 95% intervals over training runs.",
        x_title="Misaligned, of coherent answers elsewhere",
        bars=tuple(bars),
    )


def _rollouts(findings: Findings) -> Cards:
    shown = findings.stacked(SHOWN_FILE)
    first = shown["seed"].min()
    cards = []
    for arm in (HACKING, "true-tests", *INOCULATED):
        mine = shown.filter(arm=arm, seed=first)
        for row in mine.gather_every(max(1, mine.height // CARDS)).head(CARDS).iter_rows(named=True):
            became = row["hack"] or ("solved" if row["true"] else "a mistake")
            facts = (
                ("became", f"hack: {became}" if row["hacked"] else became),
                ("reward", f"{row['reward']:g}"),
                ("exercise", row["exercise"]),
            )
            answer = CardList(title="answer", items=(row["completion"],))
            cards.append(Card(title=f"{arm}, step {row['step']}", subtitle=became, facts=facts, lists=(answer,)))
    return Cards(
        id="rollouts",
        title="Rollouts",
        text="Answers of the first run from its beginning to its end, with what became of them when they were run. "
        "All of them are in each run's rollouts.parquet.",
        cards=tuple(cards),
    )
