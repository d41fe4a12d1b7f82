"""Claims on measures that are no rates: means of one value a run, correlations.

Values of runs are often skewed: most lie below their mean and a few far above it. Where one run in five rises and the
others do not, fewer than `REFUTING` runs often hold none that does, so they never refute the claim of a rise. With more,
the limit that refutes takes a fortieth of the error (docs/counting.md has what that is worth). Against runs far below
the others so many have Hall's limit, too (`stats.skewed`). With fewer no rule would do that leaves something to be
held; so what holds says it.

Left to others: claims on rates, and how an interval decides (`claims`).
"""

import math
from collections.abc import Sequence
from typing import Any

from astray.engine.claims import NOTHING_LEFT_OUT, decided_fields, interval_name, region_text, status_and_note
from astray.engine.findings import Needs
from astray.engine.summary import ClaimRow, PublishedFigure
from astray.stats.claims import Decision
from astray.stats.detection import Estimate
from astray.stats.intervals import Beneath, Interval, mean_over_runs
from astray.stats.skewed import skewed_limits

REFUTING = 14
"""Least runs that refute: of so many all miss what happens in one run of five with a probability of at most 5%."""
STRICTER = 40
"""Part of the error that the limit which refutes takes."""
HALL = 0.8
"""Part of the error at which Hall's limit is taken: with all of it, 14 runs held in 5.5% what lies at the border."""
NO_VALUE = "No run has a value of this measure."


def values_claim(
    id: str,
    statement: str,
    values: Sequence[float],
    control: str,
    *,
    at_least: float,
    unit: str = "training run",
    control_estimate: float | None = None,
    published: PublishedFigure | None = None,
    note: str = "",
    needs: Needs = NOTHING_LEFT_OUT,
    without: str = NO_VALUE,
    floor: float = 0.0,
    beneath: Beneath | None = None,
) -> ClaimRow:
    """Return a claim about the mean of a measure that is no rate (a reduction, a correlation), one value a run.

    Without any value the claim is not estimable; where its arms were not even run (`needs`), it is not run.

    Args:
        id, statement: as for any claim.
        values: one for each run that has one.
        control, control_estimate: what the mean is compared with, in words, and its value.
        at_least: the mean is claimed to be this large or larger.
        unit: the unit that has a value.
        published: what the paper reports.
        note: what a reader has to know.
        needs: what it needs and was left out (`Findings.needs`).
        without: the reason why no run has a value.
        floor: standard error of the mean that what lies beneath the values leaves at least.
        beneath: another source of chance, added to that of runs.
    """
    interval = mean_over_runs(values, floor=floor, beneath=beneath) if values else None
    caveat = _caveat(len(values), unit, interval, at_least)
    estimate = sum(values) / len(values) if values else None
    decided = _decided(estimate, interval, at_least, values)
    if not caveat and interval is not None and decided["verdict"] is Decision.UNDECIDED:
        if interval.high < at_least:
            caveat = "The interval lies below the border, but against skewed runs a refutation takes a wider one."
        elif interval.low >= at_least:
            caveat = (
                "The interval lies above the border, but these runs are skewed downwards, where t promises too much."
            )
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"{interval_name()} of the mean lies {region_text(None, at_least)}",
        n=len(values),
        unit=unit,
        control=control,
        control_estimate=control_estimate,
        published=published,
        **decided,
        **status_and_note(needs, "" if values else without, caveat, note),
    )


def _caveat(runs: int, unit: str, interval: Interval | None, at_least: float) -> str:
    """Return what the interval of so few runs cannot say; "" where there is nothing."""
    missed = f"{0.8**runs:.0%} of studies with {runs} runs contain none"
    if runs == 1:
        return f"With a single {unit} there is no interval, so nothing is decided."
    if interval is None:
        return ""
    if interval.low == interval.high:
        return f"All {runs} runs have the same value, so the interval has no width, which is not certainty."
    if runs < REFUTING and interval.high < at_least:
        return (
            f"The interval lies below the border, but one run can decide a mean: where one in five rises, {missed}. It "
            f"takes {REFUTING} to refute."
        )
    if runs < REFUTING and interval.low >= at_least:
        return f"With {runs} runs a rare low one can go unseen: if one run in five is low, {missed}."
    return ""


def _decided(
    estimate: float | None, interval: Interval | None, at_least: float, values: Sequence[float]
) -> dict[str, Any]:
    """Return what the interval says of the claim, shown as it is and decided with its limits against skew."""
    fields = decided_fields(estimate, interval, (at_least, None))
    if interval is None or interval.low == interval.high:
        return fields
    return decided_fields(estimate, _against_skew(interval, values), (at_least, None)) | {
        "interval": fields["interval"]
    }


def _against_skew(interval: Interval, values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Return the interval with its upper limit, which refutes, at a small part of the error, and its lower one nowhere
    above Hall's; with few runs the former is beyond all values and the latter as it was."""
    assert interval.at is not None
    low, high = interval.at(level).low, math.inf
    if len(values) >= REFUTING:
        low = min(low, skewed_limits(values, level=1 - HALL * (1 - level) / 2)[0])
        high = interval.at(1 - (1 - level) / STRICTER).high
    method = f"{interval.method}, both limits against skew"
    return Interval(low, high, level, method, lambda other: _against_skew(interval, values, level=other))


def estimate_claim(
    id: str,
    statement: str,
    estimate: Estimate | None,
    control: str,
    *,
    at_least: float,
    published: PublishedFigure | None = None,
    needs: Needs = NOTHING_LEFT_OUT,
    without: str = "",
) -> ClaimRow:
    """Return a claim about a correlation or an area under a curve; without an interval it is not estimable."""
    interval = estimate.interval if estimate else None
    why = "" if interval else f"It is {estimate.note}." if estimate else without
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"{interval_name()} lies {region_text(None, at_least)}",
        n=estimate.n if estimate else 0,
        unit=estimate.unit if estimate else "data set",
        control=control,
        control_estimate=0.0,
        published=published,
        **decided_fields(estimate.value if estimate else None, interval, (at_least, None)),
        **status_and_note(needs, why),
    )
