"""Claims on measures that are no rates: means of one value a run, correlations.

A few runs whose values are skewed mostly lie on one side of their mean. So the limit against a one-sided claim, which
would refute it, takes an error five times as small: 99% of a 95% interval (docs/counting.md has what that is worth).

Left to others: claims on rates, and how an interval decides (`claims`).
"""

from collections.abc import Sequence

from astray.engine.claims import NOTHING_LEFT_OUT, decided_fields, interval_name, region_text, status_and_note
from astray.engine.findings import Needs
from astray.engine.summary import ClaimRow, PublishedFigure
from astray.stats.detection import Estimate
from astray.stats.intervals import Interval, mean_over_runs

_STRICTER = 5
_NO_VALUE = "No run has a value of this measure."


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
    without: str = _NO_VALUE,
    floor: float = 0.0,
) -> ClaimRow:
    """Return a claim about the mean of a measure that is no rate (a reduction, a correlation), one value a run.

    Without any value the claim is not estimable; where its arms were not even run (`needs`), it is not run.

    Args:
        id: unique within the study.
        statement: what is claimed.
        values: one for each run that has one.
        control: what the mean is compared with, in words.
        at_least: the mean is claimed to be this large or larger.
        unit: the unit that has a value.
        control_estimate: the value of the control.
        published: what the paper reports.
        note: what a reader has to know.
        needs: what it needs and was left out (`Findings.needs`).
        without: the reason why no run has a value.
        floor: standard error of the mean that what lies beneath the values leaves at least.
    """
    interval = mean_over_runs(values, floor=floor) if values else None
    if interval is not None:
        interval = _against_skew(interval)
    caveat = ""
    if len(values) == 1:
        caveat = f"With a single {unit} there is no interval, so nothing is decided."
    elif interval is not None and interval.low == interval.high:
        caveat = f"All {len(values)} runs have the same value, so the interval has no width, which is not certainty."
    estimate = sum(values) / len(values) if values else None
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"{interval_name()} of the mean lies {region_text(None, at_least)}",
        n=len(values),
        unit=unit,
        control=control,
        control_estimate=control_estimate,
        published=published,
        **decided_fields(estimate, interval, (at_least, None)),
        **status_and_note(needs, "" if values else without, caveat, note),
    )


def _against_skew(interval: Interval, *, level: float = 0.95) -> Interval:
    """Return the interval with its upper limit, which refutes, at an error that is five times as small."""
    assert interval.at is not None
    low, high = interval.at(level).low, interval.at(1 - (1 - level) / _STRICTER).high
    method = f"{interval.method}, the upper limit with a fifth of the error"
    return Interval(low, high, level, method, lambda other: _against_skew(interval, level=other))


def estimate_claim(
    id: str,
    statement: str,
    found: Estimate | None,
    control: str,
    *,
    at_least: float,
    published: PublishedFigure | None = None,
    needs: Needs = NOTHING_LEFT_OUT,
    without: str = "",
) -> ClaimRow:
    """Return a claim about a correlation or an area under a curve; without an interval it is not estimable."""
    interval = found.interval if found else None
    why = "" if interval else f"It is {found.note}." if found else without
    return ClaimRow(
        id=id,
        statement=statement,
        expected=f"{interval_name()} lies {region_text(None, at_least)}",
        n=found.n if found else 0,
        unit=found.unit if found else "data set",
        control=control,
        control_estimate=0.0,
        published=published,
        **decided_fields(found.value if found else None, interval, (at_least, None)),
        **status_and_note(needs, why),
    )
