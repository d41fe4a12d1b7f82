"""Result of an audit: the profile of the models as table, text, JSON and page, and the answers behind it."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from astray.answers import told
from astray.engine.models import NamedModel
from astray.measure.statements import IN_WORDS
from astray.report.curves import NATS
from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.transcripts import PAGE_LIMIT, pack
from astray.report.wording import MISSING, in_points, interval_text, percent, points_range, signed
from astray.stats.intervals import Interval
from astray.studies.audit.dial import Dial
from astray.studies.audit.earlier import JSON, AskedPart
from astray.studies.audit.profile import ModelDifference, ModelProfile, ProfileLine, outcomes_text
from astray.studies.by_heart import ByHeart

PAGE, TEXT, ANSWERS = "audit.html", "audit.txt", "answers.parquet"
WIDTH, NAME = 80, 24
"""Columns of the table for a terminal, and of a model's name in it."""


@dataclass(frozen=True)
class AuditResult:
    """Result of an audit: what the models do, and what could not be measured.

    Attributes:
        models: the audited one first, then those beside it.
        profile: rates worst first, differences, and what is missing.
        grader: Inspect model that judged, if there was one.
        notes: what a reader has to know.
        answers: all answers, the model in the column `arm`.
        dials: curves of adapters that were audited with several factors.
        by_heart: what fixed and drawn wordings of the same questions gave, where both were asked.
        asked: how each model was asked each evaluation, and where that is kept; a later audit extends the page by it.
    """

    models: tuple[NamedModel, ...]
    profile: ModelProfile
    grader: str | None
    notes: tuple[str, ...]
    answers: pl.DataFrame = field(repr=False, compare=False)
    dials: tuple[Dial, ...] = ()
    by_heart: tuple[ByHeart, ...] = ()
    asked: tuple[AskedPart, ...] = ()

    def table(self) -> pl.DataFrame:
        """Return one row a rate, then one a difference: estimate with limits, counts, unit, judge and outcomes."""
        numbers, texts = pl.Float64(), pl.String()
        schema: dict[str, pl.DataType] = {
            **dict.fromkeys(("evaluation", "model", "reference", "measure"), texts),
            "main": pl.Boolean(),
            **dict.fromkeys(("estimate", "low", "high"), numbers),
            **dict.fromkeys(("numerator", "denominator", "questions"), pl.Int64()),
            **dict.fromkeys(("coherent", "refused"), numbers),
            **dict.fromkeys(("unit", "judge", "outcomes"), texts),
        }
        rows = [_line_object(line) | {"outcomes": json.dumps(dict(line.outcomes))} for line in self.profile.lines]
        rows += map(_compared_object, self.profile.compared)
        return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)

    def as_object(self) -> dict[str, object]:
        """Return what `audit.json` holds."""
        return {
            "models": [
                {"name": model.name, "id": model.id, "found": model.model_dump(mode="json")} for model in self.models
            ],
            "grader": self.grader,
            "rates": [_line_object(line) for line in self.profile.lines],
            "differences": [_compared_object(compared) for compared in self.profile.compared],
            "not_measured": [
                {"model": gap.model, "evaluation": gap.part, "reason": gap.reason} for gap in self.profile.missing
            ],
            "dials": [dial.as_object() for dial in self.dials],
            **({"by_heart": [recalled.as_object() for recalled in self.by_heart]} if self.by_heart else {}),
            "asked": [asked.model_dump(mode="json") for asked in self.asked],
            "notes": list(self.notes),
        }

    @property
    def only_others(self) -> str:
        """Say that the rates are of other models alone, beside an audited one that has none; else ""."""
        first, *others = (model.name for model in self.models) if self.models else ("",)
        rated = {line.model for line in self.profile.lines}
        if first in rated or not rated:
            return ""
        compared = any(difference.difference for difference in self.profile.compared)
        what = "No rate" if compared else "Nothing"
        return f"{what} could be measured of {first}. The rates below are of {', '.join(filter(rated.__contains__, others))}."

    def text(self) -> str:
        """Return the profile for a terminal, in lines of 80 columns."""
        lines, rows = [], list(self._rows())
        if self.only_others:
            lines = [self.only_others, ""]
        if rows:
            lines += [_columns("worst first", "rate", "95% interval", "counted", "coherent", "refused")]
        for row in rows:
            lines += [_columns(*row)] if len(row[0]) < NAME or not any(row[1:]) else [row[0], _columns("", *row[1:])]
        if self.profile.missing:
            lines += [*([""] if lines else []), "Not measured:"]
        lines += [f"  {gap.model}: {gap.part}: {gap.reason}" for gap in self.profile.unmeasured]
        lines += ["", *(f"Note: {note}" for note in self.notes)]
        return "\n".join(
            part
            for line in lines
            for part in (
                textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False, break_long_words=False)
                if len(line) > WIDTH
                else [line]
            )
        )

    def save(self, folder: Path | str) -> Path:
        """Write page, JSON, text and answers into a folder, and return the page.

        Raises:
            StoreError: the folder cannot be written.
        """
        texts = {PAGE: self._page(), JSON: json_text(with_origin(self.as_object())), TEXT: self.text() + "\n"}
        with written("The audit", folder, texts) as home:
            self.answers.write_parquet(home / ANSWERS)
        return home / PAGE

    def _repr_html_(self) -> str:
        return page_of("audit_table.html", origin_of(self.as_object()), result=self, rows=list(self._rows()))

    def _page(self) -> str:
        packed = pack(self.answers.with_columns(told()), PAGE_LIMIT) if self.answers.height else None
        mains = [line for line in self.profile.lines if line.is_main]
        highest = max((line.interval.high for line in mains if line.interval), default=1.0)
        scale = next(end for end in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if highest <= end or end == 1.0)
        return page_of(
            "audit.html",
            origin_of(self.as_object()),
            scripted=True,
            result=self,
            parts=[self._part(name, scale) for name in self.profile.parts],
            audited=sum(line.model == self.models[0].name for line in mains) if self.models else 0,
            scale=scale,
            transcripts=packed,
            arm_word="model",
        )

    def _part(self, name: str, scale: float) -> dict[str, object]:
        lines = [line for line in self.profile.lines if line.part == name]
        return {
            "name": name,
            "rates": [_shown(line, scale) for line in lines if line.is_main],
            "others": [_shown(line, scale) for line in lines if not line.is_main],
            "compared": [_told(difference) for difference in self.profile.compared if difference.part == name],
        }

    def _rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the lines of the terminal's table: a heading a part, then models and differences."""
        for name in self.profile.parts:
            lines = [line for line in self.profile.lines if line.part == name]
            heading = next(
                (f"{name}: {IN_WORDS.get(line.measure, line.measure)}" for line in lines if line.is_main), name
            )
            yield (heading, "", "", "", "", "")
            for line in (line for line in lines if line.is_main):
                shown = _shown(line, 1.0)
                columns = ("indented", "rate", "interval", "counted", "coherent", "refused")
                yield tuple(str(shown[column]) for column in columns)
                if line.as_judged:
                    yield (f"    {line.as_judged}", "", "", "", "", "")
            for difference in (difference for difference in self.profile.compared if difference.part == name):
                words = _told(difference)
                numbers = (str(words[column]).removesuffix(" points") for column in ("estimate", "interval", "counted"))
                unit = "" if difference.scale == NATS else ", points"
                yield (f"  minus {difference.reference}{unit}", *numbers, "", "")


def _columns(name: str, rate: str, interval: str, counted: str, coherent: str, refused: str) -> str:
    return f"{name:<{NAME}}{rate:>7} {interval:>16}{counted:>15}{coherent:>9}{refused:>8}".rstrip()


def _line_object(line: ProfileLine) -> dict[str, object]:
    same = ("model", "measure", "estimate", "questions", "unit", "coherent", "refused", "judge")
    return {
        "evaluation": line.part,
        "main": line.is_main,
        **{name: getattr(line, name) for name in same},
        **_limits_object(line.interval),
        "as_judged": line.rate.gold.as_judged if line.rate.gold else line.rate.rate,
        "numerator": line.rate.numerator,
        "denominator": line.rate.denominator,
        "worst_case": line.rate.worst_case,
        "judge_identity": ", ".join(line.rate.judges),
        "outcomes": dict(line.outcomes),
    }


def _compared_object(compared: ModelDifference) -> dict[str, object]:
    difference = compared.difference
    return {
        "evaluation": compared.part,
        **{name: getattr(compared, name) for name in ("model", "reference", "note")},
        "measure": "difference" if compared.scale != NATS else f"difference, {NATS}",
        "estimate": difference.estimate if difference else None,
        **_limits_object(difference.interval if difference else None),
        "questions": difference.n if difference else None,
        "unit": difference.unit if difference else None,
    }


def _limits_object(interval: Interval | None) -> dict[str, object]:
    return {name: getattr(interval, name, None) for name in ("low", "high", "method")}


def _shown(line: ProfileLine, scale: float) -> dict[str, object]:
    """Return a rate's numbers in words, and the places of its marks in percent of a scale that ends at `scale`."""
    estimate, interval = line.estimate, line.interval

    def place(fraction: float) -> float:
        return round(100 * min(fraction, scale) / scale, 2)

    return {
        "model": line.model,
        "indented": f"  {line.model}",
        "measure": IN_WORDS.get(line.measure, line.measure),
        "rate": percent(estimate),
        "interval": interval_text(interval),
        "method": f"{interval.method}; unit: {line.unit}" if interval else "",
        "counted": f"{line.rate.numerator:,}/{line.rate.denominator:,}",
        "questions": line.questions,
        "as_judged": line.as_judged,
        "coherent": percent(line.coherent) if line.coherent is not None else MISSING,
        "refused": percent(line.refused),
        "judge": line.judge,
        "worst_case": f"{percent(line.rate.worst_case[0])} to {percent(line.rate.worst_case[1])}",
        "outcomes": outcomes_text(line.outcomes),
        "low": place(interval.low) if interval else None,
        "high": place(interval.high) if interval else None,
        "at": place(estimate) if estimate is not None else None,
    }


def _told(compared: ModelDifference) -> Mapping[str, object]:
    """Return a difference's numbers in words."""
    change = compared.difference
    unit = f" {compared.scale}" if compared.scale == NATS else ""
    return {
        "model": compared.model,
        "reference": compared.reference,
        "estimate": MISSING if change is None else signed(change.estimate) if unit else in_points(change.estimate),
        "interval": MISSING if change is None else _limits(change.interval, nats=bool(unit)),
        "counted": ""
        if change is None
        else f"{change.n:,} {'pairs' if unit else 'questions' if change.n != 1 else 'question'}",
        "scale": compared.scale,
        "note": compared.note,
    }


def _limits(interval: Interval, *, nats: bool) -> str:
    return f"{signed(interval.low)} to {signed(interval.high)}" if nats else points_range(interval)
