"""Runs a study: from its declaration to steps, from their artifacts to the results folder.

    results/emergent-misalignment/summary.json   claims and rates, for people and programs
                                  ...            the tables that they come from (see `results`)

What was done before is not done again: a killed study goes on where it was and ends in the same results. The report page is made from this
folder by `astray.report`.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile

from astray.artifacts import Ledger, Progress, Store, execute
from astray.artifacts.uses import in_use
from astray.engine.claims import with_holm
from astray.engine.options import BaseOptions
from astray.engine.plan import plan_study
from astray.engine.results import read_results
from astray.engine.settings import settled
from astray.engine.study import F, S, Study, StudyPlan
from astray.engine.summary import Summary
from astray.errors import StoreError
from astray.subjects.base import default_workers


def run_study(
    study: Study[S, F],
    options: BaseOptions,
    *,
    out: Path = Path("astray-results"),
    store: str | Path | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Runs a study and writes its results folder.

    Args:
        study: what to run.
        options: subject, seeds and the like.
        out: the results go into a folder of the study's name here.
        store: where artifacts are kept, a folder or an fsspec URL; by default `store` inside `out`.
        workers: worker processes; by default one for each CPU, and one alone where there is a GPU, whose memory they would share, or none for
            acting models that are waited for.
        progress: told about every step.

    Returns:
        The results folder, with summary.json and the tables that it comes from.

    Raises:
        UnknownNameError: the study has no arm of a name in the options, or there is no such scenario.
        SubjectNotFoundError, ChatTemplateError, AdapterMismatchError, ConfigurationError: the subject cannot be used.
        JudgeError: the grader cannot be used.
        SandboxError: the study runs untrusted code, and this machine cannot.
        StepFailedError: a step failed; everything that does not depend on it is done and kept.
        StoreError: a folder cannot be written.
    """
    setting, folder = settled(study, options), Path(out) / study.name
    plan = plan_study(study, setting, *options.runs)
    kept = Store(Path(out) / "store" if store is None else store)
    study.check(setting, (folder, kept.folder / study.name))
    setting.reach()
    _check_writable(folder)
    with in_use(kept, study.name, [step.key for step in plan.steps]), _ledger(plan, kept, setting.budget) as ledger:
        artifacts = execute(plan.steps, kept, workers=_workers(plan, kept) if workers is None else workers, progress=progress, ledger=ledger)
    findings, shown = read_results(study, plan, artifacts, setting)
    claims = with_holm(tuple(study.claims(findings, setting)))
    summary = Summary(
        study=study.name,
        title=study.title,
        question=study.question,
        astray_version=version("astray"),
        subject=setting.subject,
        judges=shown.judges,
        seeds=shown.seeds,
        quick=options.quick,
        arms=shown.arms,
        claims=claims,
        rates=shown.rates,
        exhibits=tuple(study.exhibits(findings, setting)),
        notes=tuple(shown.notes(claims)),
        sections=shown.sections,
        methods=shown.methods,
    )
    try:
        shown.write(folder)
        summary.write(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _workers(plan: StudyPlan, store: Store) -> int:
    """How many worker processes a study gets without a word: one for each CPU, or one where there is a GPU; of acting models see `acting_workers`."""
    if plan.runs:
        return default_workers()
    from astray.engine.forecast.acting import acting_workers

    return acting_workers(plan, store)


def _ledger(plan: StudyPlan, store: Store, budget: int | None) -> AbstractContextManager[Ledger | None]:
    """Open a ledger of the budget, in which stands what was spent before."""
    if budget is None:
        return nullcontext()
    from astray.engine.forecast.acting import spent_on

    return Ledger.opened(store.folder, budget, spent_on(plan, store))


def _check_writable(folder: Path) -> None:
    """Refuse before the first step a folder that the results could not be written to after the last."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The results cannot be written to {folder}: {error.strerror}. Free space or name another folder with --out; no step is done again."
    )
