"""Worker processes of this machine, which stay for the whole run.

They are spawned, not forked (torch does not survive a fork), use one thread each, and stay, since importing a trainer
takes seconds. They end when this process ends, for whatever reason.
Leaves to others: running a step (work.py) and which one is next (execute.py).
"""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType

from astray.artifacts.store import Store
from astray.artifacts.work import ONE_THREAD, Failure, Order, Report, carry_out
from astray.artifacts.workplaces.place import BRIEFLY
from astray.errors import ConfigurationError

_READY = "ready"
_LEAVE = 5.0
"""Seconds that an idle worker has to exit by itself."""


@dataclass
class _Worker:
    """One worker process and its order."""

    process: BaseProcess
    pipe: Connection
    order: Order | None = None
    ready: bool = False


class Workers:
    """Worker processes, spawned on demand; a context manager that stops them on exit.

    Args:
        count: the largest number of processes at a time.
        store: receives the artifacts.
        started: called with the key of each step that starts.
    """

    chains = False
    retry = BRIEFLY

    def __init__(self, count: int, store: Store, started: Callable[[str], None]):
        self.count = count
        self.store = store
        self.started = started
        self._workers: list[_Worker] = []

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop all workers: busy ones at once, idle ones with time to remove their libraries' temporary files."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.order is not None:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join(_LEAVE)
            worker.process.kill()
            worker.process.join()
            worker.process.close()
        self._workers.clear()

    @property
    def free(self) -> bool:
        """Whether a worker is idle or another may be spawned."""
        return len(self._workers) < self.count or any(worker.order is None for worker in self._workers)

    def start(self, order: Order) -> None:
        """Send an order to an idle worker."""
        while True:
            worker = next((worker for worker in self._workers if worker.order is None), None) or self._spawn()
            try:
                worker.pipe.send(order)
            except (BrokenPipeError, ConnectionResetError):  # it was killed while it was idle
                self._bury(worker)
            else:
                worker.order = order
                return

    def wait(self, timeout: float | None) -> list[Report]:
        """Wait for reports; a worker that was killed is replaced and its step reported as failed.

        Raises:
            ConfigurationError: worker processes do not start at all.
        """
        ready = wait([worker.pipe for worker in self._workers], timeout)
        reports = (self._hear(worker) for worker in list(self._workers) if worker.pipe in ready)
        return [report for report in reports if report]

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        pipe, theirs = context.Pipe()
        with _environment(ONE_THREAD):
            process = context.Process(target=work, args=(theirs, self.store), name="astray-worker")
            # A worker inherits what is blocked: a Ctrl-C while it still imports would end in a traceback of its own.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            try:
                process.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        worker = _Worker(process, pipe)
        self._workers.append(worker)
        return worker

    def _hear(self, worker: _Worker) -> Report | None:
        """Handle one message of a worker, or its death."""
        try:
            message = worker.pipe.recv()
        except (EOFError, ConnectionResetError):
            return self._bury(worker)
        if message == _READY:
            worker.ready = True
        elif isinstance(message, str):
            self.started(message)
        elif isinstance(message, Report):
            worker.order = None
            return message
        return None

    def _bury(self, worker: _Worker) -> Report | None:
        worker.process.join()
        self._workers.remove(worker)
        if not worker.ready:
            raise ConfigurationError(
                "Worker processes do not start (their error stands above). If you call this from a script, each of "
                "them runs the script again: "
                'put the call under `if __name__ == "__main__":`, or give workers=0 to do everything in this process.'
            )
        if worker.order is None:
            return None
        origin = worker.order.origin
        reason = f"its worker process {_ending(worker.process.exitcode)}"
        return Report(origin.key, "failed", failure=Failure(origin.name, origin.key, reason, reason))


def work(pipe: Connection, store: Store) -> None:
    """Run the loop of a worker process: take an order, carry it out, report."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent decides
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=end_with_parent, daemon=True).start()
    pipe.send(_READY)
    with contextlib.suppress(EOFError):  # the parent has closed its end: there is no more to do
        loaded = 0
        while True:
            pipe.send(carry_out(pipe.recv(), store, pipe.send))
            # Trainers collect garbage each time: not among what was imported, which stays.
            if len(sys.modules) > loaded:
                gc.collect()
                gc.freeze()
                loaded = len(sys.modules)


def end_with_parent() -> None:
    """End this process when its parent ends, even if that was killed: nothing would use the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _ending(exit_code: int | None) -> str:
    """Return how a process ended, with the usual cause."""
    if exit_code is None or exit_code >= 0:
        return f"ended by itself with exit code {exit_code}: something in the step left Python (os._exit?)"
    name = signal.Signals(-exit_code).name
    if -exit_code == signal.SIGKILL:
        return f"was killed ({name}), as a system does when memory runs out. Use fewer workers or a smaller batch"
    return f"was killed ({name}): a library crashed, or somebody ended it"


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
