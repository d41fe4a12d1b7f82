"""Progress of the studies in a store: which steps are done, running, waiting or failed, wherever they run.

    store/.steps/emergent-misalignment    name of each step of its last run, by key

It is read from the store and from Slurm's queue, so no driver has to be at work. A store in a bucket has the names too, so
that each machine sees the steps of the last run of all, and who holds a step there (`bucket_locks`).
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from astray.artifacts.bucket_locks import Holder, holders
from astray.artifacts.disk import explained, no_link
from astray.artifacts.execute import FAILURES
from astray.artifacts.manifest import KEY_DIGITS
from astray.artifacts.soundness import check_plain
from astray.artifacts.step import Step
from astray.artifacts.store import Store
from astray.artifacts.workplaces.slurm_queue import Queued, ending, queue
from astray.artifacts.workplaces.slurm_submit import SubmittedStep, log_of, submitted
from astray.errors import StoreError

_STEPS = ".steps"


class State(StrEnum):
    """State of a step of a study."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    """Its job waits in the queue of a cluster."""
    FAILED = "failed"
    NOT_BEGUN = "not begun"


@dataclass(frozen=True)
class StepStatus:
    """State of one step.

    Attributes:
        name: of the step.
        state: of the step.
        job: number of its job and what the cluster says of it; "" on this machine.
        log: of its job, or the traceback of its failure; None where there is none.
        holder: the other machine that runs it, where the store is in a bucket.
    """

    name: str
    state: State
    job: str = ""
    log: Path | None = None
    holder: Holder | None = None


def note_steps(store: Store, study: str, steps: Sequence[Step]) -> None:
    """Record the steps of a study that starts.

    Raises:
        ConfigurationError: the study's name cannot be that of a file.
        StoreError: the store cannot be written.
    """
    check_plain("study", study)
    folder = no_link(store.folder / _STEPS)
    with explained(store.folder, every_error=True):
        folder.mkdir(parents=True, exist_ok=True)
        new, names = folder / f".{study}", json.dumps({step.key: step.name for step in steps})
        new.write_text(names, encoding="utf-8")
        new.replace(folder / study)
    if store.mirror:
        with suppress(StoreError):  # it is only shown to other machines, and whoever may only read has it all before
            store.mirror.write(f"{_STEPS}/{study}", names.encode())


def status(store: Store) -> dict[str, tuple[StepStatus, ...]]:
    """Return the state of each step of each study that was run in a store, by the study's name.

    Raises:
        StoreError: the store cannot be read.
    """
    look = _Look(store)
    files = sorted(path for path in (store.folder / _STEPS).glob("[!.]*") if path.is_file())
    here = {path.name: path.read_bytes() for path in files}
    anywhere = store.mirror.objects(_STEPS) if store.mirror else {}
    return {
        study: tuple(
            look.at(key, name)
            # In a bucket stand the steps of the last run of all machines.
            for key, name in json.loads(anywhere[study] if study in anywhere else here[study]).items()
        )
        for study in sorted(here.keys() | anywhere.keys())
    }


class _Look:
    """What the store and the queue hold at one moment."""

    def __init__(self, store: Store):
        self.store = store
        self.jobs: Mapping[str, SubmittedStep] = submitted(store)
        self.queue: Mapping[str, Queued] | None = queue() if self.jobs else {}
        self.locked = store.locked()
        self.holders = holders(store.mirror) if store.mirror else {}
        self.failures = {path.stem.rpartition("-")[2]: path for path in (store.folder / FAILURES).glob("*.txt")}
        self.done = store.by_digits()  # last, so that a step that ends now counts as done

    def at(self, key: str, name: str) -> StepStatus:
        """Return the state of a step."""
        digits, record = key[:KEY_DIGITS], self.jobs.get(key)
        if digits in self.done:
            return StepStatus(name, State.DONE)
        if record and (self.queue is None or record.job in self.queue):
            return self._in_queue(name, record)
        if digits in self.locked:
            return StepStatus(name, State.RUNNING)
        if digits in self.holders:
            return StepStatus(name, State.RUNNING, holder=self.holders[digits])
        if record and self._was_reached(record):
            told = f"{record.job} {ending(record.job) or 'ended'}"
            return StepStatus(name, State.FAILED, told, log_of(self.store, record.job))
        if digits in self.failures:
            return StepStatus(name, State.FAILED, log=self.failures[digits])
        return StepStatus(name, State.NOT_BEGUN)

    def _in_queue(self, name: str, record: SubmittedStep) -> StepStatus:
        if self.queue is None:
            return StepStatus(name, State.QUEUED, f"{record.job} (Slurm does not answer)")
        queued, log = self.queue[record.job], log_of(self.store, record.job)
        if queued.running and self._was_reached(record):
            return StepStatus(name, State.RUNNING, record.job, log)
        return StepStatus(name, State.QUEUED, f"{record.job} {queued.state} ({queued.why})", log)

    def _was_reached(self, record: SubmittedStep) -> bool:
        """Return whether all steps that come before this one in its job are done."""
        before = record.keys[: record.keys.index(record.key)]
        return all(key[:KEY_DIGITS] in self.done for key in before)
