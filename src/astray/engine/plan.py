"""Steps of a study from its declaration: the runs of its arms, the check of its judge, and its analyses.

Left to others: executing them (`run`).
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import cast

from astray.artifacts import Step
from astray.engine.findings import Needs
from astray.engine.gold import GoldConfig, judge_gold
from astray.engine.options import NONE
from astray.engine.setting import Setting, check_evaluations
from astray.engine.steps import (
    AnswerConfig,
    CalibrationConfig,
    DataConfig,
    answer,
    check_judge_error,
    judge,
    make_data,
)
from astray.engine.study import Analysis, Arm, F, Run, S, Study, StudyPlan
from astray.engine.trained import training_step
from astray.errors import ConfigurationError, UnknownNameError
from astray.measure.interface import Evaluation
from astray.subjects.identity import file_digest
from astray.subjects.locate import settle


def plan_study(
    study: Study[S, F],
    setting: S,
    seeds: Sequence[int],
    only: Sequence[str] = (),
    analyses: Sequence[str] = (),
    stopped: Mapping[str, int] | None = None,
) -> StudyPlan:
    """Plan the steps of a study.

    Args:
        study: declares arms and analyses.
        setting: the subject's world.
        seeds: training seeds.
        only: names of the arms to run beside those that always are; all if none is named.
        analyses: names of the analyses to run, and what they are made from; all if none is named, and none for `NONE`.
        stopped: arms that have fewer seeds, the first ones -> how many.

    Raises:
        UnknownNameError: the study has no such arm or analysis.
        ConfigurationError: the study has no arms to choose from, an analysis is made from arms that are left out, or
            the subject does not support an evaluation.
    """
    if not isinstance(setting, Setting):  # nothing is trained: all steps are the study's own
        every = tuple(study.analyses(setting, ()))
        if list(analyses) == [NONE]:
            raise ConfigurationError(
                f"--analyses {NONE} leaves nothing of {study.name}, which trains nothing. It has: "
                f"{', '.join(_names(every))}."
            )
        chosen = _chosen(study.name, every, every, analyses)
        return StudyPlan((), None, chosen, not_analysed=_not_in(chosen, every))
    training = cast(Study, study)
    runs = plan_runs(training, setting, seeds, only, stopped or {})
    # Each evaluation once, by name: the same one may be asked of every run.
    check_evaluations(
        setting,
        {
            evaluation.name: evaluation
            for evaluation in (*setting.evaluations, *(extra for run in runs for extra in run.arm.extra))
        }.values(),
    )
    every = tuple(training.analyses(setting, runs))
    all_analyses = tuple(training.analyses(setting, plan_runs(training, setting, seeds[:1]))) if only else every
    chosen = _chosen(study.name, every, all_analyses, analyses)
    left_out = (
        {name: Needs(arms=arms) for name, arms in _left_out(training, setting, seeds[:1], only).items()} if only else {}
    )
    planned = {run.arm.name for run in runs} | {arm.name for analysis in chosen for arm in analysis.arms}
    not_analysed = _not_in(chosen, all_analyses) if analyses else ()
    for analysis in all_analyses:
        for arm in analysis.arms:
            if analyses and analysis.name not in analyses and arm.name not in planned:
                left_out[arm.name] = left_out.get(arm.name, Needs()) | Needs(analyses=(analysis.name,))
    return StudyPlan(
        tuple(runs), None if setting.judge.exact else _calibration(setting), chosen, left_out, not_analysed
    )


def _names(analyses: Sequence[Analysis]) -> list[str]:
    return list(dict.fromkeys(str(analysis.name) for analysis in analyses))


def _not_in(chosen: Sequence[Analysis], every: Sequence[Analysis]) -> tuple[str, ...]:
    return tuple(name for name in _names(every) if name not in _names(chosen))


def _chosen(
    study: str, every: Sequence[Analysis], all_analyses: Sequence[Analysis], names: Sequence[str]
) -> tuple[Analysis, ...]:
    """Return the analyses of these names, and those that they are made from, in the study's order.

    Args:
        study: its name.
        every: the analyses of the runs that were chosen.
        all_analyses: the analyses of all runs, of one seed or more.
        names: of the chosen ones; all if none is named.
    """
    if not names:
        return tuple(every)
    wanted = [name for name in names if name != NONE]
    for name in wanted:
        if name not in _names(all_analyses):
            raise UnknownNameError(f"analysis of {study}", name, _names(all_analyses))
        if name not in _names(every):
            raise ConfigurationError(
                f"The analysis {name} is made from the runs of arms that --arms leaves out. Leave --arms out, or "
                "name them too."
            )
    stack, needed = [analysis.step for analysis in every if analysis.name in wanted], set[str]()
    while stack:
        step = stack.pop()
        if step.key not in needed:
            needed.add(step.key)
            stack += step.inputs.values()
    return tuple(analysis for analysis in every if analysis.step.key in needed)


def _left_out(study: Study, setting: Setting, seeds: Sequence[int], only: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return each declared arm that is not run, with the arms to add for it: one if that is enough, else all left out.

    One seed is enough to find them, since every seed has the same arms.
    """
    all_runs = plan_runs(study, setting, seeds)
    planned = _arms_of(study, setting, plan_runs(study, setting, seeds, only))
    missing = [name for name in dict.fromkeys(run.arm.name for run in all_runs) if name not in planned]
    needs: dict[str, tuple[str, ...]] = {name: (name,) for name in missing}
    for name in missing:
        # An analysis may need several runs, so what each further arm would add is found by planning with it.
        chosen = [run for run in all_runs if run.arm.name in (*only, name, *study.always)]
        for arm in _arms_of(study, setting, chosen) - planned:
            needs.setdefault(arm, (name,))
    for arm in sorted(_arms_of(study, setting, all_runs) - planned):
        needs.setdefault(arm, tuple(missing))
    return needs


def _arms_of(study: Study, setting: Setting, runs: Sequence[Run]) -> set[str]:
    """Return the names of the arms that are run, and of those that analyses make from them."""
    return {run.arm.name for run in runs} | {
        arm.name for analysis in study.analyses(setting, runs) for arm in analysis.arms
    }


def plan_runs(
    study: Study,
    setting: Setting,
    seeds: Sequence[int],
    only: Sequence[str] = (),
    stopped: Mapping[str, int] = MappingProxyType({}),
) -> list[Run]:
    """Return the steps of every run of a study; arguments and errors as for `plan_study`."""
    arms = list(study.arms(setting))
    for name in only:
        if name not in {arm.name for arm in arms}:
            raise UnknownNameError(f"arm of {study.name}", name, [arm.name for arm in arms])
    if only and all(arm.name in study.always for arm in arms):
        raise ConfigurationError(
            f"--arms {','.join(only)} chooses nothing in {study.name}: {' and '.join(study.always)} are run in any "
            "case, and its other arms are made by analyses (--analyses). Leave --arms out."
        )
    chosen = [arm for arm in arms if not only or arm.name in (*only, *study.always)]
    others = {arm.base for arm in chosen} - {setting.subject.name}
    bases = {setting.subject.name: setting.located.id, **{base: settle(base).id for base in others}}
    # Without training, seeds would give the same model again: such an arm has one run.
    own = {arm.name: seeds[: stopped.get(arm.name)] if arm.data else seeds[:1] for arm in chosen}
    return [_run(arm, seed, setting, bases[arm.base], len(own[arm.name])) for arm in chosen for seed in own[arm.name]]


def _run(arm: Arm, seed: int, setting: Setting, base_id: str, runs: int) -> Run:
    name = f"{arm.name}-{seed}"
    data = training = None
    if arm.data:
        data = make_data.step(DataConfig(data=arm.data, seed=seed), name=f"data-{name}")
        training = training_step(arm, seed, setting, base_id, data)
    evaluations = tuple(evaluation.for_run(seed) for evaluation in (*setting.evaluations, *arm.extra))

    def asked(kind: str, chosen: tuple[Evaluation, ...]) -> Step:
        config = AnswerConfig(
            base=arm.base, base_id=base_id, evaluations=chosen, arm=arm.name, seed=seed, engine=setting.engine
        )
        return answer.step(config, name=f"{kind}-{name}", **({"run": training} if training else {}))

    answers = asked("answers", tuple(evaluation for evaluation in evaluations if evaluation.has_rate))
    unrated = tuple(evaluation for evaluation in evaluations if not evaluation.has_rate)
    margins = asked("margins", unrated) if unrated else None
    verdicts = judge.step(setting.judge, name=f"verdicts-{name}", answers=answers)
    if gold := setting.gold:
        # An untrained arm has one run however many there may be of the others, which so has its whole sample.
        shared = (gold.most if arm.data else None) or runs
        *before, sample = gold.enlarged.get(arm.name) or [gold.of_run(shared, evaluations, arm.name)]
        read = GoldConfig(judge=gold.judge, answers=sample, seed=seed, before=tuple(before))
        verdicts = judge_gold.step(read, name=f"gold-{name}", answers=answers, verdicts=verdicts)
    return Run(arm, seed, data, training, answers, verdicts, margins)


def _calibration(setting: Setting) -> Step:
    labels = setting.labels
    digest = file_digest(labels) if labels else ""
    return check_judge_error.step(
        CalibrationConfig(judge=setting.judge, labels=labels, digest=digest, size=setting.calibration_size)
    )
