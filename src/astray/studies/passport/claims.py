"""Conclusions of a finished study by other judges: its answers are judged anew, and its claims decided again.

Nothing is trained and nothing is asked of a model but the graders. Analyses whose verdicts decide what they do would have
to be made again; they are left out, and their claims with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from astray.artifacts import Progress, Step, Store, execute
from astray.artifacts.plan import Plan
from astray.engine.family import with_holm
from astray.engine.judging import told_failed
from astray.engine.options import NONE, BaseOptions
from astray.engine.plan import plan_study
from astray.engine.results import read_results
from astray.engine.setting import Setting
from astray.engine.settings import settled
from astray.engine.steps import judge
from astray.engine.study import Study, StudyPlan
from astray.engine.summary import ClaimRow, Summary
from astray.errors import ConfigurationError, StoreError
from astray.judges.config import JudgeConfig
from astray.judges.judge import Judging
from astray.subjects.locate import graders_known_as


@dataclass(frozen=True)
class Conclusions:
    """Claims of a study by each judge.

    Attributes:
        study: its title.
        judges: who judged, the study's own judge first.
        claims: a row a claim, with one result by each judge.
        left_out: analyses that were not made again.
        notes: verdicts that failed.
    """

    study: str
    judges: tuple[str, ...]
    claims: tuple[tuple[ClaimRow, ...], ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[tuple[ClaimRow, ...], ...]:
        """Return the claims that not all judges decide alike, of those that every judge was asked about."""
        return tuple(row for row in self.claims if len({claim.result for claim in row if claim.tested}) > 1)


@dataclass(frozen=True)
class Studied:
    """Finished study whose claims can be decided anew.

    Attributes:
        study: what was run.
        summary: of that run.
        options: with which.
        setting: that they give.
    """

    study: Study[Any, Any]
    summary: Summary
    options: BaseOptions
    setting: Setting

    @classmethod
    def of(cls, study: Study[Any, Any], summary: Summary) -> "Studied":
        """Return a study by its results.

        Raises:
            ConfigurationError: it has no answers that a judge reads, or its results do not hold its options.
        """
        if summary.options is None:
            raise ConfigurationError(
                f"The results of {summary.study} do not say with which options they were made, as those of older "
                "versions. Run the study again with the same results folder and options: no step is done again."
            )
        options = study.options.model_validate(summary.options)
        setting = settled(study, options)
        if not isinstance(setting, Setting) or not setting.asks_freely:
            raise ConfigurationError(
                f"{summary.study} has no answers of trained models that a judge reads, so there is nothing to judge anew. "
                "Give the results folder of a study that trains and whose answers are judged."
            )
        return cls(study, summary, options, setting)


def conclusions_by(
    studied: Studied,
    graders: Sequence[str],
    judging: Judging,
    store: Store,
    progress: Callable[[Progress], None] | None = None,
) -> Conclusions:
    """Decide the claims of a study by other graders.

    Raises:
        StoreError: the store lacks its answers.
    """
    study, summary = studied.study, studied.summary
    rows: list[tuple[ClaimRow, ...]] = [summary.claims]
    left_out: tuple[str, ...] = ()
    notes = []
    for grader in graders:
        config = JudgeConfig(kind="rubric", grader=grader, server=graders_known_as(grader), judging=judging)
        changed = replace(studied.setting, judge=config, gold=None, labels=None)
        plan, left_out = _judged_plan(study, changed, studied.options, store)
        artifacts = execute(plan.steps, store, workers=0, progress=progress)
        findings, _ = read_results(study, plan, artifacts, changed)
        notes += [f"{grader}, in the study: {line}" for line in told_failed([findings.table])]
        rows.append(with_holm(tuple(study.claims(findings, changed))))
    by_id = [{claim.id: claim for claim in claims} for claims in rows]
    common = [claim.id for claim in rows[0] if all(claim.id in claims for claims in by_id)]
    names = (", ".join(each.name for each in summary.judges) or "the study's own judge", *graders)
    return Conclusions(
        summary.title, names, tuple(tuple(claims[name] for claims in by_id) for name in common), left_out, tuple(notes)
    )


def _judged_plan(
    study: Study[Any, Any], setting: Setting, options: BaseOptions, store: Store
) -> tuple[StudyPlan, tuple[str, ...]]:
    """Return the plan whose open steps judge and do nothing else, and the analyses that it leaves out."""
    seeds, arms, analyses = options.runs
    plan = plan_study(study, setting, seeds, arms, analyses)
    wanted = [step for run in plan.runs for step in run.steps]
    if missing := _open(wanted, store):
        raise StoreError(
            f"The store {store.folder} lacks {len(missing)} steps of {study.name} before its verdicts, such as "
            f"{missing[0].name}. Name the store of its results with --store, or run the study again."
        )
    names = dict.fromkeys(analysis.name for analysis in plan.analyses)
    lost = tuple(
        name for name in names if _open([analysis.step for analysis in plan.analyses if analysis.name == name], store)
    )
    if lost:
        plan = plan_study(study, setting, seeds, arms, [name for name in names if name not in lost] or [NONE])
    # Rates corrected for a judge's error decide no claim, so labelled answers need not be judged.
    return replace(plan, calibration=None), lost


def _open(steps: Sequence[Step], store: Store) -> list[Step]:
    plan = Plan(steps, store)
    return [step for key, step in plan.steps.items() if key not in plan.done and step.function.name != judge.name]
