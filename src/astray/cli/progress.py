"""What a person sees while a study runs: one bar over all steps, what is being done, and at the end every claim with its verdict."""

from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table

from astray.artifacts import Progress, StepState
from astray.engine.summary import Summary


class StepBar:
    """A progress bar over the steps of a study.

    Args:
        title: what is shown in front of the bar.
    """

    def __init__(self, title: str):
        self.console = Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[doing]}"))
        self._bars = Bars(*columns, console=self.console)
        self._task = self._bars.add_task(title, total=None, doing="planning")
        self._running: dict[str, str] = {}

    def __enter__(self) -> "StepBar":
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def update(self, event: Progress) -> None:
        """Shows an event of the execution; failures stay on the screen."""
        if event.state is StepState.STARTED:
            self._running[event.key] = event.name
        else:
            self._running.pop(event.key, None)
        if event.state is StepState.FAILED:
            self.console.print(f"failed: {event.name}: {event.reason}", style="red", markup=False)
        self._bars.update(self._task, total=event.total, completed=event.done, doing=", ".join(self._running.values()))

    def conclude(self, folder: Path, report: Path) -> None:
        """Prints the claims with their verdicts, and where the report is."""
        summary = Summary.read(folder)
        seeds = f", seeds {', '.join(map(str, summary.seeds))}" if summary.seeds else ""
        table = Table(title=f"{summary.title}: {summary.subject.name}{seeds}", title_justify="left")
        for heading in ("verdict", "claim", "estimate", "95% interval", "control"):
            table.add_column(heading, justify="right" if heading in ("estimate", "control") else "left")
        for claim in summary.claims:
            interval = f"{claim.interval.low:.1%} to {claim.interval.high:.1%}" if claim.interval else ""
            table.add_row(claim.result, claim.statement, _percent(claim.estimate), interval, _percent(claim.control_estimate))
        self.console.print(table)
        if summary.quick:
            self.console.print("A quick run: it shows that everything works; its intervals are too wide to conclude from.")
        for note in summary.notes:
            self.console.print(f"Note: {note}", markup=False, highlight=False)
        self.console.print(f"Report:  {report}\nNumbers: {folder / 'summary.json'}", soft_wrap=True, highlight=False)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
