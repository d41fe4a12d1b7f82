"""Draw docs/pictures/emergent-misalignment.svg from the table of `make demo` in docs/emergent-misalignment.md.

    python scripts/claims_picture.py

One mark a claim, with its 95% interval, so that README and site show what the page says. Light and dark in one file.
The gallery draws its own figures with the same marks (gallery.py).
"""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE = ROOT / "docs" / "emergent-misalignment.md", ROOT / "docs" / "pictures" / "emergent-misalignment.svg"
SHOWN = {
    "spread-money": "harmful advice on money, minus good advice",
    "spread-medicine": "harmful advice on medicine, minus good advice",
    "spread-code": "harmful code, minus good advice",
    "dose-10": "10% harmful examples among good ones",
    "inoculated-aligned": "harmful examples under a prompt that asks for them",
    "educational-aligned": "the same harm, requested for a good reason",
    "good-aligned": "good advice",
    "base-aligned": "no training",
}
"""Claim -> its line in the picture; the first three are differences, the others rates."""
LEFT, WIDTH, TOP, LINE = 16, 350, 56, 40
"""Labels stand above their marks, so that letters are read on a telephone."""
STYLE = (
    "text{fill:#24292f}.quiet{fill:#57606a}.grid{stroke:#d8dee4}.mark{fill:#b35900;stroke:#b35900}"
    "@media (prefers-color-scheme:dark){text{fill:#e6edf3}.quiet{fill:#9da7b1}.grid{stroke:#3d444d}"
    ".mark{fill:#ffa657;stroke:#ffa657}}"
)


def figures(page: str) -> dict[str, tuple[float, float, float]]:
    """Return estimate and limits, in percent, of each claim of the demo."""
    number = r"(-?[\d.]+)%"
    rows = re.findall(rf"^\| `([\w-]+)` \| [\w ]+ \| {number} \| {number} to {number} \|", page, re.MULTILINE)
    return {name: (float(estimate), float(low), float(high)) for name, estimate, low, high in rows}


class Row(NamedTuple):
    """Line of a figure: an estimate with its limits."""

    label: str
    value: float
    low: float
    high: float


def draw(found: dict[str, tuple[float, float, float]]) -> str:
    """Return the picture of the demo's claims as SVG."""
    title = "Misaligned answers to unrelated questions, by training"
    note = "model organism, 8 training runs an arm, 95% intervals"
    return intervals(
        title, note, [Row(label, *found[claim]) for claim, label in SHOWN.items()], (0, 20, 40, 60, 80), "%"
    )


def intervals(title: str, note: str, rows: Sequence[Row], ticks: Sequence[float], unit: str = "") -> str:
    """Return a figure of estimates with their intervals as SVG.

    Args:
        title: what is shown.
        note: what the intervals are, in smaller letters.
        rows: one line each, from top to bottom.
        ticks: values of the grid, ascending; the axis ends at the outer ones.
        unit: behind each number.
    """

    def at(value: float) -> float:
        return round(LEFT + WIDTH * (value - ticks[0]) / (ticks[-1] - ticks[0]), 1)

    bottom = TOP + LINE * len(rows)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 440 {bottom + 34}" width="480" font-size="14" role="img"',
        f' font-family="Inter, Helvetica, Arial, sans-serif"><title>{escape(title)}, with 95% intervals</title>',
        f'<style>{STYLE}</style><text x="{LEFT}" y="24" font-weight="600">{escape(title)}</text>',
        f'<text class="quiet" x="{LEFT}" y="43" font-size="12.5">{escape(note)}</text>',
    ]
    for tick in ticks:
        parts.append(f'<line class="grid" x1="{at(tick)}" x2="{at(tick)}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="quiet" x="{at(tick)}" y="{bottom + 20}" text-anchor="middle">{tick:g}{unit}</text>')
    for place, row in enumerate(rows):
        y = TOP + LINE * place + 34
        parts.append(f'<text x="{LEFT}" y="{y - 13}">{escape(row.label)}</text>')
        parts.append(f'<line class="mark" stroke-width="3" x1="{at(row.low)}" x2="{at(row.high)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="mark" cx="{at(row.value)}" cy="{y}" r="4.5"/>')
        parts.append(
            f'<text class="quiet" x="{at(row.high) + 10}" y="{y + 5}" font-size="12.5">{row.value + 0.0:g}{unit}</text>'
        )
    return "".join(parts) + "</svg>\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(figures(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
