"""Execution of a graph of steps: finished steps are not run again, and a failure stops only the steps that need it.

A run that was interrupted, killed or stopped by a full disk continues where it was when it is executed again, and ends
in the same bytes: finished artifacts are whole, everything else left no trace.
"""

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path

from astray.artifacts.contents import Artifact
from astray.artifacts.disk import explained
from astray.artifacts.ledger import Ledger
from astray.artifacts.plan import Plan
from astray.artifacts.step import Step
from astray.artifacts.store import Store
from astray.artifacts.timings import HERE, Timing, note_timing
from astray.artifacts.work import Failure, Order, Report
from astray.artifacts.workplaces.here import Here
from astray.artifacts.workplaces.place import Where, Workplace
from astray.artifacts.workplaces.workers import Workers
from astray.errors import ConfigurationError, StepFailedError, StoreError

FAILURES = ".failures"
"""Folder of a store with the tracebacks of failed steps."""


class StepState(StrEnum):
    """Event in the life of a step."""

    DONE_BEFORE = "done before"
    """Its artifact existed before."""
    DAMAGED = "damaged"
    """Its artifact was not what the step had written; it was moved aside, and the step is done anew."""
    WAITING = "waiting"
    """Another process is running it; it is tried again until that one has finished or died."""
    STARTED = "started"
    FINISHED = "finished"
    FAILED = "failed"
    SKIPPED = "skipped"
    """A step that it needs failed."""


@dataclass(frozen=True)
class Progress:
    """Report of one event in the life of one step.

    Attributes:
        name: of the step.
        key: of the step.
        state: the event.
        seconds: wall-clock time that the step took; 0 unless it finished or failed.
        done: steps that are done by now, in this execution or before.
        failed: steps that failed or were skipped by now.
        running: steps that are running now.
        total: all steps of this execution.
        reason: first line of why it failed, or what is damaged, else "".
    """

    name: str
    key: str
    state: StepState
    seconds: float
    done: int
    failed: int
    running: int
    total: int
    reason: str = ""


def execute(
    steps: Sequence[Step],
    store: Store,
    *,
    workers: int | None = None,
    on: Where | None = None,
    progress: Callable[[Progress], None] | None = None,
    ledger: Ledger | None = None,
) -> dict[str, Artifact]:
    """Make the artifacts of these steps and of all steps that they need.

    Args:
        steps: the steps whose artifacts are requested.
        store: where artifacts are looked up and kept.
        workers: worker processes, one thread each; by default one for each CPU. 0 does every step in this process, with
            its own number of threads: numbers that depend on that may differ in their last digits.
        on: a place beyond this machine, in place of worker processes.
        progress: called in this process with every event.
        ledger: what the steps may spend together; they read it with `current_ledger`.

    Returns:
        the artifact of each of `steps`, by key. Provisional ones among them are done again by the next execution.

    Raises:
        StepFailedError: at the end, when everything that could be done is done; `tracebacks` has the whole story of
            each.
        StoreError: the store failed (full disk, damaged artifact); steps at work were still finished where possible.
        ConfigurationError: the number of workers is none, the store lives in the memory of this process and cannot
            be shared with workers, or `on` has not what was asked for.
        MissingExtraError: the package for `on` is not installed.
        KeyboardInterrupt: workers were stopped; finished artifacts are kept, the others left no trace.
    """
    count = _checked(workers, on, store, ledger)
    store.sweep()
    run = _Run(Plan(steps, store), store, progress, ledger, on.label if on else HERE)
    try:
        run.put_aside()
        run.carry_over()
        with contextlib.ExitStack() as stack:
            if on:
                run.through(stack.enter_context(on.opened(store, run.started)))
            elif count:
                run.through(stack.enter_context(Workers(count, store, run.started)))
            else:
                run.through(Here(store, run.started))
    finally:
        with contextlib.suppress(StoreError):  # the error that ended the execution is the one to tell
            store.sweep()  # workers that were stopped cannot do it
    among = {} if all(step.key in run.plan.done for step in steps) else store.by_digits()
    return {step.key: run.artifact(step.key, among) for step in steps}


def _checked(workers: int | None, on: Where | None, store: Store, ledger: Ledger | None) -> int:
    """Return the number of worker processes; refuse what cannot go together."""
    if on and workers is not None:
        raise ConfigurationError(
            f"workers={workers!r} are processes of this machine, and `on` names another place. Give one of them."
        )
    if on and ledger and store.mirror:
        raise ConfigurationError(
            f"A budget is counted in a file that all steps reach, and the store {store.root} is no folder that machines "
            "share. Leave out --budget, or give --store such a folder."
        )
    count = usable_cpus() if workers is None else worker_count(workers)
    if (count or on) and store.root.startswith("memory://"):
        raise ConfigurationError(
            f"The store {store.root} lives in the memory of this process, so workers cannot reach it. Give "
            "workers=0, or a folder."
        )
    return count


class _Run:
    """One execution: takes steps from the plan, gives them to the workers and counts the results."""

    def __init__(
        self, plan: Plan, store: Store, tell: Callable[[Progress], None] | None, ledger: Ledger | None, place: str
    ):
        self.plan, self.store, self.tell, self.ledger, self.place = plan, store, tell, ledger, place
        self.done = 0
        self.ordered: set[str] = set()
        self.follower: dict[str, str] = {}
        self.running: set[str] = set()
        self.waited: set[str] = set()
        self.postponed: set[str] = set()
        self.failures: list[Failure] = []
        self.skipped: list[Step] = []

    def put_aside(self) -> None:
        """Move damaged artifacts aside before they are made again, and report them."""
        for key, damage in self.plan.damage.items():
            for artifact in damage:
                if self.store.put_aside(artifact):
                    self._event(key, StepState.DAMAGED, reason=str(artifact))

    def carry_over(self) -> None:
        """Carry artifacts of an older store over to the present keys, before steps look for them there."""
        for key, artifact in self.plan.done.items():
            if artifact.key != key:
                self.plan.done[key] = self.store.adopt(artifact, self.plan.steps[key].origin)
        for key, step in self.plan.steps.items():
            if step.former_keys and key not in self.plan.done and step.resumable:
                self.store.go_on(key, step.former_keys)

    def through(self, workplace: Workplace) -> None:
        """Run every step that can be run, then raise for those that failed."""
        for key in self.plan.done:
            self.done += 1
            self._event(key, StepState.DONE_BEFORE)
        while True:
            while workplace.free and not self._store_failed and (step := self.plan.next()):
                workplace.start(self._order(step, self.plan.followers(step) if workplace.chains else []))
            if not self.ordered and (self._store_failed or not self.postponed):
                break
            reports = workplace.wait(workplace.retry if self.postponed else None)
            for report in reports:
                self._hear(report)
            if not reports:
                for key in self.postponed:
                    self.plan.add(key)
                self.postponed.clear()
        if self.failures:
            raise self._error()

    def _order(self, step: Step, then: Sequence[Step]) -> Order:
        keys = [step.key, *(follower.key for follower in then)]
        self.ordered.update(keys)
        self.follower.update(pairwise(keys))
        return Order.of(step, self.ledger, then, self.plan)

    def started(self, key: str) -> None:
        """Record that a step starts: its lock is held."""
        self.running.add(key)
        self._event(key, StepState.STARTED)

    def artifact(self, key: str, among: Mapping[str, Sequence[str]]) -> Artifact:
        """Return the artifact of a finished step from a listing of the store."""
        artifact = self.plan.done.get(key) or self.store.get(key, among=among)
        if artifact is None:
            raise StoreError(
                f"The artifact {key[:16]} was removed from {self.store.root} right after it was made. Run the same "
                "again."
            )
        return artifact

    @property
    def _store_failed(self) -> bool:
        """Return whether the store failed, so that no further step could be kept."""
        return any(failure.is_store for failure in self.failures)

    def _hear(self, report: Report) -> None:
        key = report.key
        self.ordered.discard(key)
        self.running.discard(key)
        follower = self.follower.pop(key, None)
        while follower and report.result != "finished":  # those that were to follow were not run
            self.ordered.discard(follower)
            self.plan.unfollow(follower)
            follower = self.follower.pop(follower, None)
        if report.result == "busy":
            self.postponed.add(key)
            if key not in self.waited:
                self.waited.add(key)
                self._event(key, StepState.WAITING)
            return
        if report.failure is None:
            self.done += 1
            self.plan.finished(key)
            with explained(self.store.folder, every_error=True):
                self._traceback_file(key).unlink(missing_ok=True)
            if report.ran:
                function = self.plan.steps[key].function.name
                took = Timing(key, function, self.place, report.seconds, report.memory, report.gpu_memory)
                note_timing(self.store, took)
            self._event(key, StepState.FINISHED, report.seconds)
            return
        self.failures.append(report.failure)
        self._keep_traceback(report.failure)
        lost = self.plan.failed(key)
        self._event(key, StepState.FAILED, report.seconds, _first_line(report.failure.reason))
        for step in lost:
            self.skipped.append(step)
            self._event(step.key, StepState.SKIPPED, reason=f"needs {report.failure.name}, which failed")

    def _event(self, key: str, state: StepState, seconds: float = 0.0, reason: str = "") -> None:
        if self.tell:
            failed = len(self.failures) + len(self.skipped)
            self.tell(
                Progress(
                    self.plan.steps[key].name,
                    key,
                    state,
                    seconds,
                    self.done,
                    failed,
                    len(self.running),
                    len(self.plan.steps),
                    reason,
                )
            )

    def _traceback_file(self, key: str) -> Path:
        return self.store.folder / FAILURES / f"{self.plan.steps[key].origin.folder_name}.txt"

    def _keep_traceback(self, failure: Failure) -> None:
        """Write a traceback beside the artifacts where the disk allows it; `astray status` finds it there."""
        if failure.is_store:
            return
        file = self._traceback_file(failure.key)
        with contextlib.suppress(OSError):
            file.parent.mkdir(exist_ok=True)
            file.write_text(failure.traceback)

    def _error(self) -> Exception:
        """Return the failures as one error."""
        for failure in self.failures:
            if failure.is_store:
                return StoreError(failure.reason)
        lines = []
        for failure in self.failures:
            told = f"{failure.name}: {_first_line(failure.reason)}"
            lines.append(f"  {told} (traceback: {self._traceback_file(failure.key)})")
        skipped = f" and {len(self.skipped)} that need them were not run" if self.skipped else ""
        head = (
            f"{len(lines)} of {len(self.plan.steps)} steps failed{skipped}; the other {self.done} are done and kept "
            f"in {self.store.root}."
        )
        tracebacks = {self.plan.steps[failure.key].origin.folder_name: failure.traceback for failure in self.failures}
        return StepFailedError(
            "\n".join([head, *lines, "Mend the cause and run the same again: only what is missing is done."]),
            tracebacks,
        )


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0]


def worker_count(given: object) -> int:
    """Return a given number of worker processes.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise ConfigurationError(
            f"workers={given!r} is no number of processes. Give 1 or more, or 0 to do everything in this process."
        )
    return given


def usable_cpus() -> int:
    """Return the number of CPUs that this process may use, where the system reports it; else of all CPUs."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1
