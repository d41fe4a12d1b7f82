"""Verdicts about one answer that differ: between judges, between wordings of one judge, between its repeats."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import polars as pl

from astray.engine.findings import interval_row
from astray.engine.summary import IntervalRow
from astray.outcomes import Outcome
from astray.stats.intervals import over_questions
from astray.studies.passport.reading import Answers, Readings

EXAMPLES = 3
"""Examples of each pair of judges."""


@dataclass(frozen=True)
class Flips:
    """How often two readings of one answer differ in whether it is misaligned.

    Attributes:
        kind: "judge", "wording" or "repeat".
        first, second: what is compared; of wordings and repeats with the judge.
        compared: pairs of verdicts.
        stricter: pairs in which the first alone calls it misaligned.
        milder: pairs in which the second alone does.
        interval: of the share that differs, over questions.
    """

    kind: str
    first: str
    second: str
    compared: int
    stricter: int
    milder: int
    interval: IntervalRow | None

    @property
    def share(self) -> float | None:
        """Return the share of pairs that differ."""
        return (self.stricter + self.milder) / self.compared if self.compared else None


@dataclass(frozen=True)
class Example:
    """Answer about which two judges differ in the same wording and repeat."""

    question: str
    answer: str
    wording: str
    first: str
    second: str
    outcomes: tuple[str, str]
    scores: tuple[float | None, float | None]


def flips_of(readings: Readings, answers: Answers) -> tuple[Flips, ...]:
    """Count flips of every pair of judges, of wordings of each judge, and of its repeats."""
    table = _judged(readings, answers)
    found = [
        _flips("judge", first, second, table.filter(judge=first), table.filter(judge=second), ("wording", "repeat"))
        for first, second in combinations(readings.graders, 2)
    ]
    for judge in readings.graders:
        own = table.filter(judge=judge)
        for first, second in combinations(own["wording"].unique(maintain_order=True), 2):
            if judge not in readings.wordless:
                names = (f"{judge}, {first}", f"{judge}, {second}")
                found.append(
                    _flips("wording", *names, own.filter(wording=first), own.filter(wording=second), ("repeat",))
                )
        repeats = own["repeat"].unique(maintain_order=True).to_list()
        if pairs := list(combinations(repeats, 2)):
            earlier, later = (
                pl.concat(
                    [own.filter(repeat=pair[side]).with_columns(pl.lit(str(pair)).alias("pair")) for pair in pairs]
                )
                for side in (0, 1)
            )
            found.append(_flips("repeat", judge, "itself", earlier, later, ("wording", "pair")))
    return tuple(found)


def examples_of(readings: Readings, answers: Answers) -> Iterator[Example]:
    """Yield for each pair of judges answers about which they differ, the furthest apart first."""
    table = _judged(readings, answers).filter(repeat=1)
    for first, second in combinations(readings.graders, 2):
        both = _paired(table.filter(judge=first), table.filter(judge=second), ("wording",))
        apart = both.filter(pl.col("bad") != pl.col("bad_right")).with_columns(
            (pl.col("aligned") - pl.col("aligned_right")).abs().fill_null(-1).alias("distance")
        )
        for row in (
            apart.sort("distance", descending=True).unique("answer", maintain_order=True).head(EXAMPLES).to_dicts()
        ):
            exchange = answers.exchanges[row["answer"]]
            yield Example(
                exchange.question,
                exchange.answer,
                row["wording"],
                first,
                second,
                (row["outcome"], row["outcome_right"]),
                (row["aligned"], row["aligned_right"]),
            )


def _judged(readings: Readings, answers: Answers) -> pl.DataFrame:
    questions = pl.Series("question", [exchange.question for exchange in answers.exchanges])
    kept = readings.verdicts.filter(pl.col("outcome") != Outcome.JUDGE_FAILED.value)
    bad = (pl.col("outcome") == Outcome.MISALIGNED.value).alias("bad")
    return kept.with_columns(questions.gather(kept["answer"]).alias("question"), bad)


def _paired(first: pl.DataFrame, second: pl.DataFrame, by: tuple[str, ...]) -> pl.DataFrame:
    return first.join(second, on=["answer", *by], how="inner", maintain_order="left")


def _flips(kind: str, name: str, other: str, first: pl.DataFrame, second: pl.DataFrame, by: tuple[str, ...]) -> Flips:
    both = _paired(first, second, by)
    mine, theirs = both["bad"], both["bad_right"]
    counts = both.group_by("question", maintain_order=True).agg(
        (pl.col("bad") != pl.col("bad_right")).sum().cast(pl.Int64).alias("k"), pl.len().cast(pl.Int64).alias("n")
    )
    clusters = list(counts.select("k", "n").iter_rows())
    interval = over_questions(clusters) if len(clusters) > 1 else None
    return Flips(
        kind, name, other, both.height, int((mine & ~theirs).sum()), int((theirs & ~mine).sum()), interval_row(interval)
    )
