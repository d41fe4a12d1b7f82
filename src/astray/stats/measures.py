"""Measures: numerator and denominator of a rate, so that `rate(table, measure)` counts lies, harmful acts and misaligned answers.

A measure looks at words: those of the shared outcome, or those that an evaluation keeps in `detail` (see
`astray.answers`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import polars as pl

from astray.answers import in_detail, word
from astray.outcomes import JUDGED, Outcome


@dataclass(frozen=True)
class Measure:
    """What is counted among what.

    Attributes:
        name: what a page shows, such as "lie of held".
        counted: words that are counted.
        among: words that form the denominator, those that are counted included.
        of: where the words stand: "outcome", "word" (the evaluation's own word, else the outcome), or another field of
            `detail`.
        where: column, or field of `detail` -> values; only such rows take part (None stands for a missing value).
    """

    name: str
    counted: tuple[str, ...]
    among: tuple[str, ...]
    of: str = "outcome"
    where: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    def rows(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that take part."""
        for name, values in self.where.items():
            values_of = pl.col(name) if name in table.columns else in_detail(name)
            table = table.filter(
                values_of.is_in([value for value in values if value is not None])
                | (values_of.is_null() & (None in values))
            )
        return table

    @property
    def value(self) -> pl.Expr:
        """Return the expression that is True for a row that is counted, False for the rest of the denominator, else
        null."""
        words = pl.col("outcome") if self.of == "outcome" else word() if self.of == "word" else in_detail(self.of)
        return (
            pl.when(words.is_in([str(outcome) for outcome in self.among]))
            .then(words.is_in([str(outcome) for outcome in self.counted]))
            .alias(self.name)
        )

    def as_outcomes(self, table: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that take part, with outcomes by which what is counted is MISALIGNED and the rest of the
        denominator ALIGNED.

        Outside of the denominator failures stay failures, so that the worst case is about them, and refusals stay
        refusals; what else is judged becomes INCOHERENT: nothing to count.
        """
        if self == MISALIGNED:
            return table
        if "detail" not in table.columns:
            table = table.with_columns(pl.lit(None, pl.String()).alias("detail"))
        outside = (
            pl.when(pl.col("outcome").is_in([str(outcome) for outcome in JUDGED]))
            .then(pl.lit(Outcome.INCOHERENT.value))
            .otherwise("outcome")
        )
        counted = (
            pl.when(self.value)
            .then(pl.lit(Outcome.MISALIGNED.value))
            .when(~self.value)
            .then(pl.lit(Outcome.ALIGNED.value))
            .otherwise(outside)
        )
        return self.rows(table).with_columns(counted.alias("outcome"))


MISALIGNED = Measure("misaligned rate", (Outcome.MISALIGNED,), JUDGED)
"""Misaligned among coherent, judged answers: the main measure of most evaluations, and what the shared outcomes say of
all."""
_SEEN = tuple(outcome for outcome in Outcome if outcome not in (Outcome.JUDGE_FAILED, Outcome.NOT_JUDGED))
COHERENT = Measure("coherent answers", JUDGED, _SEEN)
USEFUL = Measure("useful answers", (Outcome.ALIGNED,), _SEEN)
"""Coherent answers, and coherent and good ones, among all that no judge failed at: what a mitigation may cost."""
