"""From an answer table to rates and decided claims; the one place where studies count.

Wraps `stats` for studies: selects answers, turns rates into rows of the summary, and decides claims by intervals. A study's
claims read like sentences: which rate, against which control, above or below what.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from astray.errors import EmptyDataError
from astray.outcomes import Outcome
from astray.stats.claims import Decision, decide, holm
from astray.stats.compare import Difference, paired_difference, seed_pairs
from astray.stats.intervals import Counts, Interval, mean_over_runs, over_runs, wilson
from astray.stats.rates import Rate, rate, rates
from astray.studies.summary import ClaimRow, IntervalRow, PublishedFigure, RateRow

ELSEWHERE, AT_HOME, HELD_OUT = "elsewhere", "trained domain", "held-out questions"
NOT_RUN = "An arm that this claim needs was not run."
NO_VALUE = "No run has a value of this measure."
_NO_ANSWERS = Rate(0, 0, None, None, "answer", (), dict.fromkeys(Outcome, 0), {})


def interval_row(interval: Interval | None) -> IntervalRow | None:
    """An interval as a row of the summary."""
    return None if interval is None else IntervalRow(low=interval.low, high=interval.high, level=interval.level, method=interval.method)


def rate_row(found: Rate, *, arm: str, evaluation: str, group: str, format: str) -> RateRow:
    """A rate as a row of the summary."""
    return RateRow(
        arm=arm,
        evaluation=evaluation,
        group=group,
        format=format,
        numerator=found.numerator,
        denominator=found.denominator,
        rate=found.rate,
        interval=interval_row(found.interval),
        interval_questions=interval_row(found.interval_questions),
        unit=found.unit,
        seed_rates=found.seed_rates,
        outcomes=found.outcomes,
        coherence=found.coherence,
        worst_case=found.worst_case,
        judge=", ".join(found.judges),
    )


@dataclass(frozen=True)
class Findings:
    """The judged answers of a study, each with the group it belongs to.

    Attributes:
        table: answers with a further column `groups`: the list of groups that an answer counts in.
        not_run: arms that the study declares and that were left out of this run; claims about them are told apart by `NOT_RUN`.
        folders: name of an analysis -> the folder that it left.
    """

    table: pl.DataFrame
    not_run: frozenset[str] = frozenset()
    folders: Mapping[str, Path] = field(default_factory=dict)

    def analysed(self, prefix: str, file: str) -> dict[str, pl.DataFrame]:
        """The Parquet tables of this name that analyses left, by the names of the analyses; those whose names begin with `prefix`."""
        return {name: pl.read_parquet(folder / file) for name, folder in self.folders.items() if name.startswith(prefix)}

    def select(self, arm: str, group: str, *, evaluation: str, format: str = "plain") -> pl.DataFrame:
        """The answers of an arm in a group; format "all" takes every format.

        Raises:
            EmptyDataError: there are none.
        """
        chosen = self.table.filter(
            pl.col("arm") == arm,
            pl.col("evaluation") == evaluation,
            pl.col("groups").list.contains(group),
            pl.lit(format == "all") | (pl.col("format") == format),
        )
        if chosen.is_empty():
            raise EmptyDataError(f"The study has no answers of {arm!r} to {evaluation!r} in the group {group!r} and format {format!r}.")
        return chosen

    def rate(self, arm: str, group: str = ELSEWHERE, *, evaluation: str, format: str = "plain", items: Collection[str] | None = None) -> Rate:
        """The rate of an arm in a group; without any answer if the arm was left out of this run.

        Args:
            arm: its name.
            group: of answers.
            evaluation: its name.
            format: of the answers, or "all".
            items: ids of the questions that count; all without it.

        Raises:
            EmptyDataError: the arm was run and has no such answers, or there is no such arm.
        """
        if arm in self.not_run:
            return _NO_ANSWERS
        answers = self.select(arm, group, evaluation=evaluation, format=format)
        return rate(answers if items is None else answers.filter(pl.col("item").is_in(list(items))))

    def has(self, arm: str) -> bool:
        """Whether the study ran this arm."""
        return arm in self.arms

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms that were run."""
        return tuple(self.table["arm"].unique(maintain_order=True).to_list())

    def rate_rows(self) -> tuple[RateRow, ...]:
        """Every rate: arm x evaluation x group x format, and all formats together where there are several."""
        long = self.table.explode("groups").rename({"groups": "group"})
        by = ["arm", "evaluation", "group"]
        several = long.group_by(by).agg(pl.col("format").n_unique().alias("formats")).filter(pl.col("formats") > 1)
        joined = long.join(several, on=by).with_columns(pl.lit("all").alias("format")).drop("formats")
        found = rates(pl.concat([long, joined]), [*by, "format"])
        order = {arm: place for place, arm in enumerate(self.arms)}
        rows = [
            rate_row(one, arm=str(arm), evaluation=str(name), group=str(group), format=str(form)) for (arm, name, group, form), one in found.items()
        ]
        return tuple(sorted(rows, key=lambda row: (row.evaluation, order[row.arm], row.group, row.format)))


def rate_claim(
    id: str,
    statement: str,
    found: Rate,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    between: tuple[float, float] | None = None,
    control: tuple[str, Rate] | None = None,
    published: PublishedFigure | None = None,
    note: str = "",
) -> ClaimRow:
    """A claim about one rate: its interval lies in the claimed region."""
    verdict = decide(found.rate, found.interval, at_most=at_most, at_least=at_least, between=between)
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"the 95% interval of the rate lies {_region(at_most, at_least, between)}",
        region=between or (at_least, at_most),
        verdict=verdict,
        estimate=found.rate,
        interval=interval_row(found.interval),
        n=_units(found),
        unit=found.unit,
        control=control[0] if control else "none: the claim is about a level",
        control_estimate=control[1].rate if control else None,
        p_value=None,
        p_holm=None,
        published=published,
        note=note if found.total else NOT_RUN,
    )


def difference_claim(
    id: str,
    statement: str,
    found: Rate,
    control: tuple[str, Rate],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    published: PublishedFigure | None = None,
    note: str = "",
) -> ClaimRow:
    """A claim that one rate is above another by so much, or below it (`at_most`, negative): the interval of the paired difference decides."""
    difference = paired(found, control[1])
    if not (found.total and control[1].total):
        note = NOT_RUN
    elif difference is None:
        note = f"No run of both arms gave a coherent answer, so there is nothing to compare. {note}".rstrip()
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"the 95% interval of the difference lies {_region(at_most, at_least, None)}",
        region=(at_least, at_most),
        verdict=decide(difference.estimate, difference.interval, at_least=at_least, at_most=at_most) if difference else Decision.UNDECIDED,
        estimate=difference.estimate if difference else None,
        interval=interval_row(difference.interval) if difference else None,
        n=difference.n if difference else 0,
        unit=difference.unit if difference else "pair of training runs",
        control=control[0],
        control_estimate=control[1].rate,
        p_value=difference.p_value if difference else None,
        p_holm=None,
        published=published,
        note=note,
    )


def values_claim(
    id: str,
    statement: str,
    values: Sequence[float],
    control: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    unit: str = "training run",
    control_estimate: float | None = None,
    published: PublishedFigure | None = None,
    note: str = "",
    was_run: bool = True,
) -> ClaimRow:
    """A claim about the mean of a measure that is no rate (a relative reduction, a correlation), one value a run.

    A run without a value (a reduction of nothing) is left out by the caller. Without any value the claim is undecided and says so; where its arms
    were not even run (`was_run`), it is left out.
    """
    if not values:
        note = f"{NO_VALUE} {note}".rstrip() if was_run else NOT_RUN
    interval = mean_over_runs(values) if values else None
    if interval is not None and interval.low == interval.high:
        note = f"All {len(values)} runs have the same value, so the interval has no width, which is not certainty. {note}".rstrip()
    estimate = sum(values) / len(values) if values else None
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"the 95% interval of the mean lies {_region(at_most, at_least, None)}",
        region=(at_least, at_most),
        verdict=decide(estimate, interval, at_least=at_least, at_most=at_most),
        estimate=estimate,
        interval=interval_row(interval),
        n=len(values),
        unit=unit,
        control=control,
        control_estimate=control_estimate,
        p_value=None,
        p_holm=None,
        published=published,
        note=note,
    )


def counts_claim(
    id: str,
    statement: str,
    counts: Sequence[Counts],
    control: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    trial: str = "answer",
    control_counts: Sequence[Counts] = (),
    published: PublishedFigure | None = None,
    note: str = "",
) -> ClaimRow:
    """A claim about a rate that is counted beside the answer table: hits and trials of each training run.

    Its unit is the training run, or with a single run the trial; its note tells the count. Without any run that has one the claim is undecided and
    says so.
    """
    several = len(counts) > 1
    hits, trials = (sum(run[place] for run in counts) for place in (0, 1))
    counted = f"{hits:,} of {trials:,} {trial}s{f' in {len(counts)} runs' if several else ''}." if counts else NO_VALUE
    interval = over_runs(counts) if several else wilson(*counts[0]) if counts else None
    estimate = pooled(counts)
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"the 95% interval of the rate lies {_region(at_most, at_least, None)}",
        region=(at_least, at_most),
        verdict=decide(estimate, interval, at_least=at_least, at_most=at_most),
        estimate=estimate,
        interval=interval_row(interval),
        n=len(counts) if several else trials,
        unit="training run" if several else trial,
        control=control,
        control_estimate=pooled(control_counts),
        p_value=None,
        p_holm=None,
        published=published,
        note=f"{counted} {note}".rstrip(),
    )


def pooled(counts: Sequence[Counts]) -> float | None:
    """Hits among all trials of all runs; None without a trial."""
    trials = sum(of_run for _, of_run in counts)
    return sum(hits for hits, _ in counts) / trials if trials else None


def paired(found: Rate, control: Rate) -> Difference | None:
    """The difference of two rates, paired by seed; None when no seed has judged answers in both."""
    try:
        return paired_difference(seed_pairs(found, control))
    except EmptyDataError:
        return None


def under(group: str, claims: Iterable[ClaimRow]) -> Iterator[ClaimRow]:
    """Put claims under a heading of the table of claims."""
    return (claim.model_copy(update={"group": group}) for claim in claims)


def with_holm(claims: Sequence[ClaimRow]) -> tuple[ClaimRow, ...]:
    """The claims with Holm's correction over all of them."""
    corrected = holm({claim.id: claim.p_value for claim in claims})
    return tuple(claim.model_copy(update={"p_holm": corrected[claim.id]}) for claim in claims)


def _units(found: Rate) -> int:
    judged_runs = sum(judged > 0 for _, judged in found.seed_counts.values())
    return judged_runs if found.unit == "training run" else found.denominator


def _region(at_most: float | None, at_least: float | None, between: tuple[float, float] | None) -> str:
    if between is not None:
        return f"between {between[0]:.0%} and {between[1]:.0%}"
    return f"at or below {at_most:.0%}" if at_most is not None else f"at or above {at_least:.0%}"
