"""Steps of a study from its declaration: the runs of its arms, the check of its judge, and its analyses.

Left to others: executing them (`run`).
"""

from collections.abc import Sequence
from typing import cast

from astray.artifacts import Step
from astray.engine.setting import Setting, check_evaluations
from astray.engine.steps import AnswerConfig, CalibrationConfig, DataConfig, TrainConfig, answer, check_judge_error, judge, make_data, train
from astray.engine.study import Arm, F, Run, S, Study, StudyPlan
from astray.errors import ConfigurationError, UnknownNameError
from astray.subjects.identity import file_digest
from astray.subjects.locate import settle

PROBE_EVERY = 10


def plan_study(study: Study[S, F], setting: S, seeds: Sequence[int], only: Sequence[str] = ()) -> StudyPlan:
    """Plan the steps of a study.

    Args:
        study: declares arms and analyses.
        setting: the subject's world.
        seeds: training seeds.
        only: names of the arms to run beside those that always are; all if none is named.

    Raises:
        UnknownNameError: the study has no such arm.
        ConfigurationError: the study has no arms to choose from, or the subject does not support an evaluation.
    """
    if not isinstance(setting, Setting):  # nothing is trained: all steps are the study's own
        return StudyPlan((), None, tuple(study.analyses(setting, ())))
    training = cast(Study, study)
    runs = plan_runs(training, setting, seeds, only)
    # Each evaluation once, by name: the same one may be asked of every run.
    check_evaluations(setting, {each.name: each for each in (*setting.evaluations, *(extra for run in runs for extra in run.arm.extra))}.values())
    analyses = tuple(training.analyses(setting, runs))
    left_out = _left_out(training, setting, seeds[:1], only) if only else {}
    return StudyPlan(tuple(runs), None if setting.judge.exact else _calibration(setting), analyses, left_out)


def _left_out(study: Study, setting: Setting, seeds: Sequence[int], only: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return each declared arm that is not run, and the arms to run for it: one where one is enough, else all left out.

    One seed is enough to find them, since every seed has the same arms.
    """
    whole = plan_runs(study, setting, seeds)
    there = _arms_of(study, setting, plan_runs(study, setting, seeds, only))
    missing = [name for name in dict.fromkeys(run.arm.name for run in whole) if name not in there]
    needs: dict[str, tuple[str, ...]] = {name: (name,) for name in missing}
    for name in missing:
        # An analysis may need several runs, so what each further arm would add is found by planning with it.
        for arm in _arms_of(study, setting, plan_runs(study, setting, seeds, (*only, name))) - there:
            needs.setdefault(arm, (name,))
    for arm in sorted(_arms_of(study, setting, whole) - there):
        needs.setdefault(arm, tuple(missing))
    return needs


def _arms_of(study: Study, setting: Setting, runs: Sequence[Run]) -> set[str]:
    """Return the names of the arms that are run, and of those that analyses make from them."""
    return {run.arm.name for run in runs} | {arm.name for analysis in study.analyses(setting, runs) for arm in analysis.arms}


def plan_runs(study: Study, setting: Setting, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Run]:
    """Return the steps of every run of a study; arguments and errors as for `plan_study`."""
    arms = list(study.arms(setting))
    for name in only:
        if name not in {arm.name for arm in arms}:
            raise UnknownNameError(f"arm of {study.name}", name, [arm.name for arm in arms])
    if only and all(arm.name in study.always for arm in arms):
        raise ConfigurationError(
            f"--arms {','.join(only)} chooses nothing in {study.name}: {' and '.join(study.always)} are run in any case, and its other arms are made "
            "by analyses, which all run. Leave --arms out."
        )
    chosen = [arm for arm in arms if not only or arm.name in (*only, *study.always)]
    others = {arm.base for arm in chosen} - {setting.subject.name}
    bases = {setting.subject.name: setting.located.id, **{base: settle(base).id for base in others}}
    # Without training, seeds would give the same model again: such an arm has one run.
    return [_run(arm, seed, setting, bases[arm.base]) for arm in chosen for seed in (seeds if arm.data else seeds[:1])]


def _run(arm: Arm, seed: int, setting: Setting, base_id: str) -> Run:
    name = f"{arm.name}-{seed}"
    data = training = None
    if arm.data:
        data = make_data.step(DataConfig(data=arm.data, seed=seed), name=f"data-{name}")
        recipe = setting.training.model_copy(update={"seed": seed})
        config = TrainConfig(base=arm.base, base_id=base_id, recipe=recipe, home=arm.home, probe_every=PROBE_EVERY)
        training = train.step(config, name=f"train-{name}", data=data)
    evaluations = tuple(each.for_run(seed) for each in (*setting.evaluations, *arm.extra))
    asked = AnswerConfig(base=arm.base, base_id=base_id, evaluations=evaluations, arm=arm.name, seed=seed)
    answers = answer.step(asked, name=f"answers-{name}", **({"run": training} if training else {}))
    return Run(arm, seed, data, training, answers, judge.step(setting.judge, name=f"verdicts-{name}", answers=answers))


def _calibration(setting: Setting) -> Step:
    labels = setting.labels
    digest = file_digest(labels) if labels else ""
    return check_judge_error.step(CalibrationConfig(judge=setting.judge, labels=labels, digest=digest, size=setting.calibration_size))
