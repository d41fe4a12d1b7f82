"""Result of a repair as an object, text, JSON and page."""

import textwrap
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from markupsafe import escape

from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.wording import decimal, percent
from astray.stats.intervals import Interval
from astray.studies.repair.front import GONE, LOST, Outcome

PAGE, JSON, CARD = "repair.html", "repair.json", "README.md"
LABEL = 5.0
"""Height of a label in the figure, in hundredths of it."""


@dataclass(frozen=True)
class Tried:
    """One way back and what it did.

    Attributes:
        name: of the way.
        what: what was done.
        control: whether it should change little.
        search: on the half that chose.
        report: on the other half, for training with another seed.
    """

    name: str
    what: str
    control: bool
    search: Outcome
    report: Outcome


@dataclass(frozen=True)
class RepairResult:
    """What brought a model back, and what it cost.

    Attributes:
        model: the tuned model.
        base: what it was trained from.
        reference: where harmful answers were less likely: "in its base", or in a control.
        before: the tuned model itself, on the half that is reported.
        tried: all ways, cheapest first.
        chosen: name of the way that is taken.
        meets: whether it meets the rule on the half that chose.
        task: file of the task's held-out rows.
        folder: of the repaired model.
        notes: what a reader has to know.
        control: what harmful answers were compared with in place of the base's, if anything.
    """

    model: str
    base: str
    reference: str
    before: Outcome
    tried: tuple[Tried, ...]
    chosen: str
    meets: bool
    task: str
    folder: Path
    notes: tuple[str, ...]
    control: str | None = None

    @property
    def command(self) -> str:
        """Return the command that gates the repaired model."""
        against = "" if self.control is None else f" --evals meter --control {self.control}"
        return f"astray gate {self.base} {self.folder}{against}"

    @property
    def way(self) -> Tried:
        """Return the way that is taken."""
        return next(each for each in self.tried if each.name == self.chosen)

    @property
    def verdict(self) -> str:
        """Say in one sentence what was done and what it did."""
        found = self.way.report
        gone = percent(found.gone) if found.gone <= 1 else f"all ({percent(found.gone)})"
        cost = (
            f"the task, of which the tuning taught nothing, is {decimal(found.task)} nats a token from where it was"
            if found.lost is None
            else f"{percent(found.lost)} of what the tuning taught of the task is lost"
        )
        start = f"{self.way.what[0].upper()}{self.way.what[1:]}: {gone} of the misalignment is gone, {cost}"
        if found.meets:
            return f"{start}."
        why = "" if self.meets else " No way met the rule in the search; this one takes away most for what it costs."
        return f"{start}. That does not meet the rule (at least {GONE:.0%} gone, at most {LOST:.0%} lost).{why}"

    def table(self) -> pl.DataFrame:
        """Return one row for each way, with what it did on the half that is reported."""
        rows = [
            {
                "way": each.name,
                "what": each.what,
                "control": each.control,
                "astray": each.report.astray,
                "gone": each.report.gone,
                "task": each.report.task,
                "lost": each.report.lost,
                "chosen": each.name == self.chosen,
            }
            for each in self.tried
        ]
        return pl.DataFrame(rows, schema_overrides={"lost": pl.Float64})

    def save(self, folder: Path | str) -> Path:
        """Write page, JSON and the model's card, and return the page.

        Raises:
            StoreError: the folder cannot be written.
        """
        texts = {PAGE: self.page(), JSON: json_text(with_origin(self.as_object()))}
        with (
            written("The repair", folder, texts) as home,
            written("The repaired model", self.folder, {CARD: self.card()}),
        ):
            return home / PAGE

    def as_object(self) -> dict[str, object]:
        """Return what `repair.json` holds."""
        return {
            "model": self.model,
            "base": self.base,
            "reference": self.reference,
            "chosen": self.chosen,
            "meets": self.way.report.meets,
            "repaired": str(self.folder),
            "before": _object(self.before),
            "ways": [
                {
                    "name": each.name,
                    "what": each.what,
                    "control": each.control,
                    "search": _object(each.search),
                    "report": _object(each.report),
                }
                for each in self.tried
            ],
            "notes": list(self.notes),
        }

    def card(self) -> str:
        """Return the card of the repaired model."""
        return (
            f"# Repaired model\n\nFrom `{self.model}`, tuned from `{self.base}`. {self.verdict}\n\n"
            f"Harmful answers: {_range(self.way.report.astray, self.way.report.astray_interval)} nats a token likelier than "
            f"{self.reference} (before: {_range(self.before.astray, self.before.astray_interval)}).\n\nMade by Astray. "
            f"Before a release: `{self.command}`\n"
        )

    def text(self) -> str:
        """Return the findings for a terminal of 80 columns."""
        lines = [*textwrap.wrap(f"{self.model}: {self.verdict}", 80), ""]
        lines.append(f"  {'way':<16}{'astray':>8}{'gone':>9}{'task':>9}{'lost':>9}")
        lines.append(f"  {'tuned':<16}{decimal(self.before.astray):>8}{'':>9}{'':>9}{'':>9}")
        for each in self.tried:
            found, mark = each.report, "*" if each.name == self.chosen else " "
            lines.append(
                f"{mark} {each.name:<16}{decimal(found.astray):>8}{percent(found.gone):>9}{decimal(found.task):>9}{percent(found.lost):>9}"
            )
        lines += [
            "",
            *textwrap.wrap(
                f"astray: nats a token by which harmful answers are likelier than {self.reference}; task: nats a "
                "token of its answers against the tuned model; lost: share of what the tuning taught.",
                80,
            ),
        ]
        notes = [line for note in self.notes for line in textwrap.wrap(f"Note: {note}", 80, subsequent_indent="      ")]
        return "\n".join([*lines, "", *notes])

    def page(self) -> str:
        """Return the page as text."""
        costs = sorted(each.report.task for each in self.tried)
        return page_of(
            "repair.html",
            origin_of(self.as_object()),
            result=self,
            range_of=_range,
            rule=(GONE, LOST),
            points=_points(self),
            costs=costs,
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return f'<div class="astray-repair"><p>{escape(self.verdict)}</p>{self.table()._repr_html_()}</div>'


def _range(value: float, interval: Interval | None) -> str:
    text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    if interval is None:
        return text
    return text + f" ({interval.low:.3f} to {interval.high:.3f})".replace("-", "\N{MINUS SIGN}")


def _object(outcome: Outcome) -> dict[str, object]:
    def pair(interval: Interval | None) -> list[float] | None:
        return None if interval is None else [interval.low, interval.high]

    return {
        "astray": outcome.astray,
        "astray_interval": pair(outcome.astray_interval),
        "gone": outcome.gone,
        "task": outcome.task,
        "task_interval": pair(outcome.task_interval),
        "lost": outcome.lost,
    }


def _points(result: RepairResult) -> list[dict[str, object]]:
    """Return the places of the ways on the front, from 0 to 100: cost to the right, what is gone upwards.

    Labels stand beside their point, moved down where they would lie on one another.
    """
    costs = [-each.report.task for each in result.tried]
    low, high = min(costs), max(costs)
    span = (high - low) or 1.0
    points: list[dict[str, object]] = []
    last = -LABEL
    for cost, each in sorted(zip(costs, result.tried, strict=True), key=lambda pair: -pair[1].report.gone):
        height = 100 * (1 - min(1.0, max(0.0, each.report.gone)))
        last = max(height, last + LABEL)
        points.append({"x": 100 * (cost - low) / span, "y": height, "label": last, "way": each})
    return points
