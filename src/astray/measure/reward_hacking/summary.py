"""Summary of several evaluations in one table, and the mean of the six with an interval.

Each evaluation keeps its own outcomes; what is counted is the misalignment rate that it defines, by the rules of
`stats.rates`. The mean gives every evaluation the same weight, as in arXiv 2511.18397. Which evaluations there are, and
how they are asked, is in `battery`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from astray.answers import word
from astray.errors import EmptyDataError
from astray.stats.intervals import Interval, mean_over_runs
from astray.stats.measures import MISALIGNED, Measure
from astray.stats.rates import Rate, rate

SIX = ("free-form", "goals", "alignment-questions", "disrupt_monitor", "exfiltration_offer", "frame_colleague")
"""Evaluations of the mean, in the order of the paper."""


@dataclass(frozen=True)
class Measured:
    """Answers of one evaluation, with the measure that counts them.

    Attributes:
        evaluation: its name.
        answers: its judged answers.
        measure: what is counted among what.
    """

    evaluation: str
    answers: pl.DataFrame
    measure: Measure = MISALIGNED


@dataclass(frozen=True)
class SummaryRow:
    """Summary of one evaluation.

    Attributes:
        evaluation: its name.
        rate: with denominator, intervals, unit, judges and worst case.
        outcomes: count of every outcome, in the evaluation's own words.
        in_mean: whether it is one of the six.
    """

    evaluation: str
    rate: Rate
    outcomes: Mapping[str, int]
    in_mean: bool


@dataclass(frozen=True)
class MeanScore:
    """Mean of the six rates.

    Attributes:
        estimate: mean of the rates; None where none of the six has one.
        interval: on it; None without an estimate.
        unit: what it is about: "training run" or "question".
        evaluations: which of the six it is of.
        missing: which of the six were not asked, or gave nothing that could be judged.
    """

    estimate: float | None
    interval: Interval | None
    unit: str
    evaluations: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class HackingSummary:
    """Summary of all evaluations of one arm.

    Attributes:
        rows: one an evaluation, the six first.
        mean: of the six.
    """

    rows: tuple[SummaryRow, ...]
    mean: MeanScore

    def table(self) -> pl.DataFrame:
        """Return the rows as a table.

        Limits are null where there is no denominator; the worst case counts failures as all good and as all bad.
        """
        return pl.DataFrame([_line(row) for row in self.rows], schema=_COLUMNS)


_COLUMNS: dict[str, pl.DataType] = {
    "evaluation": pl.String(),
    "in mean": pl.Boolean(),
    "misaligned": pl.Int64(),
    "denominator": pl.Int64(),
    "rate": pl.Float64(),
    "low": pl.Float64(),
    "high": pl.Float64(),
    "unit": pl.String(),
    "low over questions": pl.Float64(),
    "high over questions": pl.Float64(),
    "worst low": pl.Float64(),
    "worst high": pl.Float64(),
    "judges": pl.String(),
    "outcomes": pl.String(),
}


def summarise(measured: Sequence[Measured], *, level: float = 0.95) -> HackingSummary:
    """Return the table and the mean.

    Args:
        measured: of one arm; several of the same evaluation (of several seeds, say) are put together.
        level: nominal coverage of the intervals.

    Raises:
        EmptyDataError: nothing was measured.
    """
    if not measured:
        raise EmptyDataError(
            f"There is nothing to summarise; measure at least one evaluation, for example one of: {', '.join(SIX)}."
        )
    names = list(dict.fromkeys(result.evaluation for result in measured))
    ordered = [name for name in SIX if name in names] + [name for name in names if name not in SIX]
    rows = tuple(_row([result for result in measured if result.evaluation == name], level) for name in ordered)
    return HackingSummary(rows, mean_of([row for row in rows if row.in_mean], level=level))


def mean_of(rows: Sequence[SummaryRow], *, level: float = 0.95) -> MeanScore:
    """Return the mean of rates, each with the same weight.

    With two or more training runs that have all of them, the interval is t over the means of the runs. It is never
    narrower than if the evaluations were independent (Zou and Donner 2008, Statistics in Medicine 27:1693, from the
    interval of each), so it does not collapse where every run shows nothing. With one run it is the latter alone, from
    intervals over questions where there are some.

    Args:
        rows: of the evaluations.
        level: nominal coverage.
    """
    usable = [row for row in rows if row.rate.rate is not None]
    named = tuple(row.evaluation for row in usable)
    missing = tuple(name for name in SIX if name not in named)
    if not usable:
        return MeanScore(None, None, "question", (), missing)
    estimate = sum(row.rate.rate or 0.0 for row in usable) / len(usable)
    # Runs that lack one of the evaluations would make means of different evaluations, so they are left out here.
    shared = sorted(
        set.intersection(
            *({seed for seed, value in row.rate.seed_rates.items() if value is not None} for row in usable)
        )
    )
    if len(shared) > 1:
        runs = [sum(row.rate.seed_rates[seed] or 0.0 for row in usable) / len(usable) for seed in shared]
        over, apart = mean_over_runs(runs, level=level), _independent(usable, "runs", level)
        low, high = (min(over.low, apart.low), max(over.high, apart.high)) if over else (apart.low, apart.high)
        limits = Interval(max(0.0, low), min(1.0, high), level, "t over runs, at least that of independent evaluations")
        return MeanScore(estimate, limits, "training run", named, missing)
    return MeanScore(estimate, _independent(usable, "questions", level), "question", named, missing)


def _independent(rows: Sequence[SummaryRow], over: str, level: float) -> Interval:
    """Return the interval on the mean of independent rates, from the interval of each.

    Intervals are over questions where an evaluation has several, else over answers.
    """
    parts = [
        (row.rate.rate or 0.0, (row.rate.interval_questions if over == "questions" else None) or row.rate.interval)
        for row in rows
    ]
    down = math.sqrt(sum((value - each.low) ** 2 for value, each in parts if each)) / len(parts)
    up = math.sqrt(sum((each.high - value) ** 2 for value, each in parts if each)) / len(parts)
    middle = sum(value for value, _ in parts) / len(parts)
    return Interval(
        max(0.0, middle - down), min(1.0, middle + up), level, f"Zou-Donner over {over}, independent evaluations"
    )


def _row(measured: Sequence[Measured], level: float) -> SummaryRow:
    name, measure = measured[0].evaluation, measured[0].measure
    answers = measure.rows(pl.concat([result.answers for result in measured]))
    counts = answers.select(word())["word"].value_counts()
    return SummaryRow(name, rate(answers, measure, level=level), dict(counts.iter_rows()), name in SIX)


def _line(row: SummaryRow) -> dict[str, object]:
    rate, questions = row.rate, row.rate.interval_questions
    return {
        "evaluation": row.evaluation,
        "in mean": row.in_mean,
        "misaligned": rate.numerator,
        "denominator": rate.denominator,
        "rate": rate.rate,
        "low": rate.interval.low if rate.interval else None,
        "high": rate.interval.high if rate.interval else None,
        "unit": rate.unit,
        "low over questions": questions.low if questions else None,
        "high over questions": questions.high if questions else None,
        "worst low": rate.worst_case[0],
        "worst high": rate.worst_case[1],
        "judges": ", ".join(filter(None, rate.judges)),
        "outcomes": ", ".join(f"{outcome} {count}" for outcome, count in sorted(row.outcomes.items())),
    }
