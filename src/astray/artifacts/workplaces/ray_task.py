"""What runs on the nodes of a Ray cluster: a step, the list of steps that started, and the look at the store."""

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from tempfile import TemporaryFile
from typing import IO, Any

from astray.artifacts.store import Store
from astray.artifacts.work import Order, Report, carry_out
from astray.artifacts.workplaces.probe import Probe

_LINES = 20
"""Last lines of what a failed step wrote, for its error."""


class Starts:
    """Steps that started and the node of each, until the driver asks: an actor beside it."""

    def __init__(self) -> None:
        self._new: list[tuple[str, str]] = []

    def add(self, key: str, node: str) -> None:
        """Add a step."""
        self._new.append((key, node))

    def take(self) -> list[tuple[str, str]]:
        """Return those that were added since the last time."""
        new, self._new = self._new, []
        return new


def run(order: Order, root: str, starts: Any) -> Report:
    """Run a step; the failure of one tells what it wrote last."""
    import ray

    node = ray.get_runtime_context().get_node_id()
    with _written() as written:
        report = carry_out(order, Store(root), lambda key: starts.add.remote(key, node))
        if report.failure is None:
            return report
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        written.seek(0)
        lines = written.read().decode(errors="replace").splitlines()[-_LINES:]
    told = f"{report.failure.traceback}\nWritten on the node {node[:8]}:\n" + "\n".join(lines)
    return replace(report, failure=replace(report.failure, traceback=told))


def look(probe: Probe, here: str) -> str:
    """Return what is wrong on this node, or ""; `here` is the version of Astray on the driver."""
    there = version("astray")
    return f"it has Astray {there}, and the driver has {here}" if there != here else probe()


@contextlib.contextmanager
def _written() -> Iterator[IO[bytes]]:
    """Collect what this process writes to its output and error streams, child processes included."""
    with TemporaryFile() as file:
        before = [os.dup(stream) for stream in (1, 2)]
        try:
            for stream in (1, 2):
                os.dup2(file.fileno(), stream)
            yield file
        finally:
            for stream, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, stream)
                os.close(kept)
