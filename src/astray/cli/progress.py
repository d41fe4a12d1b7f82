"""Output while a study runs: one bar over all steps, and the current step."""

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from astray.artifacts import Progress, StepState


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
        self._running: dict[str, str] = {}

    def __enter__(self) -> "StepBar":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def update(self, event: Progress) -> None:
        """Show an event; failures stay on the screen, and without one each finished step is told on a line."""
        if event.state is StepState.STARTED:
            self._running[event.key] = event.name
        else:
            self._running.pop(event.key, None)
        if event.state is StepState.FINISHED and not self.console.is_terminal:
            took = f" ({event.seconds:.1f} s)" if event.seconds else ""
            self.console.print(
                f"{event.done}/{event.total} finished: {event.name}{took}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        if event.state in (StepState.FAILED, StepState.DAMAGED):
            self.console.print(f"{event.state}: {event.name}: {event.reason}", style="red", markup=False)
        self._bars.update(self._task, total=event.total, completed=event.done, doing=", ".join(self._running.values()))
