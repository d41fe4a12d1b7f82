"""Figures of a study as files: SVG, PNG or PDF, on light and on dark ground, for a paper, a README or slides.

Every figure is made from `summary.json` alone, and only figures whose values can have intervals are offered: the main
finding of the study, the rates of its arms, its claims, and its own forests and curves. Letters are large enough to be
read when a figure is printed at half its size; series differ in shape as well as in colour. Drawing is vl-convert's.

Left to others: what is shown (engine/summary.py) and the specifications (exhibits.py).
"""

import json
import re
import textwrap
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from astray.engine.exhibits import Bar, Curve, Forest
from astray.engine.summary import Summary
from astray.errors import ConfigurationError, EmptyDataError, UnknownNameError
from astray.report.charts import Spec
from astray.report.exhibits import exhibit_figures
from astray.report.figures import arm_order, headline_rows, selections

FORMATS = ("svg", "png", "pdf")
Ground = Literal["light", "dark"]
MAIN = {
    "emergent-misalignment": "rates",
    "persona-features": "steering",
    "reward-hacking": "rates",
    "agentic-misalignment": "factor-effects",
    "dishonesty": "severities",
}
"""Study -> the figure of its main finding. Other studies show their rates, or where they count none their claims or the first
figure of their own."""
WIDTH, LETTERS, LABELS, LETTER, LINE, PADDING = 900, 19, 430, 10, 22, 16
"""Pixels of a figure's width, of its letters and of its longest label: letters are 7 points on a column of 3.4 inches."""
NARROW = 540
"""Width of figures for web pages: on a telephone of 375 pixels their letters are 12 pixels high."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
_COLOUR = re.compile(r"--([\w-]+): light-dark\((#\w+), (#\w+)\)")


def figures_of(summary: Summary) -> Mapping[str, Forest | Curve]:
    """Return the figures of a study by name: `main`, `rates` and `claims` where they have values, and its own forests and
    curves."""
    figures: dict[str, Forest | Curve] = {}
    rates = _rates(summary) if summary.rates else None
    if rates and any(bar.value is not None for bar in rates.bars):
        figures["rates"] = rates
    if bars := [
        Bar(label=claim.id, group=claim.result, value=claim.estimate, low=claim.interval.low, high=claim.interval.high)
        for claim in summary.claims
        if claim.interval is not None and not claim.quantity
    ]:
        text = "Estimates of the pre-registered claims that are shares or differences of shares."
        figures["claims"] = Forest(id="claims", title="Claims", text=text, x_title="Estimate", bars=tuple(bars))
    figures |= {exhibit.id: exhibit for exhibit in summary.exhibits if isinstance(exhibit, Forest | Curve)}
    main = next((name for name in (MAIN.get(summary.study), "rates", "claims", *figures) if name in figures), None)
    return ({"main": figures[main]} if main else {}) | figures


def draw_figure(summary: Summary, name: str, format: str, ground: Ground = "light", width: int = WIDTH) -> bytes:
    """Draw a figure of a study, so many pixels wide with letters of the same size.

    Raises:
        UnknownNameError: the study has no such figure; lists those it has.
        ConfigurationError: there is no such format.
        EmptyDataError: the figure has no value to draw.
    """
    import vl_convert

    figures = figures_of(summary)
    if name not in figures:
        raise UnknownNameError("figure of this study", name, tuple(figures))
    if format not in FORMATS:
        raise ConfigurationError(f"{format!r} is no format of figures. Write --format svg, png or pdf.")
    spec = json.dumps(_specification(summary, figures[name], width))
    colours = {found[1]: found[2 if ground == "light" else 3] for found in _COLOUR.finditer(_css())}
    spec = re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], spec)
    if format == "svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    return vl_convert.vegalite_to_png(spec, scale=2) if format == "png" else vl_convert.vegalite_to_pdf(spec)


def write_figure(summary: Summary, name: str, format: str, folder: Path, width: int = WIDTH) -> tuple[Path, Path]:
    """Write a figure as `STUDY-NAME.svg` and, for dark pages, `STUDY-NAME-dark.svg`; raises as `draw_figure`."""
    light, dark = (folder / f"{summary.study}-{name}{end}.{format}" for end in ("", "-dark"))
    grounds: dict[Path, Ground] = {light: "light", dark: "dark"}
    drawn = {path: draw_figure(summary, name, format, ground, width) for path, ground in grounds.items()}
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in drawn.items():
        path.write_bytes(content)
    return light, dark


def _rates(summary: Summary) -> Forest:
    """Return the rates of all arms in the evaluation that most claims are about."""
    rows = headline_rows(summary)
    chosen = selections(summary)[0]
    shown = {row.arm: row for row in rows if (row.evaluation, row.group) == (chosen.evaluation, chosen.group)}
    kinds = {arm.name: "control" if arm.control else "trained" for arm in summary.arms}
    bars = []
    for arm in arm_order(summary):
        if (row := shown.get(arm)) is not None:
            limits = {"low": row.interval.low, "high": row.interval.high} if row.interval else {}
            bars.append(Bar(label=arm, group=kinds.get(arm, "trained"), value=row.rate, **limits))
    text = f"Misaligned share of coherent answers (evaluation {chosen.evaluation}, questions {chosen.group})."
    return Forest(
        id="rates", title=summary.title, text=text, x_title="Misaligned, of coherent answers", bars=tuple(bars)
    )


def _specification(summary: Summary, figure: Forest | Curve, width: int) -> Spec:
    """Return the specification of a figure as a file: with a title, large letters, and shapes beside colours."""
    drawn = exhibit_figures([figure])
    ((name, spec),) = drawn["charts"].items()
    rows = drawn["datasets"][name]
    value = "y" if isinstance(figure, Curve) else "value"
    if not any(row[value] is not None for row in rows):
        raise EmptyDataError(
            f"The figure {figure.id!r} has no value to draw: this run of {summary.study} measured nothing for it. Name "
            "another one; --list shows them."
        )
    axis, legend = spec["config"]["axis"], spec["config"]["legend"]
    letters = {"labelFontSize": LETTERS, "titleFontSize": LETTERS}
    config = spec["config"] | {
        "axis": axis | letters | {"labelLimit": LABELS, "titleLimit": width},
        "legend": legend | letters | {"symbolSize": 200, "labelLimit": width},
        "padding": PADDING,
    }
    for layer in spec["layer"]:
        _enlarge(layer, width)
    if width < WIDTH:
        _narrow(spec, figure, width)
    missing = sum(row[value] is not None and row["low"] is None for row in rows)
    bare = f" {missing} of {len(rows)} values rest on one run or on too little and have no interval." if missing else ""
    name = summary.subject.name
    subject = name if " subjects: " in name else f"Subject: {name}"
    runs = len(summary.seeds)
    seeds = f", {runs} training run{'s' * (runs > 1)} an arm" if runs else ""
    quick = " A quick run: too small to conclude from." if summary.quick else ""
    lines = textwrap.wrap(
        f"{figure.text} {subject}{seeds}; 95% intervals, narrower than the mark where none is seen.{bare}{quick}",
        width * 88 // WIDTH,
    )
    title = {
        "text": textwrap.wrap(figure.title, width // 14),
        "subtitle": lines,
        "anchor": "start",
        "frame": "bounds",
        "offset": 18,
    }
    title |= {"fontSize": 26, "subtitleFontSize": LETTERS, "color": "var(--ink)", "subtitleColor": "var(--muted)"}
    return spec | {"config": config, "title": title, "width": width, "data": {"values": rows}}


def _enlarge(layer: dict[str, Any], width: int) -> None:
    """Draw marks that are seen when halved, and give each series a shape of its own."""
    mark, encoding = layer["mark"], layer["encoding"]
    if mark["type"] == "rule":
        mark |= {"strokeWidth": 3.5, "opacity": 0.8}
    if mark["type"] == "point":
        mark["size"] = 120
        series = encoding["color"]["scale"]["domain"]
        # Beside the labels of the axis about five eighths are left.
        longest = max(map(len, series))
        if (legend := encoding["color"]["legend"]) is not None:
            legend |= {"columns": max(1, width * 5 // 8 // (LETTER * longest + 40)), "labelLimit": width}
        shapes = [SHAPES[number % len(SHAPES)] for number in range(len(series))]
        encoding["shape"] = encoding["color"] | {"scale": {"domain": series, "range": shapes}}
    for channel in ("x", "y"):
        encoding[channel].get("axis", {}).pop("labelLimit", None)
        encoding[channel].get("axis", {}).pop("titleLimit", None)


def _narrow(spec: Spec, figure: Forest | Curve, width: int) -> None:
    """Break titles into lines that fit, and set the labels of a forest above their marks: beside them they would be cut."""
    room = width - 2 * PADDING
    labels: dict[str, list[str]] = {}
    if isinstance(figure, Forest):
        labels = {bar.label: textwrap.wrap(bar.label, room // LETTER) for bar in figure.bars}
        spec["height"] = {"step": LINE * max(map(len, labels.values())) + 30}
    else:
        room -= 120  # numbers and title of the other axis
    for layer in spec["layer"]:
        x, y = layer["encoding"]["x"], layer["encoding"]["y"]
        if "axis" in x:
            x["axis"] |= {"tickCount": 3, "title": textwrap.wrap(figure.x_title, room // LETTER)}
        if (legend := layer["encoding"].get("color", {}).get("legend")) is not None:
            names = layer["encoding"]["color"]["scale"]["domain"]
            wrapped = {name: textwrap.wrap(name, (room - 40) // LETTER) for name in names}
            legend["labelExpr"] = f"({json.dumps(wrapped)})[datum.value]"
        if isinstance(figure, Curve):
            if "axis" in y:
                y["axis"]["title"] = textwrap.wrap(figure.y_title, 200 // LETTER)
            continue
        above = {"labelAlign": "left", "labelBaseline": "bottom", "labelPadding": 0, "labelLimit": room}
        # Of several lines the first one is placed.
        shift = (
            f"-12 - {LINE} * ({json.dumps({label: len(lines) - 1 for label, lines in labels.items()})})[datum.value]"
        )
        y["axis"] |= above | {"labelExpr": f"({json.dumps(labels)})[datum.value]", "labelOffset": {"expr": shift}}


def _css() -> str:
    return (files("astray.report") / "templates" / "report.css").read_text(encoding="utf-8")
