"""Counted rates and differences, with all that is needed to trust them."""

from collections.abc import Mapping
from dataclasses import dataclass

from astray.stats.difference import Difference
from astray.stats.intervals import Interval
from astray.stats.notebook import estimate_html


@dataclass(frozen=True)
class CountedRate:
    """Rate of hits of one group of one side.

    Attributes:
        name: of the side and group, for a page.
        side: "files" or "against".
        group: values of the columns that groups are made by.
        numerator: hits.
        denominator: answers that are hits or could have been.
        interval: None where the denominator is 0.
        unit: unit of inference: "answer", "question" or "run".
        questions: number of different questions, None where the source does not tell them apart.
        runs: number of runs, logs or files.
        judges: who gave the scores.
        outcomes: every score, or what became of it, -> number of answers; they add up to all.
        failed: answers without a usable score, behind which hits may hide.
        corrected: rate that a perfect judge would have found, None without labels.
        corrected_interval: interval on it.
    """

    name: str
    side: str
    group: tuple[str, ...]
    numerator: int
    denominator: int
    interval: Interval | None
    unit: str
    questions: int | None
    runs: int
    judges: tuple[str, ...]
    outcomes: Mapping[str, int]
    failed: int
    corrected: float | None = None
    corrected_interval: Interval | None = None

    @property
    def rate(self) -> float | None:
        """Numerator over denominator; None where no answer was judged."""
        return self.numerator / self.denominator if self.denominator else None

    @property
    def worst_case(self) -> tuple[float, float]:
        """Rate with the failed answers in the denominator, counted as no hits and as hits."""
        everything = self.denominator + self.failed
        return (self.numerator / everything, (self.numerator + self.failed) / everything) if everything else (0.0, 1.0)

    def _repr_html_(self) -> str:
        counted = f"{self.numerator:,} of {self.denominator:,} answers"
        line = estimate_html(self.rate, self.interval, self.name, counted, f"unit: {self.unit}")
        return line + _corrected_html(self.corrected, self.corrected_interval)


@dataclass(frozen=True)
class CountedDifference:
    """Rate of the files minus rate of the others, on their common questions.

    Attributes:
        group: values of the columns that groups are made by.
        difference: with its interval, unit and p-value.
        common: number of common questions with judged answers of both sides.
        left_out: number of questions of each side that are not among them.
        answers: number of judged answers of each side that are compared.
        other_texts: number of judged answers of each side to common questions in texts that the other side has no judged
            answer to, which are left out too.
        corrected: difference that a perfect judge would have found, None without labels.
        corrected_interval: interval on it.
    """

    group: tuple[str, ...]
    difference: Difference
    common: int
    left_out: tuple[int, int]
    answers: tuple[int, int]
    other_texts: tuple[int, int]
    corrected: float | None = None
    corrected_interval: Interval | None = None

    def _repr_html_(self) -> str:
        return self.difference._repr_html_() + _corrected_html(self.corrected, self.corrected_interval)


def _corrected_html(estimate: float | None, interval: Interval | None) -> str:
    return "" if estimate is None else estimate_html(estimate, interval, "corrected for the judge's error")
