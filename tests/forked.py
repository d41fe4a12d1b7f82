"""Starts processes in milliseconds: they are forked from one that has loaded everything and runs a single thread."""

import multiprocessing
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from unittest import mock

import pytest

from astray.artifacts.workplaces import workers
from preloaded import asked, run, tell, write_caller

NEEDED = [
    "spared",
    "astray.cause.kto",
    "astray.cause.quiet_trainer",
    "astray.cause.rl",
    "astray.cause.sft",
    "astray.measure.bulk",
    "astray.measure.dynamics",
    "astray.studies.emergent_misalignment.study",
    "astray.engine.run",
    "astray.subjects.subject",
    "astray.registry",
    "inspect_ai.log",
    "preloaded",
    "small_grid",
    # What Inspect, models and claims import at their first use:
    *("acp", "fastapi", "jsonschema", "openai.types.responses", "uvicorn"),
    *("statsmodels.stats.multitest", "statsmodels.stats.proportion", "transformers.models.llama.modeling_llama"),
]
"""All that studies, trainings and agentic runs import on their way: a process of tests has one such server, so that of
the first test is also that of the others."""


def share_server(address: Path, said: Path) -> None:
    """Fork the server from this process, which has imported all of it, for the processes that this one will fork; what
    they say is written to the file `said`."""
    if sys.version_info >= (3, 14):  # its servers have a key, which this would have to hand on
        return
    alive, held = os.pipe()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        if os.fork() == 0:
            os.close(held)
            written = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(written, 1)
            os.dup2(written, 2)  # those whose parent was killed say so: of use only where a test fails
            forkserver.main(listening.detach(), alive, [])
    os.close(alive)
    shared = forkserver._forkserver
    shared._forkserver_address, shared._forkserver_alive_fd = str(address), held
    shared.ensure_running = lambda: None


def fork_server(needed: list[str] = NEEDED) -> ForkServerContext:
    """Return the server, which runs."""
    context = multiprocessing.get_context("forkserver")
    if "ensure_running" in vars(forkserver._forkserver):  # it is shared
        return context
    context.set_forkserver_preload(needed)
    # Python 3.11 does not hand on its path, and what cannot be imported would be left out in silence.
    with mock.patch.dict(os.environ, {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}):
        forkserver.ensure_running()
    return context


def fork_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the workers of an execution be forked, too: each of them imports for seconds otherwise."""
    monkeypatch.setattr(workers, "multiprocessing", SimpleNamespace(get_context=lambda _: fork_server()))


@contextmanager
def forked_command(folder: Path, name: str, entry: str) -> Iterator[Path]:
    """Give a folder with a command as `preloaded` does, whose runs are forked from the server of this process."""
    address = folder / "socket"
    commands = write_caller(address, name, entry)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(address))
        listening.listen()
        serving = Thread(target=_serve, args=(listening,))
        serving.start()
        try:
            yield commands
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listening: socket.socket) -> None:
    """Run what is asked for, one after the other, until the socket is shut down."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        with connection:
            streams, given = asked(connection)
            process = fork_server().Process(target=run, args=(streams,), kwargs=given)
            process.start()
            for stream in streams:  # whoever reads what a run writes waits until nobody can write
                stream.close()
            process.join()
            tell(connection, process.exitcode or 0)
