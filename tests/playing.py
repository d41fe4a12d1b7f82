"""Acting models without the rest of a study: parts are played as the study plays them, and read as it reads them."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

from astray.artifacts import Ledger, Progress, Store, execute
from astray.engine.forecast.acting import AgenticForecast, forecast_acting, spent_on
from astray.engine.study import Study, StudyPlan
from astray.engine.summary import SubjectRow
from astray.measure.agentic.play import Part
from astray.measure.agentic.subjects import AgenticSubject
from astray.studies.agentic_misalignment.findings import AgenticFindings, read_plays
from astray.studies.agentic_misalignment.setting import AgenticSetting, agentic_setting
from astray.studies.agentic_misalignment.steps import plays
from astray.studies.agentic_misalignment.study import STUDY

NOBODY = SubjectRow(name="nobody", id="", parameters=0, is_organism=False)


def setting_of(
    subjects: Sequence[AgenticSubject], parts: Sequence[Part], *, max_tokens: int = 100, budget: int | None = None
) -> AgenticSetting:
    """The setting of such parts."""
    scenarios = parts[0].grid.scenarios if parts else ()
    given = {"subjects": tuple(subjects), "parts": tuple(parts), "scenarios": scenarios, "max_tokens": max_tokens}
    return AgenticSetting(subject=NOBODY, budget=budget, **given)


def plan_of(setting: AgenticSetting) -> StudyPlan:
    """All that is played."""
    return StudyPlan((), None, tuple(plays(setting, ())))


def run_parts(
    subjects: Sequence[AgenticSubject],
    parts: Sequence[Part],
    folder: Path,
    *,
    max_tokens: int,
    budget: int | None = None,
    workers: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> AgenticFindings:
    """Play parts with a store in a folder, and read everything that is there."""
    setting, store = setting_of(subjects, parts, max_tokens=max_tokens, budget=budget), Store(folder)
    plan = plan_of(setting)
    with Ledger.opened(store.folder, budget, spent_on(plan, store)) if budget else nullcontext() as ledger:
        artifacts = execute(plan.steps, store, workers=workers, progress=progress, ledger=ledger)
    return read_plays(plan, artifacts, setting)[0]


def forecast_parts(
    subjects: Sequence[AgenticSubject],
    parts: Sequence[Part],
    folder: Path,
    *,
    max_tokens: int = 100,
    budget: int | None = None,
    **more: object,
) -> AgenticForecast:
    """What is left to play of parts with a store in a folder."""
    return forecast_acting(
        "Toy", plan_of(setting_of(subjects, parts, max_tokens=max_tokens)), Store(folder), budget=budget, **more
    )


def study_of(parts: Iterable[Part]) -> Study:
    """The study of acting models with other parts."""
    return replace(STUDY, settled=partial(agentic_setting, lambda options: parts))
