"""Submitting jobs to Slurm through submitit, and the record of which job does which step.

    store/.slurm/jobs/            what submitit submits, the jobs' logs and what they return
    store/.slurm/steps/<key16>    the job of a step: a driver that comes later finds it, and submits nothing twice

Leaves to others: which steps are submitted, and what becomes of them (slurm.py).
"""

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from astray.artifacts.disk import explained, no_link
from astray.artifacts.manifest import KEY_DIGITS
from astray.artifacts.store import Store
from astray.artifacts.work import ONE_THREAD, Order
from astray.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from submitit import SlurmExecutor

_FOLDER = ".slurm"
LARGEST_ARRAY = 500
"""Tasks of one array; clusters usually take 1,000."""
_CONTINUATIONS = 50
"""Jobs in which a resumable step may go on after a time limit."""


@dataclass(frozen=True)
class Wanted:
    """Partition of a Slurm cluster, and what each job of it gets.

    Attributes:
        partition: name of the partition.
        gpus: GPUs of a step that runs a model; all other steps get none.
        minutes: time limit of a job; a training run goes on in the next job.
        account: which is charged; "" for the user's own.
        memory: GB of a job; None for what the cluster gives.
    """

    partition: str
    gpus: int = 0
    minutes: int = 240
    account: str = ""
    memory: float | None = None


@dataclass(frozen=True)
class SubmittedStep:
    """A job that was submitted for steps.

    Attributes:
        name: of the step that was looked up.
        key: of this step.
        job: number of the job; of an array's task as 123_4.
        keys: of all steps of the job.
    """

    name: str
    key: str
    job: str
    keys: tuple[str, ...]


class Submitter:
    """Submits jobs of one kind of partition, and keeps their records in a store."""

    def __init__(self, wanted: Wanted, store: Store):
        self.wanted = wanted
        self.folder = no_link(store.folder / _FOLDER)
        self.jobs, self.steps = self.folder / "jobs", self.folder / "steps"
        with explained(store.folder, every_error=True):
            for part in (self.jobs, self.steps):
                part.mkdir(parents=True, exist_ok=True)

    def executor(self, *, gpu: int, resumable: bool) -> "SlurmExecutor":
        """Return submitit's executor for jobs of one kind.

        Args:
            gpu: processes of each, on one node, that get the GPUs that are wanted.
            resumable: whether they go on in another job after the time limit.
        """
        from submitit import SlurmExecutor

        wanted = self.wanted
        try:
            executor = SlurmExecutor(self.jobs, max_num_timeout=_CONTINUATIONS if resumable else 0)
        except RuntimeError as error:
            raise MissingExtraError(
                "Slurm (srun is not on the PATH)", "--on slurm", "ssh LOGIN-NODE, and run there"
            ) from error
        given: dict[str, Any] = {
            "job_name": "astray",
            "partition": wanted.partition,
            "time": wanted.minutes,
            "cpus_per_task": max(1, gpu),
            # submitit takes a signal in the first 80% of the time for a preemption, which it repeats without end.
            "signal_delay_s": min(90, 6 * wanted.minutes),
            "array_parallelism": LARGEST_ARRAY,
            "additional_parameters": {"requeue": True},  # some clusters forbid it unless a job asks
            "setup": [f"export {name}={value}" for name, value in ONE_THREAD.items()],
        }
        if gpu and wanted.gpus:
            given["gpus_per_node"] = wanted.gpus * gpu
        if wanted.account:
            given["account"] = wanted.account
        if wanted.memory:
            given["mem"] = f"{round(wanted.memory * 1024)}MB"
        executor.update_parameters(**given)
        return executor

    def sbatch(self, executor: "SlurmExecutor", calls: Sequence[Callable[[], object]]) -> list[str]:
        """Submit calls as one array, and return the number of each job.

        Raises:
            ConfigurationError: Slurm refused it; with its words.
        """
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with contextlib.redirect_stderr(io.StringIO()):  # the error has the same words
                return [str(job.job_id) for job in executor.submit_array(calls)]
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            raise ConfigurationError(
                f"Slurm refused the job: {str(error).strip() or type(error).__name__} (sbatch for the partition "
                f"{self.wanted.partition!r}). Change --partition, --account, --gpus, --time or --memory."
            ) from error

    def record(self, id: str, order: Order) -> None:
        """Record which job does a step and those that follow it."""
        keys = [step.origin.key for step in order.line]
        for step in order.line:
            record = {"name": step.origin.name, "key": step.origin.key, "job": id, "keys": keys}
            new = self._file(step.origin.key).with_suffix(".new")
            new.write_text(json.dumps(record), encoding="utf-8")
            new.replace(self._file(step.origin.key))

    def recorded(self, key: str) -> SubmittedStep | None:
        """Return the last job that was submitted for a step."""
        return _read(self._file(key))

    def _file(self, key: str) -> Path:
        return self.steps / key[:KEY_DIGITS]


def submitted(store: Store) -> dict[str, SubmittedStep]:
    """Return the last job of each step that was ever submitted, by the step's key."""
    records = map(_read, (store.folder / _FOLDER / "steps").glob("*"))
    return {record.key: record for record in records if record}


def log_of(store: Store, id: str) -> Path:
    """Return the log of a job's errors."""
    return store.folder / _FOLDER / "jobs" / f"{id}_0_log.err"


def _read(path: Path) -> SubmittedStep | None:
    with contextlib.suppress(OSError, ValueError, KeyError):
        record = json.loads(path.read_text(encoding="utf-8"))
        return SubmittedStep(record["name"], record["key"], record["job"], tuple(record["keys"]))
    return None
