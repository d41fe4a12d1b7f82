"""Cells of the grid of `benchmarks/coverage.py`, what is found in them, and the tables of it."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import betaincinv

SURE = 0.05
"""How often a cell whose wrong verdicts are 5% may be taken for one below, at one look."""
SAME = {"trend, arms alike": "trend, arms that rise"}
"""Interval -> another of the same claims where something else is true: a method has to be honest in both."""
MEANS = ("coverage", "width", "wrong_at_most", "wrong_at_least")


@dataclass(frozen=True)
class Cell:
    """One design and what is true in it."""

    runs: int
    questions: int
    samples: int
    rate: float
    spread: float
    icc: float
    failed: float = 0.0


@dataclass(frozen=True)
class Found:
    """Simulated shares, the mean width, and what rivals have: width and probability of their worse wrong verdict."""

    coverage: float
    width: float
    wrong_at_most: float
    wrong_at_least: float
    rivals: dict[str, tuple[float, float]] = field(default_factory=dict)
    studies: int = 0

    @property
    def worst(self) -> float:
        """Larger of the two probabilities of a wrong "held"."""
        return max(self.wrong_at_most, self.wrong_at_least)

    @property
    def most_wrong(self) -> float:
        """Clopper and Pearson's one-sided upper bound on it."""
        wrong = round(self.worst * self.studies)
        return float(betaincinv(wrong + 1, self.studies - wrong, 1 - SURE))

    def __add__(self, other: "Found") -> "Found":
        """Put the studies of two simulations of a cell together."""
        total = self.studies + other.studies

        def mean(one: float, another: float) -> float:
            return (one * self.studies + another * other.studies) / total

        rivals = {
            name: (mean(width, other.rivals[name][0]), mean(worst, other.rivals[name][1]))
            for name, (width, worst) in self.rivals.items()
        }
        pairs = ((getattr(self, name), getattr(other, name)) for name in MEANS)
        return Found(*(mean(*pair) for pair in pairs), rivals, total)


Row = tuple[str, Cell, Found]


def widths(found: list[Row], *, any_rate: bool = False) -> dict[tuple[str, Cell], float]:
    """Return the mean width of each cell relative to the narrowest honest method.

    Nobody knows spread and correlation beforehand. So a rival is honest where it is wrong at a border in at most 5%,
    and two Monte-Carlo errors, whatever they are; with `any_rate` whatever the rate is as well. Nor does anybody know
    whether arms differ (SAME).
    """

    def known(cell: Cell) -> Cell:
        return replace(cell, spread=0.0, icc=0.0, rate=0.0 if any_rate else cell.rate)

    wrong: dict[tuple[str, Cell, str], float] = defaultdict(float)
    for name, cell, one in found:
        for rival, (_, worst) in one.rivals.items():
            key = (SAME.get(name, name), known(cell), rival)
            wrong[key] = max(wrong[key], worst - 2 * np.sqrt(0.05 * 0.95 / one.studies))
    return {
        (name, cell): one.width
        / min(
            [one.width]
            + [
                width
                for rival, (width, _) in one.rivals.items()
                if wrong[SAME.get(name, name), known(cell), rival] <= 0.05
            ]
        )
        for name, cell, one in found
    }


def table(found: list[Row], relative: dict[tuple[str, Cell], float]) -> str:
    """Return a Markdown table."""
    titles = (
        *("interval", "runs", "questions x answers", "rate", "spread", "ICC", "failed", "coverage", "mean width"),
        *("to the best", '"at most" wrongly held, "at least" wrongly not held'),
        '"at least" wrongly held, "at most" wrongly not held',
    )
    lines = [f"| {' | '.join(titles)} |", "|---" * len(titles) + "|"]
    for name, cell, one in found:
        design = (
            f"{name} | {cell.runs} | {cell.questions} x {cell.samples} | {cell.rate:.1%} | {cell.spread} | "
            f"{cell.icc} | {cell.failed:.0%}"
        )
        lines.append(
            f"| {design} | {one.coverage:.1%} | {one.width:.2%} | {relative[name, cell]:.2f} | "
            f"{one.wrong_at_most:.1%} | {one.wrong_at_least:.1%} |"
        )
    return "\n".join(lines)


def summary(found: list[Row]) -> str:
    """Return a Markdown table with a line for each interval."""
    lines = [
        "| interval | cells | surely at most 5% | wrongly held, mean | mean coverage | width to the best at its rate: mean "
        "| beyond 1.25 | to the best at all rates: mean | beyond 1.25 |",
        "|---" * 9 + "|",
    ]
    relative = [widths(found, any_rate=any_rate) for any_rate in (False, True)]
    for name, number in Counter(name for name, _, _ in found).items():
        own = [(cell, one) for other, cell, one in found if other == name]
        ratios = [np.array([of[name, cell] for cell, _ in own]) for of in relative]
        shown = " | ".join(f"{of.mean():.2f} | {np.mean(of > 1.25):.0%}" for of in ratios)
        lines.append(
            f"| {name} | {number} | {sum(one.most_wrong <= 0.05 for _, one in own)} | "
            f"{np.mean([one.worst for _, one in own]):.1%} | "
            f"{np.mean([one.coverage for _, one in own]):.1%} | {shown} |"
        )
    return "\n".join(lines)


def rivals_table(found: list[Row]) -> str:
    """Return a Markdown table of the other methods: how wide they are beside ours, and how often they are wrong."""
    cells: dict[tuple[str, str], list[tuple[float, float, bool]]] = defaultdict(list)
    for name, _, one in found:
        for rival, (width, worst) in one.rivals.items():
            surely = worst - 2 * np.sqrt(0.05 * 0.95 / one.studies) > 0.05
            cells[name, rival].append((width / one.width, worst, bool(surely)))
    lines = [
        "| interval | other method | width beside ours: median | wrongly held, mean | worst | cells surely beyond 5% |",
        "|---" * 6 + "|",
    ]
    for (name, rival), of in cells.items():
        width, worst, beyond = (np.array(column) for column in zip(*of, strict=True))
        lines.append(
            f"| {name} | {rival} | {np.median(width):.2f} | {worst.mean():.1%} | {worst.max():.0%} | {beyond.mean():.0%} |"
        )
    return "\n".join(lines)
