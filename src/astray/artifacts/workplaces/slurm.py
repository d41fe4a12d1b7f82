"""A Slurm cluster as a place for steps: each step, with the short ones that follow it, is one task of a job array.

The driver may end at any time: jobs go on, and the same command finds them again. It asks Slurm for its queue and looks
into the folder of jobs; what a job returned counts, and a job without any that left the queue has failed, or is
submitted again where a node was lost. Leaves to others: submitting and the records of jobs (slurm_submit.py), what runs
in a job (slurm_job.py) and Slurm's commands (slurm_queue.py).
"""

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from astray.artifacts.disk import locked
from astray.artifacts.manifest import KEY_DIGITS
from astray.artifacts.store import Store
from astray.artifacts.work import Failure, Order, Report, last_line
from astray.artifacts.workplaces.probe import probing
from astray.artifacts.workplaces.slurm_job import Job
from astray.artifacts.workplaces.slurm_queue import LOST, Queued, check_partition, ending, queue
from astray.artifacts.workplaces.slurm_submit import LARGEST_ARRAY, Submitter, Wanted, log_of
from astray.errors import ConfigurationError, MissingExtraError, StoreError

_TRIES = 3
"""Submissions of a step whose jobs are lost with their nodes or preempted for good."""
_LIMIT = re.compile(r"limit|invalid job array|maxsubmit|maxarray", re.IGNORECASE)
_FIRST_LOOK = 0.2
_LINES = 20
"""Last lines of a job's log in a failure."""
_ENDINGS = {
    "TIMEOUT": "its job ran into the time limit. Give a longer --time",
    "OUT_OF_MEMORY": "its job had not enough memory. Give more with --memory",
    "CANCELLED": "its job was cancelled, by somebody or by the cluster",
}


@dataclass(frozen=True)
class Slurm(Wanted):
    """Partition of a Slurm cluster, what each job of it gets (see `Wanted`), and how it is watched.

    Attributes:
        patience: seconds until a job that left the queue without a result is taken for failed: the results of other
            machines come late on network file systems.
        pause: longest time between two looks at the queue, in seconds.
    """

    patience: float = 60.0
    pause: float = 10.0

    @property
    def label(self) -> str:
        """Name of the place, and what a step that runs a model gets there."""
        return f"slurm, partition {self.partition}, {self.gpus} GPUs a model"

    @contextlib.contextmanager
    def opened(self, store: Store, started: Callable[[str], None]) -> "Iterator[SlurmJobs]":
        """Check the partition and submitit, and let a first job look at the store.

        Raises:
            MissingExtraError: submitit or Slurm itself is not installed.
            ConfigurationError, UnknownNameError: the partition cannot run this.
            StoreError: the store is no folder, or jobs cannot reach it.
        """
        try:
            import submitit  # noqa: F401
        except ImportError as error:
            raise MissingExtraError("submitit", "--on slurm", "pip install 'astray[slurm]'") from error
        if store.mirror:
            raise ConfigurationError(
                f"--on slurm needs a store in a folder that all nodes mount, since jobs and driver share it; "
                f"{store.root} is none. Give --store a folder, and copy it there at the end."
            )
        check_partition(self.partition, self.gpus, self.minutes)
        jobs = SlurmJobs(self, store, started)
        jobs.probe()
        try:
            yield jobs
        except KeyboardInterrupt:
            told = "The jobs go on: the same command follows them, `scancel --name=astray` ends them."
            print(told, file=sys.stderr)
            raise


@dataclass
class _Task:
    """A submitted job, and the orders of this driver that it carries out."""

    id: str
    orders: list[Order]
    gone: float | None = None
    """When it was first seen to have left the queue."""


@dataclass
class SlurmJobs:
    """The jobs of one driver."""

    settings: Slurm
    store: Store
    started: Callable[[str], None]
    chains: bool = True
    retry: float = field(init=False)
    _waiting: list[Order] = field(default_factory=list)
    _tasks: dict[str, _Task] = field(default_factory=dict)
    _tries: dict[str, int] = field(default_factory=dict)
    _running: set[str] = field(default_factory=set)
    _array: int = LARGEST_ARRAY
    _refused: float | None = None

    def __post_init__(self) -> None:
        self.retry = self.settings.pause
        self.submitter = Submitter(self.settings, self.store)

    @property
    def free(self) -> bool:
        """Whether further orders can be taken: a cluster takes any number, unless it just refused some."""
        return self._array == LARGEST_ARRAY or not self._waiting

    def start(self, order: Order) -> None:
        """Take an order; `wait` submits all of them as few arrays."""
        self._waiting.append(order)

    def wait(self, timeout: float | None) -> list[Report]:
        """Submit what waits, then look at the jobs until one ended."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_LOOK
        while True:
            reports = [*self._submit(), *self._look()]
            if reports or (end is not None and time.monotonic() >= end):
                return reports
            time.sleep(pause)
            pause = min(1.3 * pause, self.settings.pause)

    def probe(self) -> None:
        """Let a job look at the store, unless one of the same partition has.

        Raises:
            StoreError: jobs cannot reach it, or its locks do not hold between machines.
        """
        folder, partition = str(self.store.folder), self.settings.partition
        passed = self.submitter.folder / f"passed-{re.sub(r'[^A-Za-z0-9_.-]', '-', partition)}"
        if passed.is_file() and passed.read_text(encoding="utf-8") == folder:  # else the store was copied here
            return
        with probing(self.store) as probe:
            executor = self.submitter.executor(gpu=0, resumable=False)
            wrong = self._probed(self.submitter.sbatch(executor, [probe])[0])
        if wrong:
            raise StoreError(
                f"Jobs of the partition {partition!r} cannot use the store {self.store.folder}: {wrong}. "
                "Give --store a folder that all nodes mount and may write to."
            )
        passed.write_text(folder, encoding="utf-8")

    def _probed(self, id: str) -> str:
        pause, task = _FIRST_LOOK, _Task(id, [])
        while not (result := self._result(id)) and not self._gone(task, queue()):
            time.sleep(pause)
            pause = min(1.3 * pause, self.settings.pause)
        outcome, told = result or self._result(id) or (None, None)
        if outcome is None:
            return f"a first job ({id}) ended as {ending(id) or 'failed'} and left nothing there{self._log_tail(id)}"
        return str(told) if outcome == "success" else f"a first job ({id}) failed there: {last_line(str(told))}"

    def _submit(self) -> list[Report]:
        """Submit what waits, except for what is done by now or what a job is doing already."""
        if not self._waiting:
            return []
        reports: list[Report] = []
        # Two drivers submit one after the other.
        with locked(self.submitter.folder / "lock", self.store.folder, wait=True):
            states, finished, left = queue(), self.store.by_digits(), []
            while self._waiting:
                order = self._waiting.pop(0)
                key = order.origin.key
                if states is None:  # Slurm does not answer: jobs that are there would be submitted again
                    left.append(order)
                elif (record := self.submitter.recorded(key)) and record.job in states:
                    self._follow(record.job, order)
                elif key[:KEY_DIGITS] in finished and self._is_done(key):
                    reports.append(Report(key, "finished"))
                    self._waiting = [*_rest(order), *self._waiting]
                else:
                    left.append(order)
            self._waiting = left if states is None else self._submit_new(left)
        return reports

    def _waited_long(self) -> bool:
        """Return whether the cluster has refused a single job for longer than one that ended may still be listed."""
        self._refused = self._refused or time.monotonic()
        return time.monotonic() - self._refused > self.settings.patience

    def _submit_new(self, orders: Sequence[Order]) -> list[Order]:
        """Submit orders as arrays; return those that the cluster takes later."""
        kinds: dict[tuple[int, bool], list[Order]] = {}
        for order in orders:
            kinds.setdefault((order.gpu, order.resumable), []).append(order)
        left: list[Order] = []
        for (gpu, resumable), alike in kinds.items():
            executor = self.submitter.executor(gpu=gpu, resumable=resumable)
            while alike:
                some = alike[: self._array]
                try:
                    ids = self.submitter.sbatch(executor, [Job(str(self.store.folder), order) for order in some])
                except ConfigurationError as error:
                    if not _LIMIT.search(str(error)) or (len(some) == 1 and not self._tasks and self._waited_long()):
                        raise
                    self._array = max(1, len(some) // 2)
                    if self._tasks or len(some) == 1:  # jobs take up the limit, some of which may just have ended
                        break
                    continue
                self._refused = None
                for id, order in zip(ids, some, strict=True):
                    self.submitter.record(id, order)
                    self._follow(id, order)
                del alike[: len(some)]
            left += alike
        if not left:
            self._array = LARGEST_ARRAY
        return left

    def _follow(self, id: str, order: Order) -> None:
        """Follow a job of this or another driver."""
        self._tasks.setdefault(id, _Task(id, [])).orders.append(order)

    def _is_done(self, key: str) -> bool:
        artifact = self.store.search(key)[0]
        return artifact is not None and not artifact.manifest.provisional

    def _look(self) -> list[Report]:
        """Return the reports of jobs that ended."""
        if not self._tasks:
            return []
        there = {path.name for path in self.submitter.jobs.glob("*_result.pkl")}
        states = queue()
        reports: list[Report] = []
        for task in list(self._tasks.values()):
            if f"{task.id}_0_result.pkl" in there and (result := self._result(task.id)):
                reports += self._ended(task, *result)
            elif self._gone(task, states):
                reports += self._lost(task)
            elif states and task.id in states and states[task.id].running:
                self._tell_started(task)
        return reports

    def _tell_started(self, task: _Task) -> None:
        for order in task.orders:
            if order.origin.key not in self._running:
                self._running.add(order.origin.key)
                self.started(order.origin.key)

    def _gone(self, task: _Task, states: dict[str, Queued] | None) -> bool:
        """Return whether a job left the queue so long ago that its result would be here."""
        if states is None or task.id in states:
            task.gone = None if states is not None else task.gone
            return False
        task.gone = task.gone or time.monotonic()
        patience = 0.0 if ending(task.id) in (*LOST, *_ENDINGS) else self.settings.patience
        return time.monotonic() - task.gone >= patience

    def _result(self, id: str) -> tuple[str, Any] | None:
        """Return what a job returned, as submitit keeps it: ("success", reports) or ("error", traceback)."""
        from submitit.core.utils import pickle_load

        path = self.submitter.jobs / f"{id}_0_result.pkl"
        try:
            result: tuple[str, Any] = pickle_load(path)
        except (OSError, EOFError):  # not there, or not whole yet
            return None
        return result

    def _ended(self, task: _Task, outcome: str, told: Any) -> list[Report]:
        """Return the reports of a job that returned something."""
        if outcome == "error":
            return self._failed(task, f"its job failed: {last_line(told)}", told)
        del self._tasks[task.id]
        by_key = {report.key: self._with_log(report, task.id) for report in told}
        reports: list[Report] = []
        for order in task.orders:
            for step in order.line:
                # A job that another driver submitted may lack some of the steps.
                reports.append(by_key.get(step.origin.key) or Report(step.origin.key, "busy"))
                if reports[-1].result != "finished":
                    break
        return reports

    def _with_log(self, report: Report, id: str) -> Report:
        if report.failure is None:
            return report
        reason = report.failure.reason
        if "Job not requeued because" in reason:  # submitit's way to end a step at the time limit
            reason = _ENDINGS["TIMEOUT"]
        return replace(report, failure=replace(report.failure, reason=self._in_job(reason, id)))

    def _in_job(self, reason: str, id: str) -> str:
        first, *rest = reason.split("\n", 1)
        return "\n".join([f"{first} (job {id}, log: {log_of(self.store, id)})", *rest])

    def _lost(self, task: _Task) -> list[Report]:
        """Return the reports of a job that returned nothing; submit it again where a node was lost."""
        state = ending(task.id)
        if state not in LOST:
            return self._failed(
                task, _ENDINGS.get(state, f"its job ended as {state or 'unknown'} and returned nothing")
            )
        first = task.orders[0].origin.key
        self._tries[first] = self._tries.get(first, 0) + 1
        if self._tries[first] == _TRIES:
            return self._failed(task, f"{_TRIES} of its jobs were lost ({state})")
        del self._tasks[task.id]
        self._waiting += task.orders
        return []

    def _failed(self, task: _Task, reason: str, traceback: str = "") -> list[Report]:
        """Return the reports of a job that failed as a whole: what it finished before is kept."""
        del self._tasks[task.id]
        reason = self._in_job(reason, task.id)
        reports: list[Report] = []
        for order in task.orders:
            for step in order.line:
                key = step.origin.key
                if self._is_done(key):
                    reports.append(Report(key, "finished"))
                    continue
                text = f"{reason}\n{traceback}{self._log_tail(task.id)}"
                reports.append(Report(key, "failed", failure=Failure(step.origin.name, key, reason, text)))
                break
        return reports

    def _log_tail(self, id: str) -> str:
        try:
            lines = log_of(self.store, id).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "\n(the job left no log: its node may not reach this folder)"
        return "\n" + "\n".join(lines[-_LINES:])


def _rest(order: Order) -> list[Order]:
    """Return what follows an order that is done."""
    return [replace(order.then[0], then=order.then[1:])] if order.then else []
