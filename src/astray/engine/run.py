"""Run a study: from its declaration to steps, from their artifacts to the results folder.

    results/emergent-misalignment/summary.json   claims and rates, for people and programs
                                  ...            the tables that they come from (see `results`)

Finished steps are not run again: a killed study continues where it was and ends in the same results. `astray.report`
makes the report page from this folder.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile

from astray.artifacts import Ledger, Progress, Step, Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.status import note_steps
from astray.artifacts.uses import in_use
from astray.artifacts.workplaces.place import Where
from astray.engine.claims import with_holm
from astray.engine.options import BaseOptions
from astray.engine.plan import plan_study
from astray.engine.results import read_results
from astray.engine.setting import Setting, World
from astray.engine.settings import settled
from astray.engine.study import F, S, Shown, Study, StudyPlan
from astray.engine.summary import SourceRow, Summary
from astray.errors import ConfigurationError, StoreError
from astray.subjects.base import default_workers
from astray.subjects.identity import file_digest


def run_study(
    study: Study[S, F],
    options: BaseOptions,
    *,
    out: Path = Path("astray-results"),
    store: str | Path | None = None,
    workers: int | None = None,
    on: Where | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Path:
    """Run a study and write its results folder.

    Args:
        study: what to run.
        options: subject, seeds and the like.
        out: the results go into a folder with the study's name in this one.
        store: where artifacts are kept, a folder or an fsspec URL; by default `store` inside `out`.
        workers: worker processes; by default one for each CPU, a single one where there is a GPU, whose memory they
            would share, and for acting models as `acting_workers` says.
        on: a place beyond this machine, in place of worker processes.
        progress: called with the progress of every step.

    Returns:
        The results folder, with summary.json and the tables that it comes from.

    Raises:
        UnknownNameError: the study has no arm of a name in the options, or there is no such scenario.
        SubjectNotFoundError, ChatTemplateError, AdapterMismatchError, ConfigurationError: the subject cannot be used.
        JudgeError, SandboxError: the grader cannot be used, or this machine cannot isolate untrusted code.
        ConfigurationError, MissingExtraError: `on` cannot run steps.
        StepFailedError: a step failed; everything that does not depend on it is done and kept.
        StoreError: a folder cannot be written.
    """
    setting, folder = settled(study, options), Path(out) / study.name
    _check_place(setting, on)
    plan = plan_study(study, setting, *options.runs)
    step_store = Store(Path(out) / "store" if store is None else store)
    study.check(setting, (folder, step_store.folder / study.name))
    if len(Plan(plan.steps, step_store).done) < len(plan.steps):
        setting.reach(plan.evaluations, workers)
    check_writable(folder)
    note_steps(step_store, study.name, plan.steps)
    with (
        in_use(step_store, study.name, [step.key for step in plan.steps]),
        _ledger(plan, step_store, setting.budget) as ledger,
    ):
        artifacts = execute(
            plan.steps,
            step_store,
            workers=_workers(plan, step_store) if workers is None and on is None else workers,
            on=on,
            progress=progress,
            ledger=ledger,
        )
    findings, shown = read_results(study, plan, artifacts, setting)
    try:
        shown.write(folder)
        _summary(study, setting, findings, shown, options).write(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def planned_steps(
    study: Study[S, F], options: BaseOptions, *, out: Path = Path("astray-results"), store: str | Path | None = None
) -> tuple[tuple[Step, bool], ...]:
    """Return the steps that `run_study` would go through, and whether each would run; the others are there.

    Steps that only finished ones need are left out. Errors are those of `run_study`, as far as they need no model.
    """
    setting = settled(study, options)
    steps = plan_study(study, setting, *options.runs).steps
    plan = Plan(steps, Store(Path(out) / "store" if store is None else store))
    return tuple((step, key not in plan.done) for key, step in plan.steps.items())


def _summary(study: Study[S, F], setting: S, findings: F, shown: Shown, options: BaseOptions) -> Summary:
    """Decide the claims and gather what a page shows."""
    claims = with_holm(tuple(study.claims(findings, setting)))
    return Summary(
        study=study.name,
        title=study.title,
        question=study.question,
        astray_version=version("astray"),
        source=SourceRow(path=str(study.file.resolve()), sha256=file_digest(study.file)) if study.file else None,
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
        failed_verdicts=shown.failed,
        options=options.model_dump(mode="json", exclude_defaults=True),
    )


def _workers(plan: StudyPlan, store: Store) -> int:
    """Return the default number of workers: `default_workers`, or `acting_workers` where nothing is trained."""
    if plan.runs:
        return default_workers()
    # Imported here since it loads Inspect, which studies that train do without.
    from astray.engine.forecast.acting import acting_workers

    return acting_workers(plan, store)


def _ledger(plan: StudyPlan, store: Store, budget: int | None) -> AbstractContextManager[Ledger | None]:
    """Open a ledger of the budget, with what earlier runs spent."""
    if budget is None:
        return nullcontext()
    if plan.runs:  # graders leave no logs that tell what earlier runs spent
        return Ledger.opened(store.folder, budget)
    from astray.engine.forecast.acting import spent_on

    return Ledger.opened(store.folder, budget, spent_on(plan, store))


def check_writable(folder: Path) -> None:
    """Refuse, before the first step, a folder to which the results could not be written after the last."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


def _unwritable(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The results cannot be written to {folder}: {error.strerror}. Free space or name another folder with --out; "
        "no step is done again."
    )


def _check_place(setting: World, on: Where | None) -> None:
    """Refuse an engine that starts servers on this machine where the steps run on others."""
    engine = setting.engine if isinstance(setting, Setting) else None
    if on is not None and engine is not None and not engine.address:
        raise ConfigurationError(
            f"--engine {engine.named} starts servers on this machine, and --on runs the steps on others. Start vLLM there "
            "and give its address: --engine http://HOST:8000"
        )
