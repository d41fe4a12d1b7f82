"""Vega-Lite specifications of a report, from `templates/charts.yaml`.

Left to others: what is drawn (figures.py, dynamics.py, exhibits.py) and drawing it (templates/charts.js).
"""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

Spec = dict[str, Any]


def drawn(chart: str, **values: object) -> Spec:
    """Return a whole chart, in the frame that all share, with values in the place of its `$names`."""
    return {**part("frame"), **part(chart, **values)}


def part(of: str, **values: object) -> Any:
    """Return a part of the specifications with values in the place of its `$names`."""
    return _filled(_parts()[of], values)


def _filled(content: Any, values: dict[str, object]) -> Any:
    if isinstance(content, dict):
        return {key: _filled(value, values) for key, value in content.items()}
    if isinstance(content, list):
        return [_filled(value, values) for value in content]
    return values[content[1:]] if isinstance(content, str) and content.startswith("$") else content


@cache
def _parts() -> dict[str, Any]:
    text = (files("astray.report") / "templates" / "charts.yaml").read_text(encoding="utf-8")
    parts: dict[str, Any] = yaml.safe_load(text)
    return parts
