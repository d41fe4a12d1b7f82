"""Runs the grid of the agentic study: each subject in every cell, without a monitor and under each one, as Inspect evaluations.

    logs/<subject>/<part>-<identity>/*.eval     Inspect logs: `inspect view --log-dir logs` opens them
    acts.parquet                               one row a sample (see measure/agentic/table.py)

A sample is known by its cell and replicate. What is in a log already is not asked again, so a run that was stopped, killed or ran out of its budget
goes on where it was; samples that ended in an error are tried again. A large part is run as one evaluation after the other, with a log each, since
Inspect keeps scores and summaries of all samples of an evaluation in memory and goes through them at each further one.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from inspect_ai import eval as inspect_eval
from inspect_ai.approval import ApprovalPolicy

from astray.artifacts import Progress, StepState
from astray.artifacts.execute import usable_cpus
from astray.artifacts.side_by_side import Call, side_by_side
from astray.errors import ConfigurationError, StepFailedError
from astray.measure.agentic.budget import Budget
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.judge_again import judge_again
from astray.measure.agentic.judge_errors import PanelError
from astray.measure.agentic.judging import VERSION
from astray.measure.agentic.logs import finished
from astray.measure.agentic.subjects import AgenticSubject
from astray.measure.agentic.table import CONDUCT_SCHEMA
from astray.measure.agentic.task import agentic_task
from astray.stats.detection import Assessment
from astray.subjects.identity import digest_of

ACTS_FILE = "acts.parquet"
LOGS = "logs"
LOG_BUFFER = 20
"""Samples after which a log is written out: so many at most are asked again after a kill."""
BUDGETED = 8
"""Samples at a time where there is a budget: so many go beyond it at most."""
SIMULATED_AT_A_TIME = 16
"""Samples at a time of scripted subjects, which wait for nothing; more would only take memory."""
ACTIVATIONS = "activations"
"""Monitor that is made from the run without one (see `agentic_activations`)."""
LOGGED = 1000
"""Most samples of one evaluation."""
WORTHWHILE = 200
"""Samples that a further process has to have for itself: below that, starting it takes as long as it saves."""


@dataclass(frozen=True)
class Part:
    """One evaluation of a subject.

    Attributes:
        name: of the part.
        grid: scenarios, cells and replicates.
        monitor: runtime monitor, "none" without.
        watch: hash of what the monitor was made from; "" where its name says all.
    """

    name: str
    grid: Grid
    monitor: str = "none"
    watch: str = ""


Work = tuple[AgenticSubject, Part, Path]
"""Who does what, and the folder of the logs."""
Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class Reading:
    """The activation monitor of one subject, or why there is none.

    Attributes:
        subject: whose calls are watched.
        reader: the local model whose activations are read.
        fitted: harmful and benign calls that the direction, its depth and the threshold come from; None without a monitor, as all that follows.
        block: number of the block, from 0.
        found: what it does to the calls of the main and control cells of the run without a monitor.
        auc_within: chance that, of the calls of the main cell alone, a harmful one scores above a benign one; None without both kinds.
        why: why there is none.
    """

    subject: str
    reader: str
    fitted: tuple[int, int] | None = None
    block: int | None = None
    found: Assessment | None = None
    auc_within: float | None = None
    why: str = ""


@dataclass(frozen=True)
class AgenticFindings:
    """What came out.

    Attributes:
        table: one row a sample, with the subject's short name in `subject`.
        subjects: who was run.
        exhausted: whether the budget ended before the work.
        judge_errors: known error of each panel; empty without labelled records.
        readings: the activation monitor of each subject that has one.
    """

    table: pl.DataFrame
    subjects: tuple[AgenticSubject, ...]
    exhausted: bool = False
    judge_errors: tuple[PanelError, ...] = ()
    readings: tuple[Reading, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether all subjects are scripted."""
        return all(each.simulated for each in self.subjects)


def parts_of(subject: AgenticSubject, parts: Sequence[Part]) -> list[Part]:
    """What a subject does: a monitor of activations needs a model to read."""
    return [part for part in parts if part.monitor != ACTIVATIONS or subject.read_by is not None]


def run_parts(
    subjects: Sequence[AgenticSubject],
    parts: Sequence[Part],
    folder: Path,
    *,
    max_tokens: int,
    budget: int | None = None,
    workers: int | None = None,
    progress: Tell | None = None,
) -> AgenticFindings:
    """Runs all parts of all subjects, but those with an activation monitor, and gives the table of everything that is there.

    Args:
        subjects: who.
        parts: what.
        folder: for the logs.
        max_tokens: longest answer of a subject.
        budget: tokens of all models together; None for no limit.
        workers: processes (see `processes_for`).
        progress: told when a part begins and ends.

    Raises:
        ConfigurationError: several processes with a budget.
        StepFailedError: an evaluation broke off; what it finished is kept.
    """
    work = [(subject, part, log_folder(folder, subject, part, max_tokens)) for subject in subjects for part in parts if part.monitor != ACTIVATIONS]
    tables = [settled(subject, part, logs) for subject, part, logs in work]
    left = sum(len(_left(part, table)) for (_, part, _), table in zip(work, tables, strict=True))
    processes = processes_for(subjects, left, workers, budget)
    if processes > 1:
        exhausted = False
        _run_side_by_side(work, tables, max_tokens, processes, progress)
    else:
        exhausted = _run_in_turn(work, tables, max_tokens, budget, progress)
    named = pl.concat([of_subject(subject, table) for (subject, _, _), table in zip(work, tables, strict=True)])
    return AgenticFindings(named, tuple(subjects), exhausted)


def processes_for(subjects: Sequence[AgenticSubject], samples: int, workers: int | None, budget: int | None) -> int:
    """How many processes the samples are shared among.

    Args:
        subjects: who is run. Scripted ones wait for nothing, so without a word they get a process for each processor; models that are waited for,
            or that would be loaded in each, get one.
        samples: that are left.
        workers: what the user asked for; 0 and 1 are this process.
        budget: is counted in one process.

    Raises:
        ConfigurationError: several were asked for with a budget.
    """
    if workers is not None and workers > 1 and budget is not None:
        raise ConfigurationError(f"A budget is counted in one process, and {workers} were asked for: leave out --workers or --budget.")
    wanted = workers if workers is not None else usable_cpus() if budget is None and all(each.simulated for each in subjects) else 1
    return max(1, min(wanted, samples if workers else samples // WORTHWHILE))


def _run_in_turn(work: Sequence[Work], tables: list[pl.DataFrame], max_tokens: int, budget: int | None, progress: Tell | None) -> bool:
    """Runs what is left of all parts in this process and puts the whole table of each in its place; whether the budget ended before the work."""
    exhausted = False
    for place, (subject, part, logs) in enumerate(work):
        _tell(progress, work, place, StepState.STARTED, done=place)
        limit = Budget(budget, sum(int(table["tokens"].sum()) for table in tables)) if budget is not None else None
        tables[place] = run_part(subject, part, logs, tables[place], max_tokens=max_tokens, budget=limit)
        exhausted |= limit is not None and limit.exhausted
        _tell(progress, work, place, StepState.FINISHED, done=place + 1)
    return exhausted


def _run_side_by_side(work: Sequence[Work], tables: list[pl.DataFrame], max_tokens: int, processes: int, progress: Tell | None) -> None:
    """Runs what is left of all parts in several processes, a piece of a part for each, and puts the whole table of each in its place."""
    places: list[int] = []
    calls: list[Call] = []
    for place, (subject, part, logs) in enumerate(work):
        _tell(progress, work, place, StepState.STARTED, done=0)
        left = _left(part, tables[place])
        size = min(LOGGED, -(-len(left) // processes)) or 1
        for start in range(0, len(left), size):
            places.append(place)
            calls.append((_evaluate, (subject, part, logs, left[start : start + size], max_tokens, None)))
    waiting = Counter(places)
    for number in side_by_side(calls, processes):
        place = places[number]
        waiting[place] -= 1
        if not waiting[place]:
            _, part, logs = work[place]
            tables[place] = finished(logs, part.grid)
            _tell(progress, work, place, StepState.FINISHED, done=len(work) - len(+waiting))


def log_folder(folder: Path, subject: AgenticSubject, part: Part, max_tokens: int) -> Path:
    """Where the logs of a part lie; another model, grader or setting is another folder. Cells, replicates and texts are told apart within.

    The folder of a part whose monitor was made from something begins with that of the same part before it is made.
    """
    settings = {"subject": subject.identity, "monitor": part.monitor, "max_tokens": max_tokens, "version": VERSION}
    if part.monitor == ACTIVATIONS and subject.read_by is not None:
        settings["reader"] = subject.read_by.model_dump(mode="json")
    return folder / LOGS / subject.name / "-".join([part.name, digest_of(settings)[:8], *([part.watch[:8]] if part.watch else [])])


def run_part(
    subject: AgenticSubject,
    part: Part,
    logs: Path,
    done: pl.DataFrame,
    *,
    max_tokens: int,
    budget: Budget | None = None,
    approval: ApprovalPolicy | None = None,
) -> pl.DataFrame:
    """Runs what is left of a part and gives its whole table.

    Args:
        subject: who.
        part: what.
        logs: folder of its logs.
        done: what is finished, from `finished`.
        max_tokens: longest answer.
        budget: stops it.
        approval: the part's monitor, where its name does not say what it is.

    Raises:
        StepFailedError: the evaluation broke off.
    """
    left = _left(part, done)
    if not left or (budget is not None and budget.spent >= budget.tokens):
        if left and budget is not None:
            budget.exhausted = True
        return done
    for start in range(0, len(left), LOGGED):
        if budget is None or budget.spent < budget.tokens:
            _evaluate(subject, part, logs, left[start : start + LOGGED], max_tokens, budget, approval)
        else:
            budget.exhausted = True
    return finished(logs, part.grid)


def _left(part: Part, done: pl.DataFrame) -> list[int]:
    """Numbers of the samples that have no outcome yet."""
    there = set(done.filter(pl.col("outcome") != Conduct.ERRORED)["sample"])
    return [number for number in range(part.grid.size) if part.grid.sample_id(number) not in there]


def _evaluate(
    subject: AgenticSubject,
    part: Part,
    logs: Path,
    numbers: Sequence[int],
    max_tokens: int,
    budget: Budget | None,
    approval: ApprovalPolicy | None = None,
) -> None:
    """Runs some samples of a part as one evaluation, with a log of its own."""
    task = agentic_task(
        part.grid,
        max_tokens=max_tokens,
        audited=True,
        probe=True,
        monitor=part.monitor,
        approval=[approval] if approval else None,
        numbers=numbers,
        budget=budget,
    )
    logs_of_run = inspect_eval(
        task,
        model=subject.make(),
        model_roles=dict(subject.make_graders()),
        log_dir=str(logs),
        display="none",
        log_realtime=False,
        log_buffer=LOG_BUFFER,
        max_samples=BUDGETED if budget is not None else SIMULATED_AT_A_TIME if subject.simulated else None,
    )
    if not logs_of_run or logs_of_run[0].status == "cancelled":  # Inspect has written what was finished, and gives no log of it
        raise KeyboardInterrupt
    [log] = logs_of_run
    if log.status != "success":
        told = log.error.message if log.error else log.status
        raise StepFailedError(
            f"The evaluation of {subject.name!r} ({part.name}) broke off: {told} What it finished is kept in {logs}; run the same command to go on.",
            {part.name: log.error.traceback if log.error else ""},
        )


def settled(subject: AgenticSubject, part: Part, logs: Path) -> pl.DataFrame:
    """What is finished of a part; the judges are asked again about samples of which none of them gave a verdict."""
    table = finished(logs, part.grid)
    return finished(logs, part.grid) if judge_again(subject, logs, table) else table


def of_subject(subject: AgenticSubject, table: pl.DataFrame) -> pl.DataFrame:
    """The table with the subject's short name in place of the model's."""
    return table.with_columns(subject=pl.lit(subject.name, dtype=CONDUCT_SCHEMA["subject"]))


def _tell(progress: Tell | None, work: Sequence[Work], place: int, state: StepState, *, done: int) -> None:
    if progress is not None:
        subject, part, _ = work[place]
        name = f"{subject.name}, {part.name}"
        progress(Progress(name, name, state, seconds=0.0, done=done, failed=0, running=int(state is StepState.STARTED), total=len(work)))
