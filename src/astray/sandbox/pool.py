"""Warm sandboxes for many jobs: one per processor, each replaced when anything about it is odd.

A job costs a few milliseconds, since its sandbox and its Python run already. Left to others: what jobs do (`graders`).
"""

import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from astray.artifacts.execute import usable_cpus
from astray.errors import ConfigurationError
from astray.sandbox.limits import Limits
from astray.sandbox.probe import require_sandbox
from astray.sandbox.runner import Profile, Run, Runner


@dataclass(frozen=True)
class Job:
    """Job for a sandbox.

    Attributes:
        function: module and function of `inside`, as in "truth:run".
        payload: argument of the function.
        limits: limits of the job.
    """

    function: str
    payload: Mapping[str, Any]
    limits: Limits


class Pool:
    """Pool of warm sandboxes; a context manager that ends them.

    Example:
        with Pool() as pool:
            runs = pool.run([Job("truth:run", payload, Limits())])
    """

    def __init__(self, workers: int | None = None, profile: Profile | None = None) -> None:
        """Verify that the sandbox isolates; each sandbox starts when it is first needed.

        Raises:
            SandboxError: untrusted code cannot be run here.
        """
        if workers is not None and workers < 1:
            raise ConfigurationError(
                f"A pool of {workers} sandboxes runs nothing; write 1 or more, or nothing for one a processor."
            )
        require_sandbox()
        self.workers = workers or usable_cpus()
        self.profile = profile or Profile()
        self._threads = ThreadPoolExecutor(self.workers, thread_name_prefix="sandbox")
        self._idle: list[Runner] = []
        self._lock = threading.Lock()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def run(self, jobs: Iterable[Job]) -> list[Run]:
        """Run jobs, several at a time, and return their results in order.

        Raises:
            SandboxError: a sandbox can no longer be started.
        """
        return list(self._threads.map(self._do, jobs))

    def close(self) -> None:
        """End all sandboxes, after the jobs that are running."""
        self._threads.shutdown(cancel_futures=True)
        with self._lock:
            ending, self._idle = self._idle, []
        for runner in ending:
            runner.close()

    @property
    def processes(self) -> tuple[int, ...]:
        """Ids of the processes that hold idle sandboxes."""
        with self._lock:
            return tuple(runner.process for runner in self._idle)

    def _do(self, job: Job) -> Run:
        with self._lock:
            runner = self._idle.pop() if self._idle else None
        runner = runner or Runner(self.profile)
        intact = False  # an exception says nothing about the sandbox: it is then closed
        try:
            run = runner.do(job.function, job.payload, job.limits)
            intact = run.intact
        finally:
            if intact:
                with self._lock:
                    self._idle.append(runner)
            else:
                runner.close()
        return run
