"""Shared style and frame of the Vega-Lite specifications of a report.

Colours are names of the page's CSS colours (`var(--trained)`), so that one specification serves the light, the dark and
the printed page. `usermeta` tells the page how to lay a chart out and which rows of its data to choose.

Left to others: the charts themselves (figures.py, dynamics.py) and drawing them (templates/charts.js).
"""

from typing import Any

Spec = dict[str, Any]

FONT = "Inter, 'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"

CONFIG: Spec = {
    "background": "var(--panel)",
    "font": FONT,
    "padding": {"left": 0, "right": 8, "top": 4, "bottom": 8},
    "view": {"stroke": None},
    "concat": {"spacing": 20},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 12,
        "labelPadding": 10,
        "domain": False,
        "ticks": False,
    },
    "legend": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--muted)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "orient": "top",
        "direction": "horizontal",
        "symbolSize": 90,
        "offset": 14,
        "title": None,
        "symbolOpacity": 1,
    },
}
"""Vega-Lite configuration that all charts share."""


def chart(description: str, usermeta: Spec, body: Spec) -> Spec:
    """Return a specification in the frame that all charts share.

    Args:
        description: what the chart shows, for those who cannot see it.
        usermeta: `shares` and `narrow_shares` of the width for each panel, `margin` in pixels on the right; `selected`
            when the selector of groups chooses its rows, `arms` when the legend of arms does.
        body: data, marks and encodings.
    """
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "description": description,
        "config": CONFIG,
        "usermeta": usermeta,
        **body,
    }
