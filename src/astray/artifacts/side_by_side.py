"""Evaluations side by side, each in a process of its own: what a study of acting models gains where it waits for the processor and not for a model.

Processes are forked from a server that has loaded what they need, since loading takes seconds. They stand outside the terminal's group, so that a
Ctrl-C reaches this process alone, which hands it on: an evaluation that is interrupted writes out what it has. They end when this process ends, in
whatever way. Left to others: what an evaluation is and which of them there are (agentic_runs).
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from astray.artifacts.workers import end_with_parent
from astray.errors import StepFailedError

_NEEDED = ["astray.measure.agentic.runs", "inspect_ai.model", "inspect_ai.log", "astray.registry"]

Call = tuple[Callable[..., None], tuple[Any, ...]]


def side_by_side(calls: Sequence[Call], processes: int) -> Iterator[int]:
    """Makes calls in so many processes, those that stand first at first.

    Args:
        calls: functions of modules and their arguments, which are sent to the processes.
        processes: at a time.

    Yields:
        The number of each call, as soon as it is done.

    Raises:
        StepFailedError: a process was killed.
        Exception: what a call raised; the others are interrupted, and those that have not begun are never made.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_NEEDED)
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begin)
    try:
        futures = {pool.submit(_make, function, arguments): number for number, (function, arguments) in enumerate(calls)}
        for future in as_completed(futures):
            future.result()
            yield futures[future]
    except BrokenProcessPool as error:
        raise StepFailedError(
            "A process of the run was killed, as a system does when memory runs out, or could not begin, as from a script that calls astray.run "
            'without `if __name__ == "__main__":`. What was finished is kept: run the same again, with fewer workers.'
        ) from error
    except BaseException:
        for child in set(multiprocessing.active_children()) - others:
            if child.pid is not None:
                os.kill(child.pid, signal.SIGINT)
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_interrupted = threading.Event()
"""In each process: it was told to stop, so it makes no further call. A few are handed to a pool's processes before they can begin."""


def _begin() -> None:
    """Once in each process: deaf to the terminal, and gone when the parent is."""
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _make(function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """One call, which may be interrupted; after an interrupted one none is made."""
    if _interrupted.is_set():
        raise KeyboardInterrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        function(*arguments)
    except KeyboardInterrupt:
        _interrupted.set()
        raise
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
