"""Output at the end of a study: claims under their headings, undecided ones last, and what to do next.

It fits a terminal of 80 columns, and reads the same in a file.
"""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from astray.engine.summary import ClaimRow, ClaimStatus, Summary
from astray.report.wording import amount, range_of
from astray.stats.claims import Decision

WIDEST = 120
"""Columns beyond which lines are not made longer: numbers would stand far from their claim."""
WITH_CONTROL = 100
"""From this width on there is room for the control."""
MOST_NOT_RUN = 4
"""Claims without a run that are told with what each needs; of more only the names."""
STYLES = {Decision.HELD: "green", Decision.NOT_HELD: "red"}


def conclude(console: Console, summary: Summary, report: Path, commands: Iterable[tuple[str, str]]) -> None:
    """Print claims with their verdicts, where the results are, and what to do next.

    Args:
        console: of the command.
        summary: of the study that ended.
        report: its page; `summary.json` lies beside it.
        commands: purpose and command of what makes sense next.
    """
    seeds = f", seeds {', '.join(map(str, summary.seeds))}" if summary.seeds else ""
    title = summary.title if summary.title.endswith("?") else f"{summary.title}:"
    console.print(f"\n{title} {summary.subject.name}{seeds}", style="bold", markup=False, highlight=False)
    for heading, claims in summary.claims_by_group().items():
        _print_claims(console, heading or "Claims", [claim for claim in claims if claim.status is ClaimStatus.DECIDED])
    for status in (status for status in ClaimStatus if status is not ClaimStatus.DECIDED):
        with_status = [claim for claim in summary.claims if claim.status is status]
        if status is ClaimStatus.NOT_RUN and len(with_status) > MOST_NOT_RUN:
            _print_names(console, with_status)
        else:
            _print_claims(console, status.capitalize(), with_status)
    console.print(
        f"\n{', '.join(f'{number} {result}' for result, number in _counts(summary).items())}",
        style="bold",
        highlight=False,
    )
    if summary.quick or summary.notes:
        console.print()
    if summary.quick:
        console.print("A quick run: it shows that everything works; its intervals are too wide to conclude from.")
    for note in summary.notes:
        console.print(f"Note: {note}", markup=False, highlight=False)
    numbers = report.with_name("summary.json")
    closing = [f"Report:  {report}", f"Numbers: {numbers}", "", "What next? Open the report in a browser, and:"]
    closing += [f"  {purpose}:\n    {command}" for purpose, command in commands]
    console.print("", *closing, sep="\n", soft_wrap=True, markup=False, highlight=False)


def as_object(summary: Summary, report: Path) -> dict[str, object]:
    """Return what programs want to know of a study that ended, for `--json`: paths and what became of each claim."""
    results = {claim.id: str(claim.result) for claim in summary.claims}
    return {
        "study": summary.study,
        "summary": str(report.with_name("summary.json")),
        "report": str(report),
        "verdicts": results,
        "counts": _counts(summary),
        "failed_verdicts": dict(summary.failed_verdicts),
        **({"looks": summary.looks.model_dump(mode="json")} if summary.looks else {}),
    }


def _counts(summary: Summary) -> dict[str, int]:
    return {
        str(result): number
        for result, number in (dict.fromkeys(Decision, 0) | Counter(claim.result for claim in summary.claims)).items()
    }


def _print_claims(console: Console, heading: str, claims: list[ClaimRow]) -> None:
    if not claims:
        return
    width = min(console.width, WIDEST)
    decided = claims[0].status is ClaimStatus.DECIDED
    table = Table(box=None, width=width, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    if decided:
        table.add_column("", width=len(Decision.NOT_HELD))
    table.add_column(heading, ratio=1)
    table.add_column("estimate", justify="right", no_wrap=True)
    table.add_column("interval" if claims[0].look else "95% interval", min_width=len("-56.9 to -41.6%"), no_wrap=True)
    if width >= WITH_CONTROL:
        table.add_column("control", justify="right", no_wrap=True)
    for claim in claims:
        cells: list[RenderableType] = [
            Text(claim.statement),
            amount(claim.estimate, claim.told_in),
            range_of(claim.interval, claim.told_in),
        ]
        if decided:
            cells.insert(0, Text(str(claim.verdict), style=STYLES[claim.verdict]))
            if claim.look:
                cells[1] = Group(Text(claim.statement), Padding(Text(_at_look(claim), style="dim"), (0, 0, 0, 2)))
        else:
            cells[0] = Group(cells[0], Padding(Text(claim.needed, style="dim"), (0, 0, 0, 2)))
        if width >= WITH_CONTROL:
            cells.append(amount(claim.control_estimate, claim.quantity))
        table.add_row(*cells)
    console.print()
    console.print(table)


def _print_names(console: Console, claims: list[ClaimRow]) -> None:
    """Print the names of claims that were not run, where they are many."""
    console.print(f"\nNot run: {len(claims)} claims; the report says what each needs", style="bold", highlight=False)
    names = Text(", ".join(claim.id for claim in claims), style="dim")
    console.print(Padding(names, (0, 0, 0, 2)), width=min(console.width, WIDEST))


def _at_look(claim: ClaimRow) -> str:
    """Say at which look a claim was decided, and its estimate corrected for that."""
    assert claim.look is not None
    text = f"look {claim.look.look} of {claim.look.looks}, {claim.look.runs} runs"
    corrected = claim.look.corrected
    return text if corrected is None else f"{text}; corrected {amount(corrected, claim.told_in)}"
