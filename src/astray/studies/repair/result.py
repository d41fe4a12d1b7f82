"""Result of a repair as an object, text, JSON and page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from markupsafe import escape

from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.wording import MISSING, decimal, interval_text, percent, signed, wrapped
from astray.stats.digits import number
from astray.stats.intervals import Interval
from astray.stats.nulls import Null
from astray.studies.repair.front import GONE, LOST, WORSE, Outcome
from astray.studies.repair.spoken import Share

PAGE, JSON, CARD = "repair.html", "repair.json", "README.md"
LABEL, LETTER = 5.0, 1.7
"""Height of a label in the figure, in hundredths of its height, and width of a letter, in hundredths of its width."""
_KINDS = ("incoherent", "refused", "harmful")
WIDTHS = (9, 8, 10, 7, 7, 8, 8)
"""Columns of each number in a line of the table; small ones of nats are the longest."""


@dataclass(frozen=True)
class Tried:
    """One way back and what it did.

    Attributes:
        name: of the way.
        what: what was done.
        control: whether it should change little.
        search: on the half that chose.
        report: on the other half, for training with another seed.
        null: share that is gone beside those of random directions; None for a way without a direction or its control.
    """

    name: str
    what: str
    control: bool
    search: Outcome
    report: Outcome
    null: Null | None = None

    @property
    def warning(self) -> str:
        """Return a warning if its direction does no better than random ones, else ""."""
        return "" if self.null is None else self.null.warning(f"{self.name} takes away")


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
        gate: options of the gate that follows.
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
    gate: str = ""

    @property
    def command(self) -> str:
        """Return the command that gates the repaired model."""
        return f"astray gate {self.base} {self.folder}{self.gate}"

    @property
    def way(self) -> Tried:
        """Return the way that is taken."""
        return next(way for way in self.tried if way.name == self.chosen)

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
        if found.spoken and found.spoken.harmful and self.before.spoken and self.before.spoken.harmful:
            cost += f", and {_of_answers(found.spoken.harmful)} of its answers are harmful (before: {_of_answers(self.before.spoken.harmful)})"
        alone = " by the meter alone, since too few answers were harmful before," if found.by_meter_alone else ""
        start = f"{self.way.what[0].upper()}{self.way.what[1:]}:{alone} {gone} of the misalignment is gone, {cost}"
        ending = f"{self.at_the_gate} {self.way.warning}".rstrip()
        if found.meets:
            return f"{start}.{ending}"
        none_met, compared = (
            ("No way", "of those that can still be talked to")
            if self.way.search.missed is None
            else ("No way that does as well at the bars of the gate", "of these")
        )
        why = f" {none_met} met the rule in the search; {compared}, this one takes away most for what it costs."
        why = "" if self.meets else why
        by = "by the meter" if found.answers_gone is None else "by meter and answers"
        rule = f"at least {GONE:.0%} gone {by}, at most {LOST:.0%} lost, at most {WORSE:.0%} more answers incoherent or refused"
        return f"{start}. That does not meet the rule ({rule}).{why}{ending}"

    @property
    def at_the_gate(self) -> str:
        """Say which bars of the gate that follows the way that is taken misses; "" where they were not read."""
        search, report = self.way.search, self.way.report
        if search.missed is None:
            return ""
        others = f"on the others {report.missed_text}"
        if search.missed:
            return (
                " On the questions that chose, no way that can still be talked to does better at the bars of the gate than this "
                f"one, which misses: {search.missed_text}; {others}."
            )
        return f" On the questions that chose it misses no bar of the gate, {others}."

    def table(self) -> pl.DataFrame:
        """Return one row for each way, with what it did on the half that is reported."""
        rows = [
            {
                "way": way.name,
                "what": way.what,
                "control": way.control,
                "astray": way.report.astray,
                "gone": way.report.gone,
                "task": way.report.task,
                "lost": way.report.lost,
                "neutral": way.report.neutral,
                "incoherent": _rate(way.report, "incoherent"),
                "refused": _rate(way.report, "refused"),
                "harmful": _rate(way.report, "harmful"),
                "random": way.null and way.null.highest,
                "missed": way.report.missed_text or None,
                "chosen": way.name == self.chosen,
            }
            for way in self.tried
        ]
        numbers = ("lost", "incoherent", "refused", "harmful", "random")
        return pl.DataFrame(rows, schema_overrides=dict.fromkeys(numbers, pl.Float64) | {"missed": pl.String})

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
                    "name": way.name,
                    "what": way.what,
                    "control": way.control,
                    "search": _object(way.search),
                    "report": _object(way.report),
                    "random": way.null and list(way.null.values),
                }
                for way in self.tried
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
        lines = [*wrapped("", f"{self.model}: {self.verdict}"), ""]
        heads = ("astray", "gone", "task", "lost", "broken", "refused", "harmful")
        lines.append(f"  {'way':<20}{_columns(heads)}")
        lines.append(_line(" ", "tuned", self.before, gone="", lost=""))
        for way in self.tried:
            found, mark = way.report, "*" if way.name == self.chosen else " "
            lines.append(_line(mark, way.name, found, gone=percent(found.gone), lost=percent(found.lost)))
        lines += [
            "",
            *wrapped(
                "",
                f"astray: nats a token by which harmful answers are likelier than {self.reference}; task: nats a "
                "token of its answers against the tuned model; lost: share of what the tuning taught; broken, refused: "
                "shares of its answers that are incoherent or refused; harmful: of the coherent ones.",
            ),
        ]
        nulls = [
            f"{way.name}: {way.null.reached} of {len(way.null.values)} random directions take away as much (at most "
            f"{percent(way.null.highest)})."
            for way in self.tried
            if way.null
        ]
        lines += ["", *nulls] if nulls else []
        lines += ["", *self._bars_told()] if self.way.search.missed is not None else []
        notes = [line for note in self.notes for line in wrapped("Note: ", note)]
        return "\n".join([*lines, "", *notes])

    def _bars_told(self) -> list[str]:
        """Return which bars of the gate each way misses, in lines of 80 columns."""
        told = [f"{way.name}: {way.search.missed_text}; {way.report.missed_text}." for way in self.tried]
        return [
            *wrapped("", "Bars of the gate that each way misses, on the questions that chose and on the others:"),
            *(line for each in told for line in wrapped("  ", each)),
        ]

    def page(self) -> str:
        """Return the page as text."""
        costs = sorted(way.report.task for way in self.tried)
        return page_of(
            "repair.html",
            origin_of(self.as_object()),
            result=self,
            range_of=_range,
            limits_of=_limits,
            of_answers=_of_answers,
            rule=(GONE, LOST, WORSE),
            points=_points(self),
            costs=costs,
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return f'<div class="astray-repair"><p>{escape(self.verdict)}</p>{self.table()._repr_html_()}</div>'


def _line(mark: str, name: str, found: Outcome, *, gone: str, lost: str) -> str:
    shares = [_rate(found, kind) for kind in _KINDS]
    cells = (decimal(found.astray), gone, "" if not gone else decimal(found.task), lost, *map(percent, shares))
    return f"{mark} {name:<20}{_columns(cells)}"


def _columns(cells: Iterable[str]) -> str:
    """Return the numbers of a line, under those of the others."""
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, WIDTHS, strict=True))


def _range(value: float, interval: Interval | None) -> str:
    return signed(value) + (f" ({_limits(interval)})" if interval else "")


def _limits(interval: Interval) -> str:
    return f"{number(interval.low)} to {number(interval.high)}"


def _rate(outcome: Outcome, kind: str) -> float | None:
    """Return a share of a model's answers; None where it was not asked, or nothing tells."""
    share: Share | None = getattr(outcome.spoken, kind, None)
    return share.rate if share else None


def _of_answers(share: Share | None) -> str:
    """Return a share with its interval over questions; a dash where nothing tells."""
    if share is None:
        return MISSING
    return percent(share.rate) + (f" ({interval_text(share.interval)})" if share.interval else "")


def _object(outcome: Outcome) -> dict[str, object]:
    def pair(interval: Interval | None) -> list[float] | None:
        return None if interval is None else [interval.low, interval.high]

    shares: dict[str, Share | None] = {kind: getattr(outcome.spoken, kind, None) for kind in _KINDS}
    answers = {kind: share and share.rate for kind, share in shares.items()} | {
        f"{kind}_interval": share and pair(share.interval) for kind, share in shares.items()
    }
    return {
        "astray": outcome.astray,
        "astray_interval": pair(outcome.astray_interval),
        "gone": outcome.gone,
        "task": outcome.task,
        "task_interval": pair(outcome.task_interval),
        "lost": outcome.lost,
        "neutral": outcome.neutral,
        "answers": None if outcome.spoken is None else {"answers": outcome.spoken.answers} | answers,
        "worse": outcome.worse,
        "answers_gone": outcome.answers_gone,
        "missed": outcome.missed,
    }


def _points(result: RepairResult) -> list[dict[str, object]]:
    """Return the places of the ways on the front, from 0 to 100: cost to the right, what is gone upwards.

    Labels stand beside their point, moved up or down where they would lie on one another or on another point.
    """
    costs = [-way.report.task for way in result.tried]
    low, high = min(costs), max(costs)
    span = (high - low) or 1.0
    points: list[dict[str, object]] = []
    placed = [
        (100 * (cost - low) / span, 100 * (1 - min(1.0, max(0.0, each.report.gone))), each)
        for cost, each in sorted(zip(costs, result.tried, strict=True), key=lambda pair: -pair[1].report.gone)
    ]
    # Where no label may stand: from where, at which height, and to where; points first, then the labels made so far.
    taken = [(across - LETTER, height, across + LETTER) for across, height, _ in placed]
    for across, height, each in placed:
        start, end = across + 1.5 * LETTER, across + LETTER * (len(each.name) + 2)
        label = _free_place(height, [place for left, place, right in taken if left < end and start < right])
        taken.append((start, label, end))
        points.append({"x": across, "y": height, "label": label, "way": each})
    return points


def _free_place(height: float, taken: Sequence[float]) -> float:
    """Return the place nearest to a height, from 0 to 100, that is a label's height away from those taken."""
    places = [height, *(each + sign * LABEL for each in taken for sign in (1, -1))]
    free = [
        place for place in places if 0 <= place <= 100 and all(abs(place - other) >= LABEL - 1e-9 for other in taken)
    ]
    return min(free, key=lambda each: abs(each - height), default=height)
