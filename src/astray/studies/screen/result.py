"""Result of screening a data set: rows with scores and reasons, and the files that people and programs read."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from markupsafe import escape

from astray.data.chat import ChatDataset
from astray.engine.findings import interval_object
from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.wording import count, decimal, interval_text, percent, points_range, wrapped
from astray.stats.compare import exact_difference
from astray.stats.stratified import StratifiedShare
from astray.studies.screen.assembled import ABOVE, KeptRows, RowSeparation, counted_reasons, shares_below, worst_rows
from astray.studies.screen.labels import TO_LABEL, rows_to_label

PAGE, JSON, ROWS, KEPT, TO_LABEL_FILE = "screen.html", "screen.json", "rows.parquet", "kept.jsonl", "to_label.csv"
SHOWN_ROWS, BINS = 50, 40


@dataclass(frozen=True)
class ScreenResult:
    """Result of screening a data set, row by row.

    Attributes:
        data: name of the data.
        subject: the model that would be trained.
        rows: one row for each example, with score, reasons, texts and all that was measured.
        dataset: the examples.
        reference: scores of the reference's rows; empty without one.
        separations: how well the score tells rows apart, beside random directions and length.
        share: estimated share of harmful rows; None without labels.
        kept: what the filter keeps; None where none was asked for.
        supervised: three rows as the model would see them: number and text, what is trained on in ⟦brackets⟧.
        facts: what was used: direction, training length, judge, samples.
        notes: what a reader has to know.
        seed: of the rows that are drawn for labelling.
    """

    data: str
    subject: str
    rows: pl.DataFrame = field(repr=False, compare=False)
    dataset: ChatDataset = field(repr=False, compare=False)
    reference: pl.Series = field(repr=False, compare=False)
    separations: tuple[RowSeparation, ...]
    share: StratifiedShare | None
    kept: KeptRows | None
    supervised: tuple[tuple[int, str], ...] = field(repr=False)
    facts: Mapping[str, object]
    notes: tuple[str, ...]
    seed: int = 0

    def table(self) -> pl.DataFrame:
        """Return one row for each example, in the order of the data."""
        return self.rows.drop("random")

    def worst(self, wanted: int = SHOWN_ROWS) -> pl.DataFrame:
        """Return the rows to look at first: judged misaligned, then by score; repeats of an earlier row come last."""
        return worst_rows(self.table(), wanted)

    def save(self, folder: Path | str) -> Path:
        """Write page, JSON, rows, what is kept and rows to label into a folder, and return the page.

        Raises:
            StoreError: the folder cannot be written.
        """
        texts = {PAGE: self.page(), JSON: json_text(with_origin(self.as_object()))}
        with written("What was screened", folder, texts) as home:
            self.table().write_parquet(home / ROWS)
            rows_to_label(self.rows, self.seed).write_csv(home / TO_LABEL_FILE)
        if self.kept is not None:
            self.filtered().write(home / KEPT)
        return home / PAGE

    @property
    def warnings(self) -> tuple[str, ...]:
        """Say where the score tells rows apart no better than random directions."""
        texts = []
        for separation in self.separations:
            if warning := separation.null.warning(f"The score tells {_TOLD[separation.by]}"):
                whole = " Whole files hardly differ by a few harmful rows." if separation.by == "reference" else ""
                texts.append(f"{warning}{whole}")
        return tuple(texts)

    @property
    def finding(self) -> str:
        """Say what was found: the share of harmful rows where labels tell it, and how many rows stand out."""
        texts = [] if self.share is None else [f"Harmful rows: {share_text(self.share)}."]
        if self.rows["reference_share"].count():
            texts.append(tail_text(self.rows, self.reference))
            if self.warnings:
                texts.append("This score tells rows apart no better than random directions do: see below.")
        if texts:
            return " ".join(texts)
        looked = self.rows.filter(pl.col("reasons").list.len() > 0).height
        return f"{count(looked)} of {count(self.rows.height)} rows have a reason to be looked at."

    def filtered(self) -> ChatDataset:
        """Return the examples that the filter keeps, with how that was done in their recipe; all without a filter."""
        rows = [row for row, kept in zip(self.dataset.rows, self.rows["kept"], strict=True) if kept]
        settings = {"subject": self.subject, "threshold": self.kept.threshold if self.kept else None}
        return ChatDataset.from_rows(rows, "screen", settings, [self.dataset])

    def as_object(self) -> dict[str, object]:
        """Return what `screen.json` holds."""
        scores = self.rows["score"].drop_nulls()
        return {
            "data": self.data,
            "subject": self.subject,
            "rows": self.rows.height,
            "reasons": counted_reasons(self.rows),
            "score": None
            if scores.is_empty()
            else {"mean": scores.mean(), "median": scores.median(), "highest": scores.max()},
            "separations": [_separation_object(separation) for separation in self.separations],
            "harmful_share": _share_object(self.share),
            "kept": None
            if self.kept is None
            else {"rows": self.kept.rows, "threshold": self.kept.threshold, "dropped": dict(self.kept.dropped)},
            "facts": dict(self.facts),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """Return the findings for a terminal of 80 columns."""
        lines = [*wrapped("", f"{self.data}: {count(self.rows.height)} rows, screened for {self.subject}"), ""]
        lines += [*wrapped("", self.finding), ""]
        for name, number in counted_reasons(self.rows).items():
            lines += wrapped(f"{count(number):>9}  ", name)
        if not counted_reasons(self.rows):
            lines.append("           no row has a reason to be looked at")
        if self.kept is not None:
            lines += ["", *wrapped("", kept_text(self.kept, self.rows.height))]
        if self.rows["score"].count():
            lines += ["", "Highest scores:"]
            for row in self.worst(5).iter_rows(named=True):
                score = "–" if row["score"] is None else decimal(row["score"])
                lines.append(f"  row {row['row']:<8} {score:>8}  {' '.join(row['answer'].split())[:54]}")
        for text in (*map(_separation_text, self.separations), *self.warnings):
            lines += ["", *wrapped("", text)]
        return "\n".join([*lines, "", *(line for note in self.notes for line in wrapped("Note: ", note))])

    def page(self) -> str:
        """Return the page as text."""
        return page_of(
            "screen.html",
            origin_of(self.as_object()),
            result=self,
            reasons=counted_reasons(self.rows),
            worst=self.worst().to_dicts(),
            bars=_bars(self.rows["score"].drop_nulls().to_numpy(), self.reference.to_numpy()),
            share=share_text(self.share),
            separations=self.separations,
            kept=kept_text(self.kept, self.rows.height) if self.kept else "",
            to_label=min(TO_LABEL, self.rows.height),
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        reasons = "".join(
            f"<tr><td>{count(n)}</td><td>{escape(name)}</td></tr>" for name, n in counted_reasons(self.rows).items()
        )
        paragraphs = [*map(_separation_text, self.separations), *self.warnings, *self.notes]
        return (
            f'<div class="astray-screen"><p><b>{escape(self.data)}</b>: {count(self.rows.height)} rows, screened for '
            f"{escape(self.subject)}</p><p>{escape(self.finding)}</p>"
            f"<table><tbody>{reasons}</tbody></table>{''.join(f'<p>{escape(line)}</p>' for line in paragraphs)}</div>"
        )


def share_text(share: StratifiedShare | None) -> str:
    """Say what share of the rows is harmful, as far as labels tell."""
    if share is None:
        return "cannot be told without labels"
    labelled = sum(stratum.labelled for stratum in share.strata)
    interval = interval_text(share.interval)
    if share.value is None:
        return (
            f"{interval}, from {count(labelled)} labelled rows; some band of the score has no labelled row, so there "
            "is no estimate"
        )
    return f"{percent(share.value)} ({interval}, 95% interval), from {count(labelled)} labelled rows"


def kept_text(kept: KeptRows, total: int) -> str:
    """Say what the filter kept and why rows were dropped."""
    dropped = ", ".join(f"{count(number)} {why}" for why, number in kept.dropped.items()) or "none"
    return (
        f"Kept {count(kept.rows)} of {count(total)} rows, with scores up to {decimal(kept.threshold)}; dropped: "
        f"{dropped}."
    )


_TOLD = {
    "labels": "rows labelled harmful",
    "judge": "rows judged misaligned",
    "reference": "the data from the reference",
}


def _separation_text(separation: RowSeparation) -> str:
    null = separation.null
    return (
        f"The score tells {_TOLD[separation.by]} with {separation.measure} {decimal(separation.value)}; random directions "
        f"{decimal(null.middle)} (highest of {len(null.values)}: {decimal(null.highest)}), length "
        f"{decimal(separation.length)}, chance {decimal(separation.chance)}."
    )


def _separation_object(separation: RowSeparation) -> dict[str, object]:
    fields = {name: value for name, value in vars(separation).items() if name != "null"}
    null = separation.null
    random = {"median": null.middle, "highest": null.highest, "at_least_as_high": null.reached}
    random["directions"] = len(null.values)
    return fields | {f"random_{name}": value for name, value in random.items()}


def tail_text(rows: pl.DataFrame, reference: pl.Series) -> str:
    """Say how many rows stand out, and how many more than of the reference itself."""
    scored = rows["reference_share"].drop_nulls()
    out, own = int((scored > ABOVE).sum()), int((shares_below(reference, reference) > ABOVE).sum())
    interval = exact_difference(out, len(scored), own, len(reference)).interval
    return (
        f"{count(out)} of {count(len(scored))} rows stand out: they score above {ABOVE:.0%} of the reference, as "
        f"{count(own)} of its own {count(len(reference))} rows do. The difference is {points_range(interval)} (95% interval)."
    )


def _share_object(share: StratifiedShare | None) -> dict[str, object] | None:
    if share is None:
        return None
    bands = [
        {"rows": stratum.size, "labelled": stratum.labelled, "harmful": stratum.positive} for stratum in share.strata
    ]
    return {"value": share.value, **(interval_object(share.interval) or {}), "bands": bands}


def _bars(scores: np.ndarray, reference: np.ndarray) -> list[dict[str, float]]:
    """Return both distributions of scores in common bins: left and right edge, and shares of the highest bar."""
    both = np.concatenate([scores, reference])
    if len(both) == 0:
        return []
    # The outermost thousandth stands in the bins at the ends, or a single row would press all others into one bin.
    low, high = np.quantile(both, [0.001, 0.999])
    edges = np.linspace(low, high if high > low else low + 1, BINS + 1)
    counts = [
        np.histogram(values.clip(edges[0], edges[-1]), edges)[0] / max(1, len(values)) for values in (scores, reference)
    ]
    highest = max(part.max() for part in counts)
    columns = (edges[:-1], edges[1:], counts[0] / highest, counts[1] / highest, counts[0])
    names = ("left", "right", "data", "reference", "share")
    return [dict(zip(names, map(float, bar), strict=True)) for bar in zip(*columns, strict=True)]
