"""Run a study: from its declaration to steps, from their artifacts to the results folder.

    results/emergent-misalignment/summary.json   claims and rates, for people and programs
                                  ...            the tables that they come from (see `results`)

Finished steps are not run again: a killed study continues where it was and ends in the same results. `astray.report`
makes the report page from this folder.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Generic, cast

from astray.artifacts import Ledger, Progress, Step, Store, execute
from astray.artifacts.plan import Plan
from astray.artifacts.status import note_steps
from astray.artifacts.uses import in_use
from astray.artifacts.workplaces.place import Where
from astray.engine.family import with_holm
from astray.engine.looks import book_of_study
from astray.engine.options import BaseOptions, TrainedOptions
from astray.engine.plan import plan_study
from astray.engine.results import read_results, summary_of
from astray.engine.setting import Setting, World
from astray.engine.settings import settled
from astray.engine.study import F, S, Shown, Study, StudyPlan
from astray.engine.summary import Summary
from astray.engine.until_decided import UntilDecided
from astray.errors import ConfigurationError, StoreError
from astray.subjects.base import default_workers


def run_study(
    study: Study[S, F],
    options: BaseOptions,
    *,
    out: Path = Path("astray-results"),
    store: str | Path | None = None,
    workers: int | None = None,
    on: Where | None = None,
    progress: Callable[[Progress], None] | None = None,
    prices: tuple[float, float] = (0.0, 0.0),
    tell: Callable[[str], None] = lambda _: None,
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
        prices: the grader's, of a million tokens in and of a million tokens out, for `max_price`.
        tell: called with what each look decided, where the study runs until it is decided.

    Returns:
        The results folder, with summary.json and the tables that it comes from.

    Raises:
        UnknownNameError: the study has no arm of a name in the options, or there is no such scenario.
        SubjectNotFoundError, ChatTemplateError, AdapterMismatchError, ConfigurationError: the subject cannot be used.
        JudgeError, SandboxError: the grader cannot be used, or this machine cannot isolate untrusted code.
        ConfigurationError, MissingExtraError: `on` cannot run steps, or these runs were looked at otherwise before.
        StepFailedError: a step failed; everything that does not depend on it is done and kept.
        BudgetSpentError: what is given ended before the first look.
        StoreError: a folder cannot be written.
    """
    setting, folder = settled(study, options), Path(out) / study.name
    _check_place(setting, on)
    plan = plan_study(study, setting, *options.runs)
    artifact_store = Store(Path(out) / "store" if store is None else store)
    study.check(setting, (folder, artifact_store.folder / study.name))
    with _ledger(plan, artifact_store, setting.budget) as ledger:
        execution = _Execution(study, setting, folder, artifact_store, workers, on, progress, ledger)
        if isinstance(options, TrainedOptions) and options.units:
            until = UntilDecided(cast(Study, study), cast(Setting, setting), options, artifact_store, prices, tell)
            until.run(execution.results, execution.write, lambda: ledger is not None and ledger.exhausted)
            return folder
        findings, shown = execution.results(plan)
    claims = with_holm(tuple(study.claims(findings, setting)))
    execution.write(shown, summary_of(study, setting, findings, shown, claims, options))
    if isinstance(options, TrainedOptions) and isinstance(setting, Setting):
        book_of_study(artifact_store, cast(Study, study), setting).note(options.training_seeds)
    return folder


@dataclass(frozen=True)
class _Execution(Generic[S, F]):
    """Makes the steps of a plan of a study and reads their results; arguments as for `run_study`."""

    study: Study[S, F]
    setting: S
    folder: Path
    store: Store
    workers: int | None
    on: Where | None
    progress: Callable[[Progress], None] | None
    ledger: Ledger | None

    def results(self, plan: StudyPlan, check: Callable[[], None] = lambda: None) -> tuple[F, Shown]:
        """Make what is missing of a plan and return its results; `check` is called with every event and may raise."""
        # A finished study is read again without a grader's key or a server, so models are asked only if a step is left.
        if len(Plan(plan.steps, self.store).done) < len(plan.steps):
            self.setting.reach(plan.evaluations, self.workers)
        check_writable(self.folder)
        note_steps(self.store, self.study.name, plan.steps)

        def heard(event: Progress) -> None:
            if self.progress:
                self.progress(event)
            check()

        with in_use(self.store, self.study.name, [step.key for step in plan.steps]):
            default = self.workers is None and self.on is None
            artifacts = execute(
                plan.steps,
                self.store,
                workers=_workers(plan, self.store) if default else self.workers,
                on=self.on,
                progress=heard,
                ledger=self.ledger,
            )
        return read_results(self.study, plan, artifacts, self.setting)

    def write(self, shown: Shown, summary: Summary) -> None:
        """Write the tables and the summary into the results folder."""
        try:
            shown.write(self.folder)
            summary.write(self.folder)
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def planned_steps(
    study: Study[S, F], options: BaseOptions, *, out: Path = Path("astray-results"), store: str | Path | None = None
) -> tuple[tuple[Step, bool], ...]:
    """Return the steps that `run_study` would go through, and whether each would run; the others are there.

    Steps that only finished ones need are left out; of a study that runs until it is decided it is those up to its next
    look. Errors are those of `run_study`, as far as they need no model.
    """
    setting, artifact_store = settled(study, options), Store(Path(out) / "store" if store is None else store)
    if isinstance(options, TrainedOptions) and options.units:
        until = UntilDecided(cast(Study, study), cast(Setting, setting), options, artifact_store)
        steps = until.plan_next().steps
    else:
        steps = plan_study(study, setting, *options.runs).steps
    plan = Plan(steps, artifact_store)
    return tuple((step, key not in plan.done) for key, step in plan.steps.items())


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
