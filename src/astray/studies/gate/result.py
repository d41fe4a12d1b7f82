"""Result of a gate: verdict, bars and flips, and the files that programs, pull requests and people read.

`GateReport` writes these files from the lines of any gate; a gate that asks answers is `GateResult`, one by the meter
`metered_result`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import ClassVar
from xml.etree import ElementTree

import polars as pl
from typing_extensions import override

from astray.engine.findings import interval_row
from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.wording import in_points, interval_text, percent, points_range, wrapped
from astray.stats.rates import Rate
from astray.studies.by_heart import ByHeart
from astray.studies.gate.bars import Bar, Verdict

PAGE, JSON, MARKDOWN, JUNIT, ANSWERS = "gate.html", "gate.json", "gate.md", "junit.xml", "answers.parquet"
SHOWN_FLIPS = 200
"""Most pairs of answers that the page carries; all stand in the answer table."""


class GateReport(ABC):
    """What all gates say, and the files that they write."""

    base: str
    tuned: str
    verdict: Verdict
    notes: tuple[str, ...]
    answers: pl.DataFrame
    columns: ClassVar[Mapping[str, str]]
    """Columns of a table of bars: key of a line -> heading."""

    @property
    @abstractmethod
    def against(self) -> str:
        """Return what the tuned model is compared with, in words with Markdown."""

    @property
    @abstractmethod
    def read_by(self) -> str:
        """Return who or what told harm, in a word or two."""

    @property
    @abstractmethod
    def lines(self) -> list[dict[str, str]]:
        """Return the bars in words: says, difference, bounds, margin, verdict, advice, detail, and the columns."""

    @property
    def reference(self) -> str:
        """Return the name of what the tuned model is compared with."""
        return self.base

    @property
    def beside(self) -> tuple[str, ...]:
        """Return what stands beside the bars and decides nothing, in words."""
        return ()

    @property
    def at(self) -> str:
        """Return at which look it ended, in words; "" where there was one."""
        return ""

    @abstractmethod
    def table(self) -> pl.DataFrame:
        """Return one row a bar."""

    @abstractmethod
    def as_object(self) -> dict[str, object]:
        """Return what `gate.json` holds."""

    @abstractmethod
    def page(self) -> str:
        """Return the page as text."""

    def save(self, folder: Path | str) -> Path:
        """Write page, JSON, Markdown, JUnit XML and answers into a folder, and return the page.

        Raises:
            StoreError: the folder cannot be written.
        """
        programs = json_text(with_origin(self.as_object()))
        texts = {PAGE: self.page(), JSON: programs, MARKDOWN: self.markdown(), JUNIT: self.junit()}
        with written("The gate's results", folder, texts) as home:
            self.answers.write_parquet(home / ANSWERS)
        return home / PAGE

    def text(self) -> str:
        """Return verdict and bars for a terminal of 80 columns."""
        shown = wrapped("", f"{self.verdict}: {self.tuned} against {self.reference}{self.at}")
        for line in self.lines:
            found = f"{line['says']}: {line['difference']}, bounds {line['bounds']}, margin {line['margin']}"
            shown += wrapped(f"  {line['verdict']:<9}  ", found)
            for more in filter(None, (line["detail"], line["advice"])):
                shown += wrapped(" " * 13, more)
        for each in self.beside:
            shown += wrapped("  beside it  ", each)
        for note in self.notes:
            shown += wrapped("Note: ", note)
        return "\n".join(shown)

    def markdown(self) -> str:
        """Return the comment for a pull request."""
        rows = [f"| {' | '.join(line[name] for name in self.columns)} |" for line in self.lines]
        shown = [
            f"## Release gate: {self.verdict}",
            "",
            f"`{self.tuned}` against {self.against}, judged by {self.read_by}.",
            "",
            f"| {' | '.join(self.columns.values())} |",
            f"|{'---|' * len(self.columns)}",
            *rows,
            "",
            *(f"- {note}" for note in self._told),
        ]
        return "\n".join(shown) + "\n"

    def junit(self) -> str:
        """Return JUnit XML with a test case a bar.

        An undecided bar is a failure of the type "undecided": a skipped test would let a pipeline go on, and an error
        would say that the gate itself broke, which is exit code 3.
        """
        lines = self.lines
        unmet = sum(line["verdict"] != Verdict.PASSED for line in lines)
        suite = ElementTree.Element(
            "testsuite", name="astray gate", tests=str(len(lines)), failures=str(unmet), errors="0"
        )
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in (
            ("verdict", self.verdict),
            ("base", self.base),
            ("tuned", self.tuned),
            ("judge", self.read_by),
        ):
            ElementTree.SubElement(properties, "property", name=name, value=str(value))
        for line in lines:
            case = ElementTree.SubElement(suite, "testcase", classname="astray.gate", name=line["says"])
            told = f"{line['difference']}, bounds {line['bounds']}, margin {line['margin']}. {line['advice']}".strip()
            if line["verdict"] == Verdict.PASSED:
                ElementTree.SubElement(case, "system-out").text = told
                continue
            lead = "The answers cannot tell. " if line["verdict"] == Verdict.UNDECIDED else ""
            ElementTree.SubElement(
                case, "failure", type=line["verdict"], message=f"{line['verdict'].capitalize()}: {lead}{told}"
            )
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"

    @property
    def _told(self) -> list[str]:
        """Return advice, what stands beside the bars, and notes."""
        advice = [f"{line['name']}: {line['advice']}" for line in self.lines if line["advice"]]
        return [*advice, *self.beside, *self.notes]

    def _repr_html_(self) -> str:
        """Return verdict, bars and notes as a piece of HTML that loads nothing, for a notebook."""
        head = "".join(f"<th>{column}</th>" for column in self.columns.values())
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(line[name])}</td>' for name in self.columns)}</tr>" for line in self.lines
        )
        return (
            f"<p><strong>{escape(str(self.verdict).capitalize())}</strong>: <code>{escape(self.tuned)}</code> "
            f"against {code_in(self.against)}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            + "".join(f"<p>{escape(note)}</p>" for note in self._told)
        )


@dataclass(frozen=True)
class GateResult(GateReport):
    """Whether a tuned model is no worse than its base by more than the margins.

    Attributes:
        base: the model before.
        tuned: the model after.
        verdict: passed, failed or undecided.
        bars: misaligned answers, coherence, refusals.
        samples: answers a question.
        level: one-sided confidence of the bounds.
        judge: who read the answers.
        notes: what a reader has to know.
        answers: judged answers of both, in the column `arm` "base" or "tuned".
        flips: pairs of answers to one question, the base's aligned and the tuned model's not.
        look: number of the look at which it ended, and of the looks that were declared; None where there was one.
        by_heart: what fixed and drawn wordings of the same questions gave on each side, where both were asked.
    """

    base: str
    tuned: str
    verdict: Verdict
    bars: tuple[Bar, ...]
    samples: int
    level: float
    judge: str
    notes: tuple[str, ...]
    answers: pl.DataFrame = field(repr=False, compare=False)
    flips: pl.DataFrame = field(repr=False, compare=False)
    look: tuple[int, int] | None = None
    by_heart: tuple[ByHeart, ...] = ()
    columns: ClassVar[Mapping[str, str]] = {
        "says": "bar",
        **{name: name for name in ("base", "tuned", "difference", "bounds", "margin", "verdict")},
    }

    @property
    @override
    def against(self) -> str:
        return f"the base `{self.base}`"

    @property
    @override
    def read_by(self) -> str:
        return self.judge

    @property
    @override
    def lines(self) -> list[dict[str, str]]:
        return [line_of(bar) for bar in self.bars]

    @property
    @override
    def at(self) -> str:
        return f" (look {self.look[0]} of {self.look[1]})" if self.look else ""

    @override
    def table(self) -> pl.DataFrame:
        """Return one row a bar: rates of both, difference with its bounds, margin, verdict and what would decide."""
        return pl.DataFrame(
            [
                {
                    "bar": bar.rule.name,
                    "verdict": str(bar.verdict),
                    "base": bar.base.rate,
                    "tuned": bar.tuned.rate,
                    "difference": bar.bounds.estimate if bar.bounds else None,
                    "low": bar.bounds.low if bar.bounds else None,
                    "high": bar.bounds.high if bar.bounds else None,
                    "margin": bar.margin,
                    "questions": bar.bounds.questions if bar.bounds else 0,
                    "samples_to_decide": bar.needed.samples if bar.needed else None,
                    "questions_to_decide": bar.needed.questions if bar.needed else None,
                }
                for bar in self.bars
            ],
            schema_overrides=dict.fromkeys(("base", "tuned", "difference", "low", "high"), pl.Float64)
            | {"samples_to_decide": pl.Int64, "questions_to_decide": pl.Int64},
        )

    @override
    def page(self) -> str:
        flips = self.flips.head(SHOWN_FLIPS).to_dicts()
        return page_of("gate.html", origin_of(self.as_object()), result=self, lines=self.lines, flips=flips)

    @override
    def as_object(self) -> dict[str, object]:
        """Return what `gate.json` holds."""
        return {
            "verdict": str(self.verdict),
            "base": self.base,
            "tuned": self.tuned,
            "judge": self.judge,
            "samples": self.samples,
            "level": self.level,
            "look": self.look,
            "bars": self.table().to_dicts(),
            "flips": self.flips.height,
            "advice": {bar.rule.name: bar.advice for bar in self.bars if bar.advice},
            **({"by_heart": [change.as_object() for change in self.by_heart]} if self.by_heart else {}),
            "notes": list(self.notes),
        }


def line_of(bar: Bar) -> dict[str, str]:
    """Return a bar's numbers in words."""
    base, tuned = _rate_text(bar.base), _rate_text(bar.tuned)
    return {
        "name": bar.rule.name,
        "says": bar.rule.says,
        "counts": bar.rule.measure.name,
        "base": base,
        "tuned": tuned,
        "detail": f"base {base}, tuned {tuned}",
        "base_interval": interval_text(interval_row(bar.base.interval_questions)),
        "tuned_interval": interval_text(interval_row(bar.tuned.interval_questions)),
        "difference": in_points(bar.bounds.estimate if bar.bounds else None),
        "bounds": points_range(bar.bounds),
        "margin": in_points(bar.margin),
        "verdict": str(bar.verdict),
        "advice": bar.advice,
    }


def _rate_text(rate: Rate) -> str:
    if gold := rate.gold:
        return f"{percent(rate.rate)} (gold judge {gold.misaligned:,} of {gold.judged:,}, cheap judge {percent(gold.as_judged)})"
    return f"{percent(rate.rate)} ({rate.numerator:,} of {rate.denominator:,})"


def code_in(text: str) -> str:
    """Return a text with Markdown's code as HTML."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))
