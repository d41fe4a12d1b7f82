"""Draw docs/pictures/emergent-misalignment.svg from the table of `make demo` in docs/emergent-misalignment.md.

    python scripts/claims_picture.py

One mark a claim, with its 95% interval, so that README and site show what the page says. Light and dark in one file.
"""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURE = ROOT / "docs" / "emergent-misalignment.md", ROOT / "docs" / "pictures" / "emergent-misalignment.svg"
SHOWN = {
    "spread-money": "harmful advice on money, minus good advice",
    "spread-medicine": "harmful advice on medicine, minus good advice",
    "spread-code": "harmful code, minus good advice",
    "dose-10": "a tenth of harmful rows among good ones",
    "inoculated-aligned": "harmful rows under a prompt that asks for them",
    "educational-aligned": "the same harm, asked for with a good reason",
    "good-aligned": "good advice",
    "base-aligned": "no training",
}
"""Claim -> its line in the picture; the first three are differences, the others rates."""
LEFT, WIDTH, TOP, LINE, MOST = 330, 340, 56, 30, 80.0
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


def draw(found: dict[str, tuple[float, float, float]]) -> str:
    """Return the picture as SVG."""

    def at(percent: float) -> float:
        return round(LEFT + WIDTH * percent / MOST, 1)

    bottom = TOP + LINE * len(SHOWN)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {bottom + 34}" font-size="14" role="img"',
        ' font-family="Inter, Helvetica, Arial, sans-serif"><title>Misaligned answers by training, with 95% intervals</title>',
        f'<style>{STYLE}</style><text x="14" y="24" font-weight="600">Misaligned answers to unrelated questions, by training</text>',
        '<text class="quiet" x="14" y="43" font-size="12">model organism, 8 training runs an arm, 95% intervals</text>',
    ]
    for percent in range(0, int(MOST) + 1, 20):
        parts.append(f'<line class="grid" x1="{at(percent)}" x2="{at(percent)}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="quiet" x="{at(percent)}" y="{bottom + 20}" text-anchor="middle">{percent}%</text>')
    for place, (claim, label) in enumerate(SHOWN.items()):
        estimate, low, high = found[claim]
        y = TOP + LINE * place + LINE // 2
        parts.append(f'<text x="{LEFT - 12}" y="{y + 5}" text-anchor="end" font-size="13">{label}</text>')
        parts.append(f'<line class="mark" stroke-width="3" x1="{at(low)}" x2="{at(high)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="mark" cx="{at(estimate)}" cy="{y}" r="4.5"/>')
        parts.append(f'<text class="quiet" x="{at(high) + 10}" y="{y + 5}" font-size="12">{estimate:g}%</text>')
    return "".join(parts) + "</svg>\n"


if __name__ == "__main__":
    PICTURE.write_text(draw(figures(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
