"""Vega-Lite specifications of the figures on rates, with the data they share.

Every number comes from the summary as it is. Left to others: how a chart looks (templates/charts.yaml), lines over
training steps (dynamics.py), drawing (templates/charts.js).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from astray.engine.summary import ClaimRow, RateRow, Summary
from astray.outcomes import Outcome
from astray.report.charts import Spec, drawn, part
from astray.report.wording import interval_text, level, percent

OUTCOME_COLOURS = {outcome.value: f"var(--{outcome.value.replace(' ', '-')})" for outcome in Outcome}

ALL_FORMATS = "all"
"""Format of the rows that count every format together."""


@dataclass(frozen=True)
class RateSelection:
    """One group of questions of one evaluation, an option of the selector above the rates."""

    key: str
    evaluation: str
    group: str
    claims: int


def selections(summary: Summary) -> tuple[RateSelection, ...]:
    """Return every evaluation with its groups of rates, those that most claims are about first."""
    pairs = list(dict.fromkeys((row.evaluation, row.group) for row in summary.rates))
    claims = [of for claim in summary.claims if (of := rates_of(claim, pairs))]
    claims = claims or [pair for pair in pairs for _ in range(_controls_in(summary, pair))]
    # Sorting keeps the order of what has as many claims.
    order = sorted(pairs, key=claims.count, reverse=True)
    return tuple(RateSelection(str(number), *pair, claims.count(pair)) for number, pair in enumerate(order))


def rates_of(claim: ClaimRow, pairs: Sequence[tuple[str, str]]) -> tuple[str, str] | None:
    """Return evaluation and group of a claim's rates, the first group for all questions; None where it has no rate."""
    own = [pair for pair in pairs if pair[0] == claim.evaluation]
    return next((pair for pair in own if pair[1] == claim.questions), own[0] if own else None)


def _controls_in(summary: Summary, pair: tuple[str, str]) -> int:
    """Return how many claims have the rate of their control here: in older summaries a claim names no evaluation."""
    rates = {row.rate for row in headline_rows(summary) if (row.evaluation, row.group) == pair}
    return sum(claim.control_estimate is not None and claim.control_estimate in rates for claim in summary.claims)


def arm_order(summary: Summary) -> list[str]:
    """Return the names of all arms, trained ones first, controls last, otherwise as the study lists them."""
    # Rates may name an arm that the study no longer lists; it comes last and is not lost.
    listed = [arm.name for arm in summary.arms if not arm.control] + [arm.name for arm in summary.arms if arm.control]
    return list(dict.fromkeys([*listed, *(row.arm for row in summary.rates)]))


def formats(summary: Summary) -> list[str]:
    """Return the answer formats that have rates of their own, in their order in the summary."""
    return list(dict.fromkeys(row.format for row in summary.rates if row.format != ALL_FORMATS))


def headline_rows(summary: Summary) -> list[RateRow]:
    """Return one rate per arm, evaluation and group: over all formats where that was counted, else of the first."""
    chosen: dict[tuple[str, str, str], RateRow] = {}
    for row in summary.rates:
        key = (row.arm, row.evaluation, row.group)
        if key not in chosen or row.format == ALL_FORMATS:
            chosen[key] = row
    return list(chosen.values())


def rate_figures(summary: Summary) -> Spec:
    """Return specifications and data of the three figures on rates.

    Returns:
        `{"datasets": {name: rows}, "charts": {name: specification}}`; rows have the `key` of their selection.
    """
    keys = {(choice.evaluation, choice.group): choice.key for choice in selections(summary)}
    controls = {arm.name for arm in summary.arms if arm.control}
    order = arm_order(summary)

    def datum(row: RateRow) -> Spec:
        return {
            "key": keys[row.evaluation, row.group],
            "arm": row.arm,
            "kind": "control" if row.arm in controls else "trained",
            "format": row.format,
            "rate": row.rate,
            "low": row.interval.low if row.interval else None,
            "high": row.interval.high if row.interval else None,
            "coherence": row.coherence,
            "interval": interval_text(row.interval),
            "label": "no coherent answer"
            if row.rate is None
            else f"{percent(row.rate)}  ({interval_text(row.interval)})",
            "counts": f"{row.numerator} of {row.denominator}",
        }

    headline = headline_rows(summary)
    several = formats(summary)
    datasets = {
        "headline": [datum(row) for row in headline],
        "seeds": [
            {**datum(row), "seed": seed, "rate": rate} for row in headline for seed, rate in row.seed_rates.items()
        ],
        "formats": _several_formats([datum(row) for row in summary.rates if row.format != ALL_FORMATS]),
        "outcomes": [
            {**datum(row), "outcome": outcome.value, "place": index, "answers": row.outcomes.get(outcome, 0)}
            for row in headline
            for index, outcome in enumerate(Outcome)
        ],
    }
    charts = {
        "rates": _forest(order, next((level(row.interval) for row in headline if row.interval), "")),
        "outcomes": drawn(
            "outcomes", order=order, outcomes=list(OUTCOME_COLOURS), colours=list(OUTCOME_COLOURS.values())
        ),
    }
    if len(several) > 1:
        charts["formats"] = _format_panels(order, several)
    return {"datasets": datasets, "charts": charts}


def _several_formats(rows: list[Spec]) -> list[Spec]:
    """Return the rows of those selections that were asked in more than one format; others have nothing to compare."""
    asked: dict[str, set[str]] = {}
    for row in rows:
        asked.setdefault(row["key"], set()).add(row["format"])
    return [row for row in rows if len(asked[row["key"]]) > 1]


def _forest(order: Sequence[str], interval_level: str) -> Spec:
    """Draw rate with interval and seeds, the same as text, and coherence: three panels that share their rows."""
    layers = part("rate layers", arms=part("arms", order=order), title="Misaligned, of coherent answers")
    heading = f"Rate ({interval_level} interval)" if interval_level else "Rate"
    return drawn("rates", layers=[*layers, part("seeds", order=order)], heading=heading, order=order)


def _format_panels(order: Sequence[str], several: Sequence[str]) -> Spec:
    """Draw the rates once for each answer format, on one scale."""
    arms = [part("arms" if number == 0 else "arms without labels", order=order) for number in range(len(several))]
    panels = [
        part("format", name=name, arms=axis, title="Misaligned") for name, axis in zip(several, arms, strict=True)
    ]
    return drawn("formats", panels=panels, shares=[1 / len(several)] * len(several), names=several)
