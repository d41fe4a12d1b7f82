"""Simulated designs of curves, areas, correlations, effects and power, run by benchmarks/coverage_curves.py."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from astray.stats.intervals import Interval

Drawn = tuple[bool | None, float]
"""Whether the event occurred in one simulated study (None: it gave no answer), and the width of its interval."""


@dataclass(frozen=True)
class Case:
    """One simulated design.

    Attributes:
        name: the design in words.
        event: what is counted: "covered", "false effect", "held", ...
        target: what the share of the event should be.
        draw: from a generator to the outcomes of one study.
        draws: number of studies, or of batches of studies.
        batch: independent studies in a draw.
    """

    name: str
    event: str
    target: str
    draw: Callable[[np.random.Generator], Sequence[Drawn]]
    draws: int = 400
    batch: int = 1

    def share(self, draws: int, seed: int = 0) -> tuple[float, float, float, int]:
        """Return the share of the event, its Monte-Carlo error over studies, the mean width, and studies without an
        answer."""
        rng = np.random.default_rng(seed)
        shares, widths, silent = [], [], 0
        for _ in range(draws):
            answered = [(event, width) for event, width in self.draw(rng) if event is not None]
            silent += not answered
            if answered:
                shares.append(float(np.mean([event for event, _ in answered])))
                widths.append(float(np.mean([width for _, width in answered])))
        if not shares:
            return math.nan, math.nan, math.nan, silent
        mean = float(np.mean(shares))
        spread = max(
            float(np.std(shares)), math.sqrt(1 / (len(shares) * self.batch + 2)) * 0.5
        )  # of none or all, as if half a study were otherwise
        return mean, spread / math.sqrt(len(shares)), float(np.mean(widths)), silent


def covered(interval: Interval | None, truth: float) -> list[Drawn]:
    """Return whether an interval covers the truth, and its width."""
    return [(None, math.nan)] if interval is None else [(interval.low <= truth <= interval.high, interval.width)]
