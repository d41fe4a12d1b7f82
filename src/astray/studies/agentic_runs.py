"""Runs the grid of the agentic study: each subject in every cell, without a monitor and under each one, as Inspect evaluations.

    logs/<subject>/<part>-<identity>/*.eval     Inspect logs: `inspect view --log-dir logs` opens them
    acts.parquet                               one row a sample (see measure/agentic/table.py)

A sample is known by its cell and replicate. What is in a log already is not asked again, so a run that was stopped, killed or ran out of its budget
goes on where it was; samples that ended in an error are tried again. A large part is run as one evaluation after the other, with a log each, since
Inspect keeps scores and summaries of all samples of an evaluation in memory and goes through them at each further one.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from inspect_ai import eval as inspect_eval
from inspect_ai.approval import ApprovalPolicy
from inspect_ai.log import EvalLog, EvalSampleSummary, list_eval_logs, read_eval_log, read_eval_log_sample_summaries

from astray.artifacts import Progress, StepState
from astray.artifacts.execute import usable_cpus
from astray.errors import ConfigurationError, EmptyDataError, StepFailedError
from astray.measure.agentic.budget import Budget
from astray.measure.agentic.conduct import Conduct
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.judging import VERSION
from astray.measure.agentic.scenario import load_scenario
from astray.measure.agentic.table import CONDUCT_SCHEMA, conduct_table
from astray.measure.agentic.task import agentic_task
from astray.stats.detection import Assessment
from astray.studies.agentic_judge_errors import PanelError
from astray.studies.agentic_judging import judge_again
from astray.studies.agentic_processes import Call, side_by_side
from astray.studies.agentic_subjects import AgenticSubject
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


def finished(logs: Path, grid: Grid) -> pl.DataFrame:
    """The samples of a grid that the logs of a folder hold, each once: a settled one first, then one without a verdict, then one that ended in an
    error. Of further errors the sample keeps the number and the tokens.

    Logs of scenarios whose texts have changed since are left out for those scenarios.
    """
    tables = [_of_log(log, grid) for log in readable_logs(logs)]
    wanted = {grid.sample_id(number) for number in range(grid.size)}
    rows = pl.concat([pl.DataFrame(schema=CONDUCT_SCHEMA), *tables])
    is_outcome = {name: pl.col("outcome") == outcome for name, outcome in (("errored", Conduct.ERRORED), ("unjudged", Conduct.JUDGE_FAILED))}
    keys = rows.select("sample", "replicate", "gate", "tokens", **is_outcome).with_row_index("row")
    by_error = keys.filter(pl.col("sample").is_in(wanted)).sort("errored", "unjudged", maintain_order=True)
    first = by_error.unique("sample", keep="first", maintain_order=True).sort("replicate", "sample")
    found = rows[first["row"]]  # whole rows are copied once
    others = by_error.join(first, on="row", how="anti")
    return _with_attempts(found, others) if len(others) else found


def settled(subject: AgenticSubject, part: Part, logs: Path) -> pl.DataFrame:
    """What is finished of a part; the judges are asked again about samples of which none of them gave a verdict."""
    table = finished(logs, part.grid)
    return finished(logs, part.grid) if judge_again(subject, logs, table) else table


def _with_attempts(found: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """The samples, with what their other attempts used and came to."""
    failed = pl.col("errored").sum().cast(pl.Int64)
    harmful = (pl.col("errored") & pl.col("gate")).sum().cast(pl.Int64)
    added = others.group_by("sample").agg(pl.col("tokens").filter("errored").sum(), retried=failed, retried_harm=harmful)
    names = ("tokens", "retried", "retried_harm")
    both = found.join(added, on="sample", how="left", suffix="_added", maintain_order="left")
    return both.with_columns(pl.col(name) + pl.col(f"{name}_added").fill_null(0) for name in names).select(found.columns)


def of_subject(subject: AgenticSubject, table: pl.DataFrame) -> pl.DataFrame:
    """The table with the subject's short name in place of the model's."""
    return table.with_columns(subject=pl.lit(subject.name, dtype=CONDUCT_SCHEMA["subject"]))


def done_samples(logs: Path, grid: Grid) -> dict[str, int]:
    """The samples of a grid that the logs of a folder hold with an outcome, which `run_part` would not ask again. Reads summaries alone.

    Returns:
        Id -> tokens of all models in all attempts.
    """
    tokens: Counter[str] = Counter()
    done = set()
    wanted = {grid.sample_id(number) for number in range(grid.size)}
    for log in readable_logs(logs):
        same = _unchanged(log, grid)
        for summary in _summaries(log) if same else []:
            if Path(summary.metadata["scenario"]).name in same:
                tokens[str(summary.id)] += sum(each.total_tokens for each in summary.model_usage.values())
                score = next(iter((summary.scores or {}).values()), None)
                if score is not None and score.value != Conduct.ERRORED:
                    done.add(str(summary.id))
    return {id: tokens[id] for id in tokens if id in done & wanted}


def readable_logs(logs: Path) -> list[str]:
    """The logs of a folder and those below it, without those that cannot be read: of a run that was killed while it wrote, or damaged."""
    return [info.name for info in list_eval_logs(str(logs)) if _header(info.name) is not None] if logs.is_dir() else []


def unreadable_logs(logs: Path) -> list[str]:
    """Names of the logs of a folder and those below it that cannot be read; their samples are asked again."""
    there = [info.name for info in list_eval_logs(str(logs))] if logs.is_dir() else []
    return [log.rpartition("/")[2] for log in there if _header(log) is None]


def _header(log: str) -> EvalLog | None:
    """The header of a log; None of one that is cut off or damaged, at which Inspect raises whatever its libraries do."""
    try:
        return read_eval_log(log, header_only=True)
    except Exception:
        return None


def _summaries(log: str) -> list[EvalSampleSummary]:
    """Of the samples of a log; none of a damaged one."""
    try:
        return read_eval_log_sample_summaries(log)
    except Exception:
        return []


def _unchanged(log: str, grid: Grid) -> list[str]:
    """Names of the scenarios of a grid whose texts are still those of a log."""
    header = _header(log)
    written = (header.eval.metadata or {}).get("scenarios", {}) if header else {}
    return [scenario.name for scenario in map(load_scenario, grid.scenarios) if written.get(scenario.name) == scenario.digest]


def _of_log(log: str, grid: Grid) -> pl.DataFrame:
    same = _unchanged(log, grid)
    if not same:
        return pl.DataFrame(schema=CONDUCT_SCHEMA)
    try:
        return conduct_table(log).filter(pl.col("scenario").is_in(same))
    except EmptyDataError:
        return pl.DataFrame(schema=CONDUCT_SCHEMA)
    except Exception as error:
        warnings.warn(f"The log {log} is damaged ({type(error).__name__}): its samples are asked again.", stacklevel=2)
        return pl.DataFrame(schema=CONDUCT_SCHEMA)


def _tell(progress: Tell | None, work: Sequence[Work], place: int, state: StepState, *, done: int) -> None:
    if progress is not None:
        subject, part, _ = work[place]
        name = f"{subject.name}, {part.name}"
        progress(Progress(name, name, state, seconds=0.0, done=done, failed=0, running=int(state is StepState.STARTED), total=len(work)))
