"""Output while a study runs: one bar over all steps, and the current step; lines where the output is no terminal."""

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from astray.artifacts import Progress, StepState
from astray.cli.ending import fitted

SILENCE = 60.0
"""Seconds after which a log is told what still runs."""


class StepBar:
    """A progress bar over the steps of a study.

    Args:
        title: what is shown in front of the bar.
    """

    def __init__(self, title: str):
        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[doing]}"),
        )
        self._bars = Bars(*columns, console=self.console, disable=not self.console.is_terminal)
        self._task = self._bars.add_task(title, total=None, doing="planning")
        self._running: dict[str, tuple[str, float]] = {}
        self._told = time.monotonic()
        self._over = threading.Event()
        self._listening = ExitStack()

    def __enter__(self) -> "StepBar":
        self._bars.start()
        self._listening.enter_context(_told_at_once(lambda: self._line("Stopping: what is finished is kept.")))
        if not self.console.is_terminal:
            threading.Thread(target=self._tell_what_runs, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._listening.close()
        self._bars.stop()

    def update(self, event: Progress) -> None:
        """Show an event; failures stay on the screen, and without one each finished step is told on a line."""
        if event.state is StepState.STARTED:
            self._running[event.key] = (event.name, time.monotonic())
        else:
            self._running.pop(event.key, None)
        if event.state is StepState.FINISHED and not self.console.is_terminal:
            duration = f" ({event.seconds:.1f} s)" if event.seconds else ""
            self._line(f"{event.done}/{event.total} finished: {event.name}{duration}")
        if event.state in (StepState.FAILED, StepState.DAMAGED):
            line = f"{event.state}: {event.name}: {event.reason}"
            self.console.print(
                fitted(line, self.console.file), style="red", markup=False, highlight=False, soft_wrap=True
            )
        doing = ", ".join(name for name, _ in self._running.values())
        self._bars.update(self._task, total=event.total, completed=event.done, doing=doing)

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
        self._told = time.monotonic()

    def _tell_what_runs(self) -> None:
        """Tell what still runs whenever nothing was told for a while, so that long steps are no silence."""
        while not self._over.wait(SILENCE / 4):
            now = time.monotonic()
            if now - self._told >= SILENCE and (running := list(self._running.values())):
                self._line(f"running: {', '.join(f'{name} ({now - began:.0f} s)' for name, began in running)}")


@contextmanager
def _told_at_once(tell: Callable[[], None]) -> Iterator[None]:
    """Call a function as soon as Ctrl-C is pressed, which a step in the middle of its work may notice only later."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard, signals = socket.socketpair()
    signals.setblocking(False)

    def listen() -> None:
        with heard:
            while number := heard.recv(1):
                if number[0] == signal.SIGINT:
                    tell()

    before = signal.set_wakeup_fd(signals.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=listen, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        signals.close()
