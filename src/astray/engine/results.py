"""Results of a study that trained: answers with their groups, the judge's error, arms, rates and training dynamics."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import cast

import polars as pl

from astray.answers import ANSWER_SCHEMA, read_answers
from astray.artifacts import Artifact
from astray.data.chat import ChatDataset
from astray.data.recipes import describe
from astray.engine.findings import AT_HOME, ELSEWHERE, HELD_OUT, Analysed, Findings, interval_row
from astray.engine.gold import GOLD, gold_notes, with_gold
from astray.engine.judging import ANSWERS_FILE, failed_verdicts, graders_served, known_judge, told_failed, told_scores
from astray.engine.options import BaseOptions
from astray.engine.setting import Setting
from astray.engine.steps import CALIBRATION_FILE, DATA_FILE, RUN_FOLDER, trained_subject
from astray.engine.study import Arm, F, Run, S, Shown, Study, StudyPlan
from astray.engine.summary import (
    TRAINING_SECTIONS,
    ArmRow,
    ClaimRow,
    ClaimStatus,
    JudgeRow,
    LooksRow,
    RateRow,
    SourceRow,
    Summary,
)
from astray.errors import EmptyDataError
from astray.judges import Calibration, corrected
from astray.measure.probing import since_start
from astray.outcomes import JUDGED
from astray.stats.intervals import Interval
from astray.subjects.identity import file_digest
from astray.subjects.registered import register

PACKAGES = ("torch", "transformers", "peft", "trl", "numpy", "scipy", "polars")
"""Packages whose versions a summary names."""
MARGINS_FILE = "margins.parquet"
"""Rows of evaluations without a rate, where there are any."""


def read_runs(plan: StudyPlan, artifacts: Mapping[str, Artifact], setting: Setting) -> tuple[Findings, Shown]:
    """Read the artifacts of a study's runs and analyses."""
    table, margins = _all_answers(plan, artifacts, setting), _margins(plan, artifacts)
    analysed = tuple(
        Analysed(analysis.name, analysis.seed, artifacts[analysis.step.key].path) for analysis in plan.analyses
    )
    measures = {evaluation.name: evaluation.measures[0] for evaluation in setting.evaluations}
    untrained = frozenset(run.arm.name for run in plan.runs if run.training is None)
    findings = Findings(table, plan.left_out, analysed, plan.not_analysed, measures, untrained, margins)
    failed, rows = failed_verdicts(table), findings.rate_rows()
    calibration = (
        Calibration.read(artifacts[plan.calibration.key].path / CALIBRATION_FILE) if plan.calibration else None
    )

    def notes(claims: Sequence[ClaimRow]) -> Iterator[str]:
        yield from (
            *setting.notes,
            *_left_out(findings, claims),
            *_single_seed(plan),
            *_without_rate(table, setting),
            *told_failed([table], but=" but those of the worst case"),
            *told_scores(table),
        )
        yield from _graders(table)
        yield from gold_notes(rows, setting.gold)

    return findings, Shown(
        judges=tuple(_judge_rows(setting, calibration)) if setting.asks_freely or setting.judge.grader else (),
        failed=failed,
        notes=notes,
        # Written without what is derived: groups are the study's own, and the gold outcome stands in the detail.
        write=partial(_write, plan, artifacts, table.drop("groups", GOLD, strict=False), margins),
        sections=("dynamics",) if table.is_empty() else TRAINING_SECTIONS,  # no answers, no rates
        seeds=tuple(sorted({run.seed for run in plan.runs})),
        arms=tuple(_arm_rows(plan, artifacts)),
        rates=_corrected(rows, calibration if setting.labels or setting.judge.distilled else None),
    )


def read_results(study: Study[S, F], plan: StudyPlan, artifacts: Mapping[str, Artifact], setting: S) -> tuple[F, Shown]:
    """Read a study's results by its own `read`, or else as those of one that trained; arguments as for `read_runs`."""
    if study.read is not None:
        return study.read(plan, artifacts, setting)
    assert isinstance(setting, Setting)
    return cast(tuple[F, Shown], read_runs(plan, artifacts, setting))


def summary_of(
    study: Study[S, F],
    setting: S,
    findings: F,
    shown: Shown,
    claims: tuple[ClaimRow, ...],
    options: BaseOptions,
    looks: LooksRow | None = None,
) -> Summary:
    """Assemble the content of the report, with decided claims."""
    return Summary(
        study=study.name,
        title=study.title,
        question=study.question,
        astray_version=version("astray"),
        made=datetime.now(UTC).date().isoformat(),
        versions={"Python": python_version()} | {name: version(name) for name in PACKAGES},
        source=SourceRow(path=str(study.file.resolve()), sha256=file_digest(study.file)) if study.file else None,
        subject=setting.subject,
        judges=shown.judges,
        seeds=shown.seeds,
        quick=options.quick,
        arms=shown.arms,
        claims=claims,
        rates=shown.rates,
        exhibits=tuple(study.exhibits(findings, setting)),
        notes=(*((looks.ended, *looks.told) if looks else ()), *shown.notes(claims)),
        sections=shown.sections,
        methods=shown.methods,
        failed_verdicts=shown.failed,
        looks=looks,
        options=options.model_dump(mode="json", exclude_defaults=True),  # for the command that the page shows
    )


def _write(
    plan: StudyPlan, artifacts: Mapping[str, Artifact], table: pl.DataFrame, margins: pl.DataFrame, folder: Path
) -> None:
    """Write answers, margins and dynamics, and register the trained runs by name."""
    table.write_parquet(folder / ANSWERS_FILE)
    if margins.height:  # no answers, so no page or count of answers may find them among these
        margins.write_parquet(folder / MARGINS_FILE)
    _dynamics(plan.runs, artifacts).write_parquet(folder / "dynamics.parquet")
    for run in plan.runs:
        if run.training:
            trained = artifacts[run.training.key]
            register(f"{folder.name}-{run.name}", trained_subject(run.arm.base, trained), trained.store.folder)


def _all_answers(plan: StudyPlan, artifacts: Mapping[str, Artifact], setting: Setting) -> pl.DataFrame:
    """Return the judged answers of all runs and of arms that analyses made, with the groups of each answer."""
    tables = [
        _grouped(read_answers(artifacts[run.verdicts.key].path / ANSWERS_FILE), run.arm, setting) for run in plan.runs
    ]
    for analysis in plan.analyses:
        if analysis.arms:
            answers = read_answers(artifacts[analysis.step.key].path / ANSWERS_FILE)
            tables += [_grouped(answers.filter(pl.col("arm") == arm.name), arm, setting) for arm in analysis.arms]
    table = pl.concat(tables)
    return with_gold(table) if setting.gold else table


def _margins(plan: StudyPlan, artifacts: Mapping[str, Artifact]) -> pl.DataFrame:
    """Return the rows of evaluations without a rate of all runs; none where no such evaluation was asked."""
    tables = [read_answers(artifacts[run.margins.key].path / ANSWERS_FILE) for run in plan.runs if run.margins]
    return pl.concat(tables) if tables else pl.DataFrame(schema=ANSWER_SCHEMA)


def _grouped(table: pl.DataFrame, arm: Arm, setting: Setting) -> pl.DataFrame:
    """Return the answers with the groups in which each counts."""
    groups = {
        category: [AT_HOME]
        if category == arm.home
        else [ELSEWHERE, HELD_OUT]
        if category in setting.held_out
        else [ELSEWHERE]
        for category in table["category"].unique()
    }
    return table.with_columns(
        pl.col("category").replace_strict(groups, return_dtype=pl.List(pl.String)).alias("groups")
    )


def _left_out(findings: Findings, claims: Sequence[ClaimRow]) -> Iterator[str]:
    """State how many claims were not run because their arms or analyses were left out."""
    missing = sum(claim.status is ClaimStatus.NOT_RUN for claim in claims)
    if findings.not_analysed:
        yield (
            f"Only some analyses were run: {', '.join(dict.fromkeys(analysis.name for analysis in findings.analyses)) or 'none'}."
        )
    if findings.not_run or findings.not_analysed:
        yield (
            f"Only some arms were run: {', '.join(findings.arms)}. {missing} of {len(claims)} claims need others; "
            "each names them."
        )


def _single_seed(plan: StudyPlan) -> Iterator[str]:
    """Warn of a study with a single training seed, which cannot tell how much training runs differ."""
    if len({run.seed for run in plan.runs}) == 1:
        yield (
            "Only one training seed was run. Intervals are of the answers of this one run of each arm and say "
            "nothing about further runs; what needs several runs is undecided or not estimable."
        )


def _graders(table: pl.DataFrame) -> Iterator[str]:
    """Name the models that answered for the grader, and warn where they differ."""
    served = graders_served(table)
    if len(served) == 1:
        yield f"The grader answered as {next(iter(served))}."
    elif served:
        parts = "; ".join(f"{model}: {', '.join(arms)}" for model, arms in served.items())
        yield (
            f"The grader did not answer as one model throughout ({parts}), so that arms may differ by their judge. "
            "Name a dated version as the grader, such as openai/gpt-4o-2024-08-06: its verdicts are all made anew."
        )


def _without_rate(table: pl.DataFrame, setting: Setting) -> Iterator[str]:
    """Warn of arms whose answers leave nothing to count."""
    if not setting.asks_freely:  # claims on forced choices say it themselves
        return
    first = setting.main.name
    main = table.filter(pl.col("evaluation") == first)
    for (arm,), answers in main.group_by("arm", maintain_order=True):
        if answers.filter(pl.col("outcome").is_in([str(outcome) for outcome in JUDGED])).is_empty():
            counts = answers["outcome"].value_counts(sort=True).rows()
            became = ", ".join(f"{count:,} {outcome}" for outcome, count in counts)
            yield (
                f"The arm {arm!r} gave no coherent answer to {first!r} ({became}), so it has no rate and its claims "
                "are not estimable. Read its answers; if it was trained, try fewer rows or a subject that answers "
                "coherently before training."
            )


def _judge_rows(setting: Setting, calibration: Calibration | None) -> Iterator[JudgeRow]:
    """Yield the judge with its known error, and the gold judge."""
    yield _judge_row(setting, calibration)
    if setting.gold:
        judge = known_judge(setting.gold.judge)
        labelled = "the gold judge: rates are those that it would find, and its own error is not corrected"
        yield JudgeRow(name=judge.name, identity=judge.identity, validated=False, labelled=labelled)


def _judge_row(setting: Setting, calibration: Calibration | None) -> JudgeRow:
    """Return the judge with its known error."""
    judge = known_judge(setting.judge)
    if calibration is None:
        return JudgeRow(name=judge.name, identity=judge.identity, validated=True, sensitivity=1.0, specificity=1.0)
    labelled = (
        setting.labels.name
        if setting.labels
        else "answers left out when it was distilled, as many as are worth independent ones; for other questions give --labels"
        if setting.judge.distilled
        else "answers of the organism's world, easier to judge than a large model's"
    )
    row = JudgeRow(name=judge.name, identity=judge.identity, validated=False, labels=calibration.n, labelled=labelled)
    try:
        agreement = calibration.agreement()
    except EmptyDataError:  # it gave no verdict on any of them
        return row
    measured = {
        "sensitivity": agreement.sensitivity,
        "specificity": agreement.specificity,
        "kappa": agreement.kappa,
        "rank_correlation": calibration.rank_correlation,
    }
    return row.model_copy(update={"validated": None not in (agreement.sensitivity, agreement.specificity), **measured})


def _corrected(rows: Sequence[RateRow], calibration: Calibration | None) -> tuple[RateRow, ...]:
    """Return the rates corrected for the judge's error, where labels of such answers give it; others unchanged."""
    if calibration is None:
        return tuple(rows)
    # Labels measure the error of the judge that they were compared with, and of no other.
    usable = [bool(row.denominator) and row.judge == calibration.judge and not row.gold for row in rows]
    try:
        corrected = [
            _corrected_row(row, calibration) if use else (None, None) for row, use in zip(rows, usable, strict=True)
        ]
    except EmptyDataError:  # no verdict on labelled answers of one kind: the error is not known
        return tuple(rows)
    return tuple(
        row.model_copy(update={"corrected": rate, "corrected_interval": interval_row(interval)})
        for row, (rate, interval) in zip(rows, corrected, strict=True)
    )


def _corrected_row(row: RateRow, calibration: Calibration) -> tuple[float | None, Interval | None]:
    runs = [counts for counts in row.seed_counts.values() if counts[1]]
    return corrected(row.numerator, row.denominator, calibration, clusters=runs)


def _arm_rows(plan: StudyPlan, artifacts: Mapping[str, Artifact]) -> Iterator[ArmRow]:
    for run in plan.runs:
        if run.seed == plan.runs[0].seed:  # one row an arm: every arm has the first seed
            yield _arm_row(run, artifacts)
    trained = {run.arm.name for run in plan.runs}
    analysed = {arm.name: arm for analysis in plan.analyses for arm in analysis.arms if arm.name not in trained}
    for arm in analysed.values():
        yield ArmRow(
            name=arm.name,
            description=arm.description,
            control=arm.control,
            dataset="",
            recipe=arm.recipe,
            samples=0,
            steps=0,
        )


def _arm_row(run: Run, artifacts: Mapping[str, Artifact]) -> ArmRow:
    described = {"name": run.arm.name, "description": run.arm.description, "control": run.arm.control}
    if run.data is None or run.training is None:
        return ArmRow(**described, dataset="", recipe=run.arm.recipe, samples=0, steps=0)
    dataset = ChatDataset.read(artifacts[run.data.key].path / DATA_FILE)
    steps = json.loads((artifacts[run.training.key].path / "steps.json").read_text(encoding="utf-8"))["steps"]
    return ArmRow(**described, dataset=dataset.hash, recipe=describe(dataset.recipe), samples=len(dataset), steps=steps)


def _dynamics(runs: Sequence[Run], artifacts: Mapping[str, Artifact]) -> pl.DataFrame:
    """Return the values that the probes measured: arm, seed, step, measure, value."""
    rows = []
    for run in runs:
        if run.training is None:
            continue
        log = artifacts[run.training.key].path / RUN_FOLDER / "probes.jsonl"
        for measured in since_start(list(map(json.loads, log.read_text(encoding="utf-8").splitlines()))):
            step = measured.pop("step")
            rows += [
                {"arm": run.arm.name, "seed": run.seed, "step": step, "measure": name, "value": value}
                for name, value in measured.items()
            ]
    return pl.DataFrame(
        rows, schema={"arm": pl.String, "seed": pl.Int64, "step": pl.Int64, "measure": pl.String, "value": pl.Float64}
    )
