"""Vega-Lite specifications of the figures on rates, with the data they share.

Every number comes from the summary as it is. Left to others: what all charts have in common (charts.py), lines over
training steps (dynamics.py), drawing (templates/charts.js).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from astray.engine.summary import ClaimRow, RateRow, Summary
from astray.outcomes import Outcome
from astray.report.charts import Spec, chart
from astray.report.wording import interval_text, level, percent

ROW_HEIGHT = 34
"""Pixels that one arm takes in the forest plot: its interval, and its seeds below."""

OUTCOME_COLOURS = {outcome: f"var(--{outcome.value.replace(' ', '-')})" for outcome in Outcome}

ALL_FORMATS = "all"
"""Format of the rows that count every format together."""


@dataclass(frozen=True)
class Selection:
    """One group of questions of one evaluation, an option of the selector above the rates."""

    key: str
    evaluation: str
    group: str
    claims: int


def selections(summary: Summary) -> tuple[Selection, ...]:
    """Return every evaluation with its groups of rates, those that most claims are about first."""
    pairs = list(dict.fromkeys((row.evaluation, row.group) for row in summary.rates))
    claims = [of for claim in summary.claims if (of := rates_of(claim, pairs))]
    claims = claims or [pair for pair in pairs for _ in range(_controls_in(summary, pair))]
    # Sorting keeps the order of what has as many claims.
    order = sorted(pairs, key=claims.count, reverse=True)
    return tuple(Selection(str(number), *pair, claims.count(pair)) for number, pair in enumerate(order))


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
        "outcomes": _outcome_bars(order),
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


def _arm_axis(order: Sequence[str], *, labels: bool) -> Spec:
    axis: Spec = {"title": None, "grid": True, "gridDash": [1, 3], "labels": labels, "labelLimit": 230}
    return {"field": "arm", "type": "nominal", "sort": list(order), "axis": axis, "scale": {"paddingOuter": 0.3}}


def _share_axis(title: str) -> Spec:
    return {"title": title, "format": "~%", "tickCount": 5, "labelColor": "var(--muted)", "labelFlush": True}


KIND_SCALES: Spec = {
    "stroke": {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": ["trained", "control"], "range": ["var(--trained)", "var(--control)"]},
    },
    "fill": {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": ["trained", "control"], "range": ["var(--trained)", "var(--panel)"]},
    },
    "shape": {
        "field": "kind",
        "type": "nominal",
        "scale": {"domain": ["trained", "control"], "range": ["circle", "square"]},
    },
}
"""Controls differ from trained arms in colour, shape and filling."""

RATE_TOOLTIP = [
    {"field": "arm", "title": "arm"},
    {"field": "format", "title": "format"},
    {"field": "rate", "title": "misaligned", "format": ".1%"},
    {"field": "interval", "title": "interval"},
    {"field": "counts", "title": "answers"},
    {"field": "coherence", "title": "coherent", "format": ".1%"},
]


def _rate_layers(arms: Spec, title: str) -> list[Spec]:
    """Return the layers with interval and point of one rate per arm."""
    x = {"field": "rate", "type": "quantitative", "scale": {"zero": True, "nice": True}, "axis": _share_axis(title)}
    return [
        {
            "mark": {"type": "rule", "strokeWidth": 2.5, "strokeCap": "round"},
            "encoding": {
                "y": arms,
                "x": {**x, "field": "low"},
                "x2": {"field": "high"},
                "stroke": KIND_SCALES["stroke"],
            },
        },
        {
            "mark": {"type": "point", "size": 85, "strokeWidth": 2, "opacity": 1},
            "encoding": {"y": arms, "x": x, "tooltip": RATE_TOOLTIP, **KIND_SCALES},
        },
    ]


def _seed_points(arms: Spec) -> Spec:
    """Return the layer with the rate of each training seed, below the interval of its arm."""
    return {
        "data": {"name": "seeds"},
        "mark": {"type": "point", "size": 7, "strokeWidth": 1.6, "opacity": 0.6, "yOffset": 9},
        "encoding": {
            "y": arms,
            "x": {"field": "rate", "type": "quantitative"},
            "stroke": KIND_SCALES["stroke"],
            "tooltip": [{"field": "arm"}, {"field": "seed"}, {"field": "rate", "title": "misaligned", "format": ".1%"}],
        },
    }


def _coherence_bars(arms: Spec) -> Spec:
    """Return the panel with the share of coherent answers of each arm."""
    share = {
        "field": "coherence",
        "type": "quantitative",
        "scale": {"domain": [0, 1]},
        "axis": {**_share_axis("Coherent, of all"), "values": [0, 1]},
    }
    return {
        "layer": [
            # A full bar behind each one shows what 100% would be.
            {
                "mark": {"type": "bar", "height": 7, "cornerRadius": 3, "color": "var(--line)"},
                "encoding": {"y": arms, "x": {"datum": 1}},
            },
            {
                "mark": {"type": "bar", "height": 7, "cornerRadius": 3, "color": "var(--coherence)"},
                "encoding": {"y": arms, "x": share, "tooltip": RATE_TOOLTIP},
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 10, "fontSize": 12, "color": "var(--ink)"},
                "encoding": {"y": arms, "x": {"datum": 1}, "text": {"field": "coherence", "format": ".0%"}},
            },
        ]
    }


def _forest(order: Sequence[str], interval_level: str) -> Spec:
    """Draw rate with interval and seeds, the same as text, and coherence: three panels that share their rows."""
    first, rest = _arm_axis(order, labels=True), _arm_axis(order, labels=False)
    heading = {
        "text": f"Rate ({interval_level} interval)",
        "orient": "bottom",
        "anchor": "start",
        "frame": "group",
        "offset": 34,
    }
    numbers = {
        "title": {**heading, "color": "var(--muted)", "fontSize": 12, "fontWeight": "normal"},
        "mark": {"type": "text", "align": "left", "fontSize": 12, "color": "var(--ink)"},
        "encoding": {"y": rest, "x": {"value": 0}, "text": {"field": "label"}},
    }
    panels: list[Spec] = [
        {"layer": [*_rate_layers(first, "Misaligned, of coherent answers"), _seed_points(first)]},
        numbers,
        _coherence_bars(rest),
    ]
    body = {
        "data": {"name": "headline"},
        "hconcat": [{"height": {"step": ROW_HEIGHT}, **panel} for panel in panels],
        "resolve": {"scale": {"y": "shared", "x": "independent"}},
    }
    description = (
        "Forest plot: rate of misaligned answers of each arm with its interval and each seed, beside the share of "
        "coherent answers."
    )
    return chart(
        description,
        {"shares": [0.6, 0.24, 0.16], "narrow_shares": [0.72, 0, 0.28], "margin": 44, "selected": True},
        body,
    )


def _format_panels(order: Sequence[str], several: Sequence[str]) -> Spec:
    """Draw the rates once for each answer format, on one scale."""
    panels = [
        {
            "transform": [{"filter": {"field": "format", "equal": name}}],
            "title": {
                "text": name,
                "color": "var(--ink)",
                "fontSize": 12,
                "anchor": "start",
                "frame": "group",
                "offset": 10,
            },
            "height": {"step": 26},
            "layer": _rate_layers(_arm_axis(order, labels=number == 0), "Misaligned"),
        }
        for number, name in enumerate(several)
    ]
    body = {"data": {"name": "formats"}, "hconcat": panels, "resolve": {"scale": {"y": "shared", "x": "shared"}}}
    shares = [1 / len(several)] * len(several)
    description = "Rate of misaligned answers of each arm, one panel for each answer format, on one scale."
    meta = {"shares": shares, "narrow_shares": shares, "selected": True, "panels": list(several)}
    return chart(description, meta, body)


def _outcome_bars(order: Sequence[str]) -> Spec:
    """Draw the outcomes of all answers: one bar per arm, divided by outcome."""
    domain = [outcome.value for outcome in Outcome]
    panel = {
        "height": {"step": 26},
        "mark": {"type": "bar", "height": 14, "stroke": "var(--panel)", "strokeWidth": 0.8},
        "encoding": {
            "y": _arm_axis(order, labels=True),
            "x": {
                "field": "answers",
                "type": "quantitative",
                "stack": "normalize",
                "axis": _share_axis("Share of all answers"),
            },
            "color": {
                "field": "outcome",
                "type": "nominal",
                "scale": {"domain": domain, "range": [OUTCOME_COLOURS[outcome] for outcome in Outcome]},
                "legend": {"columns": 8, "symbolType": "square"},
            },
            "order": {"field": "place", "type": "quantitative"},
            "tooltip": [{"field": "arm"}, {"field": "outcome"}, {"field": "answers"}],
        },
    }
    body = {"data": {"name": "outcomes"}, "hconcat": [panel]}
    return chart(
        "What became of every answer: the share of each outcome, one bar an arm.",
        {"shares": [1], "narrow_shares": [1], "selected": True},
        body,
    )
