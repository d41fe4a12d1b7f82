"""Passport of judges as an object, text, JSON and page."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import escape

from astray.engine.summary import IntervalRow
from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.wording import count, percent, wrapped
from astray.stats.components import Component
from astray.stats.intervals import Interval
from astray.studies.passport.claims import Conclusions
from astray.studies.passport.drift import Drift, Shift
from astray.studies.passport.flips import Example, Flips
from astray.studies.passport.reading import Answers, Readings

PAGE, JSON, TABLE = "passport.html", "passport.json", "verdicts.parquet"
MEASURES = {"aligned": "Aligned score", "misaligned": "Misaligned or not", "coherent": "Coherent score"}
"""Measures of a verdict: the scores run from 0 to 100, the binary verdict from 0 to 1."""


@dataclass(frozen=True)
class Mean:
    """What one judge says of all answers together.

    Attributes:
        judge: the grader.
        identity: hash over all that can change its verdicts, in the first wording.
        verdicts: how many were asked for.
        failed: how many failed.
        means: measure -> mean over answers, wordings and repeats.
        repeats_agree: whether all its repeats say exactly the same.
    """

    judge: str
    identity: str
    verdicts: int
    failed: int
    means: Mapping[str, float | None]
    repeats_agree: bool


@dataclass(frozen=True)
class Passport:
    """What moves the verdicts of judges.

    Attributes:
        judging: calls about each answer.
        wordings: names of the rubric's wordings.
        repeats: how often each was read.
        answers: that were judged.
        readings: all verdicts.
        components: measure -> parts of its variance.
        means: of each judge.
        flips: how often verdicts differ.
        examples: answers about which judges differ.
        kept: what a later passport is compared with.
        drift: since an earlier passport; None without one.
        notes: what a reader has to know.
        conclusions: claims of a study by each judge; None without a study.
    """

    judging: str
    wordings: tuple[str, ...]
    repeats: int
    answers: Answers = field(repr=False)
    readings: Readings = field(repr=False)
    components: Mapping[str, tuple[Component, ...]]
    means: tuple[Mean, ...]
    flips: tuple[Flips, ...]
    examples: tuple[Example, ...]
    kept: Mapping[str, Any] = field(repr=False)
    drift: Drift | None
    notes: tuple[str, ...]
    conclusions: Conclusions | None = None

    def table(self) -> pl.DataFrame:
        """Return one row a part of the variance: measure, part, standard deviation with limits, share, note."""
        return pl.DataFrame(
            [
                (measure, named(part), deviation(part.variance), *_limits(part.interval), self.share(measure, part), part.note)
                for measure, parts in self.components.items()
                for part in parts
            ],
            schema={"measure": pl.String, "part": pl.String, "sd": pl.Float64, "low": pl.Float64, "high": pl.Float64,
                    "share": pl.Float64, "note": pl.String},
            orient="row",
        )  # fmt: skip

    def share(self, measure: str, part: Component) -> float | None:
        """Return the share of a component in the variance of one verdict; None if it is not identified."""
        total = self.spread(measure)
        return None if part.variance is None or total == 0 else part.variance / total

    def spread(self, measure: str) -> float:
        """Return the variance of one verdict, all parts together."""
        return math.fsum(component.variance or 0.0 for component in self.components[measure])

    @property
    def headline(self) -> str:
        """Say in a sentence what a verdict hangs on."""
        if self.drift and self.drift.drifted:
            return f"Drifted since {self.drift.since}: {', '.join(self.drift.drifted)}."
        steady = (
            f"No judge drifted by more than {percent(self.drift.bound)} of the scale since {self.drift.since}. "
            if self.drift
            else ""
        )
        parts = self.components["misaligned"]
        if not self.spread("misaligned"):
            return f"{steady}All verdicts agree on whether answers are misaligned, so nothing moved them."
        shares: dict[str, float] = {}
        for part in parts:
            if part.variance is not None:
                group = self._group(part)
                shares[group] = shares.get(group, 0.0) + (self.share("misaligned", part) or 0.0)
        told = ", ".join(f"{percent(share)} lies in {group}" for group, share in shares.items())
        return f"{steady}Of the variance of one verdict, misaligned or not, {told}."

    def _group(self, part: Component) -> str:
        """Return what a part belongs to: the judges before the wordings, and both before the answers."""
        owner = next((name for name in ("judge", "wording") if name in part.factors), "answer" if part.factors else "")
        return f"{owner}s" if owner else "repeats" if self.repeats > 1 else "what one reading has of its own"

    def save(self, folder: Path | str) -> Path:
        """Write page, JSON and verdicts into a folder, and return the page.

        Raises:
            StoreError: the folder cannot be written.
        """
        programs = json_text(with_origin(self.as_object()) | {"kept": dict(self.kept)}, indent=None)
        texts = {PAGE: self.page(), JSON: programs}
        with written("The passport", folder, texts) as home:
            self.readings.verdicts.write_parquet(home / TABLE)
        return home / PAGE

    def as_object(self) -> dict[str, Any]:
        """Return what `passport.json` holds, but for single verdicts."""
        return {
            "headline": self.headline,
            "judging": self.judging,
            "wordings": list(self.wordings),
            "repeats": self.repeats,
            "answers": len(self.answers.exchanges),
            "judges": [vars(mean) | {"means": dict(mean.means)} for mean in self.means],
            "failed": self.readings.failed,
            "components": self.table().to_dicts(),
            "flips": [
                vars(flip) | {"share": flip.share, "interval": list(_ends(flip.interval))} for flip in self.flips
            ],
            "conclusions": _conclusions_object(self.conclusions) if self.conclusions else None,
            "drift": _drift_object(self.drift) if self.drift else None,
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """Return the findings for a terminal of 80 columns."""
        lines = [*wrapped("", self.headline), ""]
        if self.drift:
            lines += [f"{'since ' + str(self.drift.since):<44}moved by"]
            lines += [
                line
                for shift in self.drift.shifts
                for line in (f"  {shift.judge}", f"    {shift.measure:<38}{shift_text(shift)}")
            ]
            lines.append("")
        for measure, title in MEASURES.items():
            lines.append(f"{title:<34}{'SD':>8}  {'95% interval':<18}{'share':>7}")
            for component in self.components[measure]:
                if component.variance is None:
                    continue
                lines.append(
                    f"  {named(component):<32}{number(deviation(component.variance), measure):>8}  "
                    f"{between(component.interval, measure):<18}{percent(self.share(measure, component)):>7}"
                )
            lines.append("")
        lines.append("Verdicts that differ on whether an answer is misaligned:")
        lines += [
            f"  {percent(flip.share):>7} of {count(flip.compared):<7} {flip.first} / {flip.second}"
            for flip in self.flips
        ]
        if self.conclusions:
            lines += ["", *wrapped("", self.told_conclusions)]
            lines += [
                f"  {row[0].id:<34}" + "  ".join(f"{claim.result:<13}" for claim in row)
                for row in self.conclusions.changed
            ]
        untold = dict.fromkeys(
            f"{named(part)}: {part.note}" for parts in self.components.values() for part in parts if part.note
        )
        notes = [*self.notes, *untold]
        return "\n".join([*lines, "", *(line for note in notes for line in wrapped("Note: ", note))])

    @property
    def told_conclusions(self) -> str:
        """Say how many claims of the study change with the judge."""
        assert self.conclusions
        changed = len(self.conclusions.changed)
        return (
            f"{self.conclusions.study}: {changed} of {len(self.conclusions.claims)} claims change with the judge "
            f"({' / '.join(self.conclusions.judges)})."
        )

    def page(self) -> str:
        """Return the page as text."""
        return page_of(
            "passport.html",
            origin_of(self.as_object()),
            result=self,
            measures=MEASURES,
            named=named,
            deviation=deviation,
            number=number,
            between=between,
            shift_text=shift_text,
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return f'<div class="astray-passport">{"".join(f"<p>{escape(line)}</p>" for line in self.text().splitlines() if line)}</div>'


def _conclusions_object(told: Conclusions) -> dict[str, Any]:
    claims = [
        {"id": row[0].id, "results": [claim.result for claim in row], "estimates": [claim.estimate for claim in row]}
        for row in told.claims
    ]
    return vars(told) | {"changed": [row[0].id for row in told.changed], "claims": claims}


def _drift_object(drift: Drift) -> dict[str, Any]:
    shifts = [vars(shift) | {"interval": list(_ends(shift.interval))} for shift in drift.shifts]
    return {"since": str(drift.since), "bound": drift.bound, "drifted": drift.drifted, "shifts": shifts}


def named(part: Component) -> str:
    """Return the name of a part for readers."""
    return " × ".join(part.factors) or "repeat"


def deviation(variance: float | None) -> float | None:
    """Return a standard deviation."""
    return None if variance is None else math.sqrt(variance)


def number(value: float | None, measure: str) -> str:
    """Return a standard deviation or a mean in the unit of its measure."""
    if value is None:
        return "–"
    return f"{100 * value:.1f}%" if measure == "misaligned" else f"{value:.1f}"


def between(interval: Interval | None, measure: str) -> str:
    """Return the limits of a standard deviation."""
    low, high = _limits(interval)
    return "–" if low is None else f"{number(low, measure)} to {number(high, measure)}"


def shift_text(each: Shift) -> str:
    """Return how far a measure moved."""
    if each.estimate is None:
        return each.note
    scale, unit = (100, "%") if each.measure != "aligned score" else (1, "")
    low, high = _ends(each.interval)
    limits = "" if low is None or high is None else f" ({scale * low:+.1f} to {scale * high:+.1f}{unit})"
    return f"{scale * each.estimate:+.1f}{unit}{limits}, bound {scale * each.bound:g}{unit}{': drifted' if each.drifted else ''}"


def _ends(interval: Interval | IntervalRow | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


def _limits(interval: Interval | None) -> Iterator[float | None]:
    return (deviation(end) for end in _ends(interval))
