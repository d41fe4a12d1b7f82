"""Gap between two conditions that were asked the same questions: both rates, and a difference paired by question."""

from dataclasses import dataclass

import polars as pl

from astray.errors import EmptyDataError
from astray.stats.compare import difference_of_models
from astray.stats.difference import Difference
from astray.stats.intervals import Counts, Interval, wilson
from astray.stats.measures import Measure


@dataclass(frozen=True)
class Gap:
    """Rates of two conditions, and their difference.

    Attributes:
        first: what is counted under the first condition, and among how many.
        second: the same under the second.
        difference: first minus second, over the questions that both have.
    """

    first: Counts
    second: Counts
    difference: Difference

    @property
    def intervals(self) -> tuple[Interval, Interval]:
        """Return Wilson's interval on each of the two rates; the unit is the answer."""
        return wilson(*self.first), wilson(*self.second)


def gap(table: pl.DataFrame, first: Measure, second: Measure, *, unit: str) -> Gap:
    """Return the gap between two measures of one table, each about a condition.

    Args:
        table: judged answers.
        first: of the first condition.
        second: of the second one.
        unit: what a question is, for the page.

    Raises:
        EmptyDataError: no question has counted answers under both.
    """
    one, two = _by_question(table, first), _by_question(table, second)
    if not one.keys() & two.keys():
        raise EmptyDataError(
            f"No {unit} has counted answers under both conditions: {len(one)} have some under the first, {len(two)} "
            "under the second."
        )
    return Gap(_total(one), _total(two), difference_of_models(one, two, unit=unit))


def _by_question(table: pl.DataFrame, measure: Measure) -> dict[str, Counts]:
    known = measure.rows(table).with_columns(measure.value.alias("counted")).drop_nulls("counted")
    sums = known.group_by("item").agg(pl.col("counted").sum().alias("k"), pl.len().alias("n")).sort("item")
    return {str(item): (int(k), int(n)) for item, k, n in sums.iter_rows()}


def _total(counts: dict[str, Counts]) -> Counts:
    return sum(k for k, _ in counts.values()), sum(n for _, n in counts.values())
