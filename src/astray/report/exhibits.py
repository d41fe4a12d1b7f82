"""Vega-Lite specifications of a study's own figures, and the text of the numbers in its tables and cards.

Left to others: what is shown (engine/exhibits.py), how a chart looks (templates/charts.yaml), drawing
(templates/charts.js).
"""

from collections.abc import Sequence

from markupsafe import Markup, escape

from astray.engine.exhibits import Bar, Cell, Column, Curve, Exhibit, Forest, HeatMap, Point
from astray.report.charts import Spec, drawn
from astray.report.dynamics import SERIES_COLOURS
from astray.report.wording import MISSING, percent


def exhibit_figures(exhibits: Sequence[Exhibit]) -> Spec:
    """Return specifications and data of all figures that are drawn.

    Returns:
        `{"datasets": {name: rows}, "charts": {name: specification}}`, by the names that `chart_names` gives.
    """
    datasets: Spec = {}
    charts: Spec = {}
    for exhibit in exhibits:
        if isinstance(exhibit, Curve):
            (name,) = chart_names(exhibit)
            datasets[name], charts[name] = [_point(point, exhibit) for point in exhibit.points], _curve(name, exhibit)
        elif isinstance(exhibit, Forest):
            (name,) = chart_names(exhibit)
            datasets[name], charts[name] = [_bar(bar, exhibit) for bar in exhibit.bars], _forest(name, exhibit)
        elif isinstance(exhibit, HeatMap):
            for name, panel in zip(chart_names(exhibit), panels(exhibit), strict=True):
                datasets[name] = [_cell(cell) for cell in exhibit.cells if cell.panel == panel]
                charts[name] = _heat(name, exhibit, panel)
    return {"datasets": datasets, "charts": charts}


def chart_names(exhibit: Exhibit) -> tuple[str, ...]:
    """Return the names of the charts of a figure: one, one per panel, or none for a table."""
    if isinstance(exhibit, HeatMap):
        return tuple(f"exhibit-{exhibit.id}-{number}" for number in range(len(panels(exhibit))))
    return (f"exhibit-{exhibit.id}",) if isinstance(exhibit, Curve | Forest) else ()


def panels(exhibit: HeatMap) -> list[str]:
    """Return the names of the panels of a heat map, in their order."""
    return list(dict.fromkeys(cell.panel for cell in exhibit.cells))


def marked(text: str) -> Markup:
    """Return a text as HTML with what stands between `[[` and `]]` marked; everything else is escaped."""
    # Escaped first: the brackets survive escaping, and only our own tags are added afterwards.
    return Markup(str(escape(text)).replace("[[", "<mark>").replace("]]", "</mark>"))


def table_cell(value: str | float | None, column: Column) -> str:
    """Return a value of a table in the form of its column."""
    if value is None or isinstance(value, str):
        return MISSING if value is None else value
    forms = {"percent": percent(value), "count": f"{value:,.0f}", "number": number_text(value), "text": str(value)}
    return forms[column.form]


def number_text(value: float | None) -> str:
    """Return a number with three significant digits; a dash where there is none."""
    return MISSING if value is None else f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def range_text(low: float | None, high: float | None, *, is_share: bool) -> str:
    """Return an interval in words; an empty text where there is none."""
    if low is None or high is None:
        return ""
    form = percent if is_share else number_text
    return f"{form(low)} to {form(high)}"


def _point(point: Point, exhibit: Curve) -> Spec:
    shown = percent(point.y) if exhibit.y_percent else number_text(point.y)
    return {
        **point.model_dump(),
        "shown": shown,
        "interval": range_text(point.low, point.high, is_share=exhibit.y_percent),
    }


def _bar(bar: Bar, exhibit: Forest) -> Spec:
    shown = percent(bar.value) if exhibit.percent else number_text(bar.value)
    return {**bar.model_dump(), "shown": shown, "interval": range_text(bar.low, bar.high, is_share=exhibit.percent)}


def _cell(cell: Cell) -> Spec:
    return {**cell.model_dump(), "shown": percent(cell.value)}


def _axis(title: str, *, is_share: bool, **more: object) -> Spec:
    return {
        "title": title,
        "labelColor": "var(--muted)",
        "tickCount": 5,
        **({"format": "~%"} if is_share else {}),
        **more,
    }


def _colours(names: Sequence[str], field: str) -> Spec:
    shown = [SERIES_COLOURS[index % len(SERIES_COLOURS)] for index in range(len(names))]
    legend = {"columns": 3, "symbolType": "circle", "orient": "bottom", "labelLimit": 320} if len(names) > 1 else None
    return {
        "field": field,
        "type": "nominal",
        "sort": list(names),
        "scale": {"domain": list(names), "range": shown},
        "legend": legend,
    }


def _curve(name: str, exhibit: Curve) -> Spec:
    """Draw lines with points, and the interval of each point as a rule."""
    # A symmetric logarithm, since the axis may hold 0, which a logarithm cannot show.
    smallest = min((point.x for point in exhibit.points if point.x > 0), default=1.0)
    scale: Spec = {"type": "symlog", "constant": smallest} if exhibit.logarithmic else {}
    ticks = {"values": sorted({point.x for point in exhibit.points})} if exhibit.logarithmic else {}
    axis = _axis(exhibit.x_title, is_share=exhibit.x_percent, grid=False, labelOverlap=True, **ticks)
    return drawn(
        "curve",
        name=name,
        description=f"{exhibit.title}: {exhibit.y_title} over {exhibit.x_title}.",
        x={"field": "x", "type": "quantitative", "scale": {**scale, "zero": False}, "axis": axis},
        y_axis=_axis(exhibit.y_title, is_share=exhibit.y_percent, titleLimit=230),
        colour=_colours(list(dict.fromkeys(point.series for point in exhibit.points)), "series"),
        x_title=exhibit.x_title,
        x_format="~%" if exhibit.x_percent else "~g",
        y_title=exhibit.y_title,
    )


def _forest(name: str, exhibit: Forest) -> Spec:
    """Draw a point with its interval for each line."""
    return drawn(
        "forest",
        name=name,
        description=f"{exhibit.title}: {exhibit.x_title} with intervals.",
        labels=[bar.label for bar in exhibit.bars],
        axis=_axis(exhibit.x_title, is_share=exhibit.percent),
        colour=_colours(list(dict.fromkeys(bar.group for bar in exhibit.bars)), "group"),
        title=exhibit.x_title,
    )


def _heat(name: str, exhibit: HeatMap, panel: str) -> Spec:
    """Draw a field for each pair of factor values, with its rate written in it."""
    columns, rows = (list(dict.fromkeys(getattr(cell, side) for cell in exhibit.cells)) for side in ("x", "y"))
    shown = f"{exhibit.title}{', ' + panel if panel else ''}"
    return drawn(
        "heat",
        name=name,
        description=f"{shown}: rate for each {exhibit.y_title} and {exhibit.x_title}.",
        columns=columns,
        rows=rows,
        x_title=exhibit.x_title,
        y_title=exhibit.y_title,
        shift=-6 if any(cell.counts for cell in exhibit.cells) else 0,
    )
