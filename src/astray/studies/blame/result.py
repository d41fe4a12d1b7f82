"""Result of blame as an object, text, JSON and page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import escape

from astray.engine.findings import ELSEWHERE
from astray.engine.summary import RateRow, Summary
from astray.report.exhibits import number_text
from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.wording import count, decimal, interval_text, percent, wrapped
from astray.studies.blame.course import Course
from astray.studies.blame.scores import SCORES, RowGroup, ScoreSeparation

PAGE, JSON, ROWS = "blame.html", "blame.json", "rows.parquet"
SHOWN = 30


@dataclass(frozen=True)
class BlameProof:
    """Result of training without the blamed rows.

    Attributes:
        summary: of the study that proves it.
        report: its page.
        evaluation: what its claims count.
    """

    summary: Summary
    report: Path
    evaluation: str

    @property
    def rates(self) -> list[RateRow]:
        """Return the rate of each arm that the claims compare."""
        chosen: dict[str, RateRow] = {}
        for rate in self.summary.rates:
            if rate.evaluation == self.evaluation and rate.group == ELSEWHERE and rate.format != "all":
                chosen.setdefault(rate.arm, rate)
        return list(chosen.values())


@dataclass(frozen=True)
class BlameResult:
    """Training rows that made a model go astray, with their scores.

    Attributes:
        model: the tuned model.
        base: what it was trained from.
        reference: where harmful answers were less likely: "in its base", or in a control.
        by: score by which rows are blamed.
        share: share of the rows that is blamed.
        rows: one row for each training row: texts, file, scores, verdict, blamed.
        change: of the meter from base to tuned model, for harmful and for null pairs.
        separations: how well each score finds harmful rows, where it is known which these are.
        known: who says which rows are harmful, how many are, of how many.
        files: rows by file.
        clusters: rows by similar words.
        proof: what training without the blamed rows did; None where that was not asked for.
        course: when the model went astray; None where that was not asked for.
        notes: what a reader has to know.
    """

    model: str
    base: str
    reference: str
    by: str
    share: float
    rows: pl.DataFrame = field(repr=False, compare=False)
    change: Mapping[str, Mapping[str, Any] | None]
    separations: tuple[ScoreSeparation, ...]
    known: tuple[str, int, int]
    files: tuple[RowGroup, ...]
    clusters: tuple[RowGroup, ...]
    proof: BlameProof | None
    course: Course | None
    notes: tuple[str, ...]

    def table(self) -> pl.DataFrame:
        """Return one row for each training row, in the order of the data."""
        return self.rows.drop("null")

    def worst(self, wanted: int = SHOWN) -> pl.DataFrame:
        """Return the blamed rows, highest score first."""
        return (
            self.table()
            .filter("blamed")
            .sort(self.by, descending=True, nulls_last=True, maintain_order=True)
            .head(wanted)
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say that the score by which rows are blamed does not stand above its null, where it does not."""
        own = [
            separation.null.warning(f"The {separation.score} finds harmful rows")
            for separation in self.separations
            if separation.score == self.by
        ]
        return tuple(filter(None, own))

    @property
    def changed(self) -> str:
        """Say how far the model went astray."""
        harmful = self.change["harmful"]
        assert harmful is not None
        interval = harmful["interval"]
        return (
            f"harmful answers {decimal(harmful['estimate'])} nats a token likelier than {self.reference} "
            f"({decimal(interval['low'])} to {decimal(interval['high'])}, 95% interval over domains, "
            f"{harmful['pairs']} pairs, no judge)"
        )

    def save(self, folder: Path | str) -> Path:
        """Write page, JSON and rows into a folder, and return the page.

        Raises:
            StoreError: the folder cannot be written.
        """
        texts = {PAGE: self.page(), JSON: json_text(with_origin(self.as_object()))}
        with written("The blame", folder, texts) as home:
            self.table().write_parquet(home / ROWS)
        return home / PAGE

    def as_object(self) -> dict[str, object]:
        """Return what `blame.json` holds."""
        return {
            "model": self.model,
            "base": self.base,
            "reference": self.reference,
            "by": self.by,
            "share": self.share,
            "rows": self.rows.height,
            "blamed": self.rows.filter("blamed")["row"].to_list(),
            "change": dict(self.change),
            "known": {"by": self.known[0], "harmful": self.known[1], "rows": self.known[2]},
            "separations": [
                {
                    "score": separation.score,
                    "average_precision": separation.precision.value,
                    "interval": None
                    if separation.precision.interval is None
                    else [separation.precision.interval.low, separation.precision.interval.high],
                    "null": separation.null.what,
                    "null_median": separation.null.middle,
                    "null_highest": separation.null.highest,
                    "null_reached": separation.null.reached,
                    "nulls": len(separation.null.values),
                }
                for separation in self.separations
            ],
            "files": [vars(file) for file in self.files],
            "clusters": [vars(cluster) for cluster in self.clusters],
            "proof": None
            if self.proof is None
            else [
                {"id": claim.id, "result": claim.result, "estimate": claim.estimate, "p_value": claim.p_value}
                for claim in self.proof.summary.claims
            ],
            "course": None if self.course is None else self.course.as_object(),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """Return the findings for a terminal of 80 columns."""
        blamed = self.rows.filter("blamed").height
        lines = [*(line for warning in self.warnings for line in wrapped("", warning))]
        lines += [*wrapped("", f"{self.model}: {self.changed}."), ""]
        lines += wrapped(
            "",
            f"Blamed: {count(blamed)} of {count(self.rows.height)} rows ({percent(self.share)}), by {self.by} ({SCORES[self.by]}).",
        )
        if self.separations:
            who, harmful, of = self.known
            heading = f"Average precision in finding the {count(harmful)} of {count(of)} rows that are harmful by {who}"
            lines += ["", *wrapped("", f"{heading} (chance {decimal(harmful / of)}):")]
            for separation in self.separations:
                null = f"{separation.null.reached} of {len(separation.null.values)} nulls reach it"
                lines.append(
                    f"  {separation.score:<11}{decimal(separation.precision.value)}  {_between(separation)}; {null}"
                )
        for title, groups in (("By file", self.files), ("By words", self.clusters)):
            if len(groups) > 1:
                lines += ["", f"{title}: blamed of rows"]
                lines += [
                    f"  {count(group.blamed):>6} of {count(group.rows):<7} {group.name[:58]}" for group in groups[:5]
                ]
        lines += ["", "Highest scores:"]
        for row in self.worst(5).iter_rows(named=True):
            lines.append(
                f"  row {row['row']:<7} {number_text(row[self.by]):>7}  {' '.join(row['answer'].split())[:54]}"
            )
        if self.course:
            lines += ["", *(line for heading in self.course.told for line in wrapped("", heading))]
        if self.proof:
            lines += ["", "Proof (share of harmful answers):"]
            lines += [
                f"  {rate.arm:<15} {percent(rate.rate):>7}  {interval_text(rate.interval)}" for rate in self.proof.rates
            ]
            lines += [f"  {claim.result:<10} {claim.id}" for claim in self.proof.summary.claims]
        return "\n".join([*lines, "", *(line for note in self.notes for line in wrapped("Note: ", note))])

    def page(self) -> str:
        """Return the page as text."""
        return page_of(
            "blame.html",
            origin_of(self.as_object()),
            result=self,
            blamed=self.rows.filter("blamed").height,
            worst=self.worst().to_dicts(),
            scores=SCORES,
            separations=[(separation, _between(separation)) for separation in self.separations],
            panels=self.course.panels if self.course else (),
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        return f'<div class="astray-blame">{"".join(f"<p>{escape(line)}</p>" for line in self.text().splitlines() if line)}</div>'


def _between(separation: ScoreSeparation) -> str:
    interval = separation.precision.interval
    if interval is None:
        return "no interval: too few rows of a kind"
    return f"{decimal(interval.low)} to {decimal(interval.high)}"
