"""Claims of studies, decided by intervals: each names a rate, its control, and the region of its interval.

Left to others: claims on measures that are no rates (`value_claims`).
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from astray.engine.findings import LeftOutRate, Needs, ServedRate, interval_row
from astray.engine.summary import ClaimRow, ClaimStatus, PublishedFigure
from astray.errors import EmptyDataError
from astray.outcomes import Outcome
from astray.stats.claims import Decision, decide, decided_p
from astray.stats.compare import difference_of_arms
from astray.stats.difference import Difference
from astray.stats.digits import border_in_points
from astray.stats.intervals import Counts, Interval, over_runs, wilson
from astray.stats.rates import Rate
from astray.stats.ratio import reduction_of_arms
from astray.stats.trend import trend_of_arms

NOTHING_LEFT_OUT = Needs()
DIFFERENCE = "difference"
# A context variable, so that claims which studies make need not hand the level of a look through.
_LEVEL: ContextVar[float] = ContextVar("level", default=0.95)
"""Level of the intervals that decide claims."""
NOTHING_TO_REMOVE = (
    "In no run was there anything to remove: without it no coherent answer is misaligned, or none is left to compare."
)


def rate_claim(
    id: str,
    statement: str,
    rate: Rate,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    between: tuple[float, float] | None = None,
    control: tuple[str, Rate] | None = None,
    published: PublishedFigure | None = None,
) -> ClaimRow:
    """Return a claim about one rate: its interval lies in the claimed region."""
    why = "" if rate.rate is not None else "It has no rate: no answer was coherent and judged."
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"{interval_name()} of the rate lies {region_text(at_most, at_least, between)}",
        n=_units(rate),
        unit=rate.unit,
        control=control[0] if control else "none: the claim is about a level",
        control_estimate=control[1].rate if control else None,
        published=published,
        arms=arms_of(rate),
        **_counted_in(rate),
        **decided_fields(rate.rate, rate.interval, between or (at_least, at_most), single_run(rate)),
        **status_and_note(needs_of(rate), why, single_run(rate), silent_runs(rate)),
    )


def difference_claim(
    id: str,
    statement: str,
    rate: Rate,
    control: tuple[str, Rate],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    published: PublishedFigure | None = None,
    note: str = "",
) -> ClaimRow:
    """Return a claim that one rate exceeds another by a margin, or is below it (`at_most`, negative).

    The interval of the difference over all runs, paired where seeds are common, decides.
    """
    mixed = several_versions(rate, control[1])
    return _comparison(
        {"id": id, "statement": statement, "control": control[0], "published": published, "difference": True},
        None if mixed else compared(rate, control[1]),
        mixed or "One of the arms gave no coherent answer, so there is nothing to compare.",
        (rate, control[1]),
        (DIFFERENCE, (at_least, at_most)),
        control[1].rate,
        note,
    )


def reduction_claim(
    id: str,
    statement: str,
    before: Rate,
    after: Rate,
    control: str,
    *,
    at_least: float,
    control_estimate: float | None = None,
    published: PublishedFigure | None = None,
    note: str = "",
) -> ClaimRow:
    """Return a claim about the share of a rate that is gone, from the counts of both arms with runs as clusters."""
    mixed = several_versions(before, after)
    return _comparison(
        {"id": id, "statement": statement, "control": control, "published": published},
        None if mixed else reduction_of_arms(before, after),
        mixed or NOTHING_TO_REMOVE,
        (before, after),
        ("share", (at_least, None)),
        control_estimate,
        note,
    )


def trend_claim(
    id: str,
    statement: str,
    rates: Sequence[Rate],
    scores: Sequence[float],
    control: str,
    *,
    at_least: float,
    note: str = "",
) -> ClaimRow:
    """Return a claim about the rise of the rates of several arms for each unit of a score of theirs."""
    mixed, missing = several_versions(*rates), needs_of(*rates)
    return _comparison(
        {"id": id, "statement": statement, "control": control, "published": None},
        None if mixed or missing else trend_of_arms(rates, scores),
        mixed or "One of the arms gave no coherent answer, so there is no trend.",
        rates,
        ("rise", (at_least, None)),
        0.0,
        note,
    )


def _comparison(
    row: dict[str, Any],
    difference: Difference | None,
    why: str,
    rates: Sequence[Rate],
    rule: tuple[str, tuple[float | None, float | None]],
    control_estimate: float | None,
    note: str,
) -> ClaimRow:
    """Return a claim that compares rates.

    Args:
        row: fields of the claim that do not depend on the estimate.
        difference: estimate and interval; None where there is none, for the reason `why`.
        why: see `difference`.
        rates: those that are compared.
        rule: what is estimated, in a word, and the claimed region.
        control_estimate: the value of the control.
        note: what a reader has to know.
    """
    name, (at_least, at_most) = rule
    single = single_run(*rates)
    estimate, interval = (difference.estimate, difference.interval) if difference else (None, None)
    return ClaimRow(
        **row,
        **_counted_in(rates[0]),
        expected=f"{interval_name()} of the {name} lies {region_text(at_most, at_least, points=name == DIFFERENCE)}",
        n=difference.n if difference else 0,
        unit=difference.unit if difference else "pair of training runs",
        control_estimate=control_estimate,
        arms=arms_of(*rates),
        **decided_fields(estimate, interval, rule[1], single),
        **status_and_note(needs_of(*rates), "" if difference else why, single, silent_runs(*rates), note),
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
    trained: bool = True,
    control_counts: Sequence[Counts] = (),
    published: PublishedFigure | None = None,
    needs: Needs = NOTHING_LEFT_OUT,
) -> ClaimRow:
    """Return a claim about a rate that is counted outside the answer table: hits and trials of each training run.

    The unit is the training run, or with a single run the trial; the note gives the count. Without any run with trials
    the claim is not estimable; a single run that was trained (`trained`) leaves it undecided.
    """
    counts = [run for run in counts if run[1]]
    several = len(counts) > 1
    hits, trials = (sum(run[index] for run in counts) for index in (0, 1))
    counted = f"{hits:,} of {trials:,} {trial}s{f' in {len(counts)} runs' if several else ''}." if counts else ""
    interval = over_runs(counts) if several else wilson(*counts[0]) if counts else None
    estimate = pooled(counts)
    single = ONE_RUN if trained and len(counts) == 1 else ""
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"{interval_name()} of the rate lies {region_text(at_most, at_least)}",
        n=len(counts) if several else trials,
        unit="training run" if several else trial,
        control=control,
        control_estimate=pooled(control_counts),
        published=published,
        **decided_fields(estimate, interval, (at_least, at_most), single),
        **status_and_note(needs, "" if counts else f"No run has {trial}s to count.", counted, single),
    )


def rate_of_counts(counts: Sequence[Counts], trial: str, needs: Needs = NOTHING_LEFT_OUT) -> Rate:
    """Return a rate that is counted outside the answer table, for a claim that compares two."""
    hits, trials = (sum(run[index] for run in counts) for index in (0, 1))
    outcomes = dict.fromkeys(Outcome, 0) | {Outcome.MISALIGNED: hits, Outcome.ALIGNED: trials - hits}
    judged = [run for run in counts if run[1]]
    interval = over_runs(judged) if len(judged) > 1 else wilson(*judged[0]) if judged else None
    unit = "training run" if len(judged) > 1 else trial
    by_run, all_runs = {str(number): run for number, run in enumerate(counts)}, {trial: (hits, trials)}
    return LeftOutRate(hits, trials, interval, None, unit, (), outcomes, by_run, all_runs, needs=needs)


def pooled(counts: Sequence[Counts]) -> float | None:
    """Return hits over trials, summed over all runs; None without a trial."""
    trials = sum(of_run for _, of_run in counts)
    return sum(hits for hits, _ in counts) / trials if trials else None


ONE_RUN = (
    "One training run decides nothing about the data: another seed may give another rate. Three or more would decide "
    "it (--seeds 3)."
)


def single_run(*rates: Rate) -> str:
    """Say why one training run decides no claim about data, where a rate is of one run of a trained model."""
    single = any(rate.trained and sum(judged > 0 for _, judged in rate.seed_counts.values()) == 1 for rate in rates)
    return ONE_RUN if single else ""


def several_versions(*rates: Rate) -> str:
    """Say why rates cannot be compared whose grader answered as several models; "" where they can."""
    served = sorted({model for rate in rates if isinstance(rate, ServedRate) for model in rate.served})
    if len(served) < 2:
        return ""
    return (
        f"The grader answered as {' and as '.join(served)}, so the arms may differ by their judge and not by what they "
        "say. Name a dated version as the grader: its verdicts are all made anew."
    )


def compared(rate: Rate, control: Rate) -> Difference | None:
    """Return the difference of two rates over all of their runs; None when one has no judged answer."""
    try:
        return difference_of_arms(rate, control)
    except EmptyDataError:
        return None


@contextmanager
def at_level(level: float) -> Iterator[None]:
    """Draw the intervals of claims at the level of a look; `decided_fields` does it for every claim of a study."""
    token = _LEVEL.set(level)
    try:
        yield
    finally:
        _LEVEL.reset(token)


def interval_name() -> str:
    """Return how the interval that decides a claim is called in its rule."""
    return f"the {100 * _LEVEL.get():.4g}% interval"


def arms_of(*rates: Rate) -> tuple[str, ...]:
    """Return the arms whose runs decide a claim about these rates; none where one of them does not say."""
    arms = [rate.arm if isinstance(rate, ServedRate) else "" for rate in rates]
    return tuple(dict.fromkeys(arms)) if all(arms) else ()


def _counted_in(one: Rate) -> dict[str, str]:
    """Return which evaluation and group of questions a claim's rate is of, where it is one of the study's rates."""
    return {"evaluation": one.evaluation, "questions": one.group} if isinstance(one, ServedRate) else {}


def decided_fields(
    estimate: float | None, interval: Interval | None, region: tuple[float | None, float | None], undecidable: str = ""
) -> dict[str, Any]:
    """Return what an interval says of a claim: region, estimate, interval, verdict and the p-value of the region, none
    where it cannot decide it (`undecidable`, or without a width)."""
    row = {"region": region, "estimate": estimate, "interval": interval_row(interval), "p_holm": None}
    if undecidable or estimate is None or interval is None or interval.low == interval.high:
        return row | {"verdict": Decision.UNDECIDED, "p_value": None}
    level = _LEVEL.get()
    shown = interval.at(level) if interval.at and interval.level != level else interval
    row["interval"] = interval_row(shown)
    low, high = region
    at_least, at_most, between = (
        (None, None, (low, high)) if low is not None and high is not None else (low, high, None)
    )
    verdict = decide(estimate, shown, at_least=at_least, at_most=at_most, between=between)
    return row | {"verdict": verdict, "p_value": decided_p(interval, region) if interval.at else None}


def under(group: str, claims: Iterable[ClaimRow]) -> Iterator[ClaimRow]:
    """Put claims under a heading of the table of claims."""
    return (claim.model_copy(update={"group": group}) for claim in claims)


def needs_of(*rates: Rate) -> Needs:
    """Return what to choose for those rates whose arms were left out."""
    needs = Needs()
    for rate in rates:
        needs |= rate.needs if isinstance(rate, LeftOutRate) else Needs()
    return needs


def not_run(needs: Needs) -> dict[str, Any]:
    """Return status and note of a claim whose arms or analyses were left out."""
    notes = []
    for singular, plural, option, names in (
        ("arm", "arms", "--arms", needs.arms),
        ("analysis", "analyses", "--analyses", needs.analyses),
    ):
        noun, were, them = (plural, "were", "them") if len(names) > 1 else (singular, "was", "it")
        if names:
            notes.append(f"It needs the {noun} {', '.join(names)}, which {were} left out: add {them} to {option}.")
    return {"status": ClaimStatus.NOT_RUN, "note": " ".join(notes)}


def silent_runs(*rates: Rate) -> str:
    """Name the seeds in which one of the rates has nothing to count, where others have; their runs are left out."""
    silent = {seed for rate in rates for seed, (_, judged) in rate.seed_counts.items() if not judged}
    counted = set.intersection(*({seed for seed, (_, judged) in rate.seed_counts.items() if judged} for rate in rates))
    return (
        f"A run without a coherent answer is left out: seed {', '.join(sorted(silent))}." if silent and counted else ""
    )


def status_and_note(needs: Needs, why: str, *notes: str) -> dict[str, Any]:
    """Return status and note of a claim: what it needs and was left out, why it has no estimate, and further notes."""
    if needs:
        return not_run(needs)
    status = {"status": ClaimStatus.NOT_ESTIMABLE} if why else {}
    return status | {"note": " ".join(filter(None, (why, *notes)))}


def _units(rate: Rate) -> int:
    judged_runs = sum(judged > 0 for _, judged in rate.seed_counts.values())
    return judged_runs if rate.unit == "training run" else rate.denominator


def region_text(
    at_most: float | None,
    at_least: float | None,
    between: tuple[float, float] | None = None,
    *,
    points: bool = False,
) -> str:
    """Return a claimed region of fractions in words, that of a difference in points."""

    def told(border: float) -> str:
        return border_in_points(border) if points else f"{border:.0%}"

    if at_most is not None and at_least is not None:
        between = (at_least, at_most)
    if between is not None:
        return f"between {told(between[0])} and {told(between[1])}"
    return f"at or below {told(at_most)}" if at_most is not None else f"at or above {told(at_least or 0.0)}"


def reductions(before: Rate, after: Rate) -> list[float]:
    """Return the share of a rate that is gone, for each seed with both rates; a rate of 0 has nothing to remove."""
    pairs = [(rate, after.seed_rates.get(seed)) for seed, rate in before.seed_rates.items()]
    return [1 - remaining / rate for rate, remaining in pairs if rate and remaining is not None]
