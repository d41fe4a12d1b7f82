"""What makes up most of a study's time, and what less of each option would save, in time and price: the end of a plan.

Effects are those of the same estimate with less work in it, so they hold as far as it does.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from astray.engine.forecast.effort import Answering, Effort, Grading, Part, Training, added
from astray.engine.setting import Setting
from astray.engine.study import Study, StudyPlan
from astray.engine.trained import RewardedConfig
from astray.measure.evaluation import QuestionSet

Work = Training | Answering | Grading
FEWEST_ROWS, FEWEST_SAMPLES = 32, 2
"""Half of fewer is no study."""


@dataclass(frozen=True)
class Saving:
    """A change of one option.

    Attributes:
        change: what to give, in words.
        saved: the work that is then not done.
    """

    change: str
    saved: Effort


def parts_of(plan: StudyPlan, left: Mapping[str, Sequence[Work]]) -> dict[str, Effort]:
    """Return the work of the subject by kind."""
    trained = {run.training.key for run in plan.runs if run.training}
    answered = {step.key for run in plan.runs for step in (run.answers, run.margins) if step}
    keys = {
        "training the arms": trained,
        "the arms' answers": answered,
        "analyses": {analysis.step.key for analysis in plan.analyses},
    }
    return {what: added(work for key in sorted(of & left.keys()) for work in left[key]) for what, of in keys.items()}


def savings_of(study: Study, setting: Setting, plan: StudyPlan, left: Mapping[str, Sequence[Work]]) -> Iterator[Saving]:
    """Yield what half the rows, half the answers and one arm less would save; analyses stay as they are."""
    training = {run.training.key: run.training.config for run in plan.runs if run.training}
    if setting.size >= FEWEST_ROWS:
        # Training by reward takes as many steps, however many questions there are.
        by_rows = [key for key, config in training.items() if not isinstance(config, RewardedConfig)]
        rows = added(_half(one) for key in by_rows for one in left.get(key, ()) if isinstance(one, Training))
        yield Saving(f"--size {setting.size // 2}", rows)
    first = setting.evaluations[0]
    if isinstance(first, QuestionSet) and first.samples >= FEWEST_SAMPLES:
        asked = [step.key for run in plan.runs for step in run.steps if step.key not in training]
        yield Saving("half the --samples", added(_half(one) for key in asked for one in left.get(key, ())))
    arms: dict[str, dict[str, Sequence[Work]]] = {}
    for run in plan.runs:
        if run.arm.name not in study.always:
            arms.setdefault(run.arm.name, {}).update(
                {step.key: left[step.key] for step in run.steps if step.key in left}
            )
    efforts = {name: added(one for works in own.values() for one in works) for name, own in arms.items()}
    if len(efforts) > 1:
        name = max(efforts, key=lambda arm: efforts[arm].training.flops + efforts[arm].answering.flops)
        yield Saving(f"without the arm {name} (--arms with the others)", efforts[name])


def without(whole: Effort, saved: Effort) -> Effort:
    """Return the work that is left when some of it is not done."""
    return Effort(
        _less(whole.training, saved.training),
        _less(whole.answering, saved.answering),
        _less(whole.grading, saved.grading),
    )


def _less(whole: Part, saved: Part) -> Part:
    pairs = [(getattr(whole, one.name), getattr(saved, one.name)) for one in fields(whole)]
    return type(whole)(*(max(type(all_of)(0), all_of - part) for all_of, part in pairs))


def _half(work: Work) -> Work:
    """Return half of the rows, tokens and answers, of as many runs."""
    return type(work)(
        *(
            0 if one.name == "runs" else type(getattr(work, one.name))(getattr(work, one.name) / 2)
            for one in fields(work)
        )
    )
