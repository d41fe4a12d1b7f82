"""Result of a gate: verdict, bars and flips, and the files that programs, pull requests and people read."""

from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from xml.etree import ElementTree

import polars as pl

from astray.engine.findings import interval_row
from astray.report.origin import origin_of, with_origin
from astray.report.page import json_text, page_of, written
from astray.report.wording import interval_text, percent
from astray.stats.rates import Rate
from astray.studies.gate.bars import Bar, Verdict

PAGE, JSON, MARKDOWN, JUNIT, ANSWERS = "gate.html", "gate.json", "gate.md", "junit.xml", "answers.parquet"
SHOWN_FLIPS = 200
"""Most pairs of answers that the page carries; all stand in the answer table."""


@dataclass(frozen=True)
class GateResult:
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

    def save(self, folder: Path | str) -> Path:
        """Write page, JSON, Markdown, JUnit XML and answers into a folder, and return the page.

        Raises:
            StoreError: the folder cannot be written.
        """
        lines, flips = [line_of(bar) for bar in self.bars], self.flips.head(SHOWN_FLIPS).to_dicts()
        page = page_of("gate.html", origin_of(self.as_object()), result=self, lines=lines, flips=flips)
        texts = {
            PAGE: page,
            JSON: json_text(with_origin(self.as_object())),
            MARKDOWN: self.markdown(),
            JUNIT: self.junit(),
        }
        with written("The gate's results", folder, texts) as home:
            self.answers.write_parquet(home / ANSWERS)
        return home / PAGE

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
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """Return verdict and bars for a terminal."""
        at = f" (look {self.look[0]} of {self.look[1]})" if self.look else ""
        lines = [f"{self.verdict}: {self.tuned} against {self.base}{at}"]
        for bar in self.bars:
            cells = line_of(bar)
            lines.append(
                f"  {bar.verdict:<9}  {bar.rule.says}: {cells['difference']}, bounds {cells['bounds']}, margin "
                f"{cells['margin']}"
            )
            lines.append(f"             base {cells['base']}, tuned {cells['tuned']}")
            lines += [f"             {bar.advice}"] if bar.advice else []
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def markdown(self) -> str:
        """Return the comment for a pull request."""
        lines = [
            f"## Release gate: {self.verdict}",
            "",
            f"`{self.tuned}` against its base `{self.base}`, judged by {self.judge}.",
            "",
        ]
        lines += ["| bar | base | tuned | difference | bounds | margin | verdict |", "|---|---|---|---|---|---|---|"]
        for bar in self.bars:
            cells = line_of(bar)
            lines.append(
                "| "
                f"{' | '.join([bar.rule.says, *(cells[name] for name in ('base', 'tuned', 'difference', 'bounds', 'margin', 'verdict'))])} "
                "|"
            )
        lines += [
            "",
            *(f"- {bar.rule.name}: {bar.advice}" for bar in self.bars if bar.advice),
            *(f"- {note}" for note in self.notes),
        ]
        return "\n".join(lines) + "\n"

    def junit(self) -> str:
        """Return JUnit XML with a test case a bar.

        An undecided bar is a failure of the type "undecided": a skipped test would let a pipeline go on, and an error
        would say that the gate itself broke, which is exit code 3.
        """
        unmet = sum(bar.verdict is not Verdict.PASSED for bar in self.bars)
        suite = ElementTree.Element(
            "testsuite", name="astray gate", tests=str(len(self.bars)), failures=str(unmet), errors="0"
        )
        properties = ElementTree.SubElement(suite, "properties")
        for name in ("verdict", "base", "tuned", "judge"):
            ElementTree.SubElement(properties, "property", name=name, value=str(getattr(self, name)))
        for bar in self.bars:
            case = ElementTree.SubElement(suite, "testcase", classname="astray.gate", name=bar.rule.says)
            cells = line_of(bar)
            told = f"{cells['difference']}, bounds {cells['bounds']}, margin {cells['margin']}. {bar.advice}".strip()
            if bar.verdict is Verdict.PASSED:
                ElementTree.SubElement(case, "system-out").text = told
                continue
            lead = "The answers cannot tell. " if bar.verdict is Verdict.UNDECIDED else ""
            ElementTree.SubElement(
                case, "failure", type=str(bar.verdict), message=f"{str(bar.verdict).capitalize()}: {lead}{told}"
            )
        return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"

    def _repr_html_(self) -> str:
        """Return verdict, bars and notes as a piece of HTML that loads nothing, for a notebook."""
        columns = ("says", "base", "tuned", "difference", "bounds", "margin", "verdict")
        head = "".join(f"<th>{each}</th>" for each in ("bar", *columns[1:]))
        rows = "".join(
            f"<tr>{''.join(f'<td>{escape(line_of(bar)[name])}</td>' for name in columns)}</tr>" for bar in self.bars
        )
        told = [*(f"{bar.rule.name}: {bar.advice}" for bar in self.bars if bar.advice), *self.notes]
        return (
            f"<p><strong>{escape(str(self.verdict).capitalize())}</strong>: <code>{escape(self.tuned)}</code> "
            "against its base "
            f"<code>{escape(self.base)}</code></p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            + "".join(f"<p>{escape(each)}</p>" for each in told)
        )


def line_of(bar: Bar) -> dict[str, str]:
    """Return a bar's numbers in words."""
    return {
        "says": bar.rule.says,
        "base": _rate_text(bar.base),
        "tuned": _rate_text(bar.tuned),
        "base_interval": interval_text(interval_row(bar.base.interval_questions)),
        "tuned_interval": interval_text(interval_row(bar.tuned.interval_questions)),
        "difference": percent(bar.bounds.estimate if bar.bounds else None),
        "bounds": f"{percent(bar.bounds.low)} to {percent(bar.bounds.high)}" if bar.bounds else percent(None),
        "margin": percent(bar.margin),
        "verdict": str(bar.verdict),
        "advice": bar.advice,
    }


def _rate_text(rate: Rate) -> str:
    if gold := rate.gold:
        return f"{percent(rate.rate)} (gold judge {gold.misaligned:,} of {gold.judged:,}, cheap judge {percent(gold.as_judged)})"
    return f"{percent(rate.rate)} ({rate.numerator:,} of {rate.denominator:,})"
