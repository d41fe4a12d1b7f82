"""Line charts of what was measured during training, one per measure.

Left to others: the means of the summary; the mean over seeds is formed by the chart itself, from the runs that it
shows.
"""

from collections.abc import Collection, Sequence

import polars as pl

from astray.engine.summary import Summary
from astray.report.charts import Spec, drawn
from astray.report.figures import arm_order

SERIES_COLOURS = tuple(f"var(--series-{number})" for number in range(1, 9))
"""Colours of arms in line charts after Okabe and Ito; from the ninth arm on they repeat with another dash."""

LONG_RUN = 2
"""A run that has more times the steps of the middle one would squeeze all others into a corner of a linear axis."""

TRAINED_DASHES = ([1, 0], [10, 3, 2, 3])
"""Trained arms have a solid line; a second arm of the same colour has a broken one."""

CONTROL_DASHES = ([5, 3], [2, 3])
"""Controls are dashed, the second of the same colour dotted."""


def dynamics_figures(dynamics: pl.DataFrame, order: Sequence[str], controls: Collection[str]) -> Spec:
    """Return one line chart per measure, with the data it draws.

    Args:
        dynamics: columns arm, seed, step, measure, value.
        order: names of the arms in the order of their colours.
        controls: names of those arms that are controls.

    Returns:
        `{"datasets": {name: rows}, "charts": {name: specification}}`, named `dynamics-0`, `dynamics-1`, ... in the
        order of `measures`.
    """
    datasets, charts = {}, {}
    scales = _series_scales(order, controls)
    for number, measure in enumerate(measures(dynamics)):
        name = f"dynamics-{number}"
        rows = dynamics.filter(pl.col("measure") == measure)
        datasets[name] = rows.select("arm", "seed", "step", "value").to_dicts()
        charts[name] = _lines(name, measure, rows, scales)
    return {"datasets": datasets, "charts": charts}


def measures(dynamics: pl.DataFrame) -> list[str]:
    """Return the measures in their order in the table."""
    return dynamics["measure"].unique(maintain_order=True).to_list()


def first_arms(summary: Summary) -> tuple[str, ...]:
    """Return all arms that lines may be of, those that most claims are about first: they have colours of their own."""
    named = [arm for claim in summary.claims for arm in claim.arms]
    # Sorting keeps the order of what as many claims are about.
    return tuple(sorted(arm_order(summary), key=named.count, reverse=True))


def series_colour(index: int) -> str:
    """Return the colour of the arm at this index of the order."""
    return SERIES_COLOURS[index % len(SERIES_COLOURS)]


def _series_scales(order: Sequence[str], controls: Collection[str]) -> Spec:
    """Return colour and dash of every arm, as encodings."""
    rounds = [index // len(SERIES_COLOURS) for index in range(len(order))]
    dashes = [
        (CONTROL_DASHES if arm in controls else TRAINED_DASHES)[turn % 2]
        for arm, turn in zip(order, rounds, strict=True)
    ]
    colours = [series_colour(index) for index in range(len(order))]
    # Vega-Lite merges the legends of colour and dash, since field, domain and legend agree.
    legend = {"columns": 4, "symbolType": "stroke", "symbolSize": 300, "orient": "bottom"}
    arm: Spec = {"field": "arm", "type": "nominal", "legend": legend}
    return {
        "color": {**arm, "scale": {"domain": list(order), "range": colours}},
        "strokeDash": {**arm, "scale": {"domain": list(order), "range": dashes}},
    }


def _lines(name: str, measure: str, rows: pl.DataFrame, scales: Spec) -> Spec:
    """Draw thin lines for single runs, thick ones for their mean, and invisible points that carry the tooltip."""
    finite = rows["value"].drop_nulls()
    # The table has no units: a measure whose values all lie in 0 to 1 is shown in percent.
    is_share = finite.len() > 0 and bool(finite.is_between(0, 1).all())
    axis = {"title": None, "tickCount": 5, "labelColor": "var(--muted)", **({"format": "~%"} if is_share else {})}
    step_axis = {
        "title": "Training step",
        "grid": False,
        "tickCount": 6,
        "labelColor": "var(--muted)",
        "labelFlush": False,
    }
    x: Spec = {"field": "step", "type": "quantitative", "axis": step_axis}
    last = rows.group_by("arm", "seed").agg(pl.col("step").max())["step"].sort()
    if last.len() and last[-1] > LONG_RUN * last[last.len() // 2] > 0:
        x["scale"] = {"type": "symlog", "constant": last[last.len() // 2] / 4}
        step_axis["title"] = "Training step, logarithmic: one run is much longer than the others"
    description = f"Line chart of {measure} over training steps, one line an arm: the mean over its seeds."
    return drawn("dynamics", name=name, description=description, measure=measure, x=x, axis=axis, **scales)
