"""Two models asked each question once: how often a clear difference is found, and how often a limit is on the wrong side.

Beside ours: t on the differences, Agresti and Min's interval (2005, Statistics in Medicine 24:729), and Newcombe's for
pairs (`stats.paired`).
"""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.special import stdtrit

from astray.stats.compare import question_differences
from astray.stats.paired import paired_rates
from curves import Case, Drawn

QUESTIONS, BATCH = 112, 100
Limits = tuple[np.ndarray, np.ndarray]


def _ours(first: np.ndarray, second: np.ndarray) -> Limits:
    ones = np.ones_like(first)
    return question_differences((first, ones), (second, ones))[1](0.95)


def _t(first: np.ndarray, second: np.ndarray) -> Limits:
    differences, t = first - second, stdtrit(QUESTIONS - 1, 0.975)
    middle, half = differences.mean(axis=1), t * differences.std(axis=1, ddof=1) / math.sqrt(QUESTIONS)
    return middle - half, middle + half


def _agresti_min(first: np.ndarray, second: np.ndarray) -> Limits:
    one, other = ((a & ~b).sum(axis=1) + 0.5 for a, b in ((first == 1, second == 1), (second == 1, first == 1)))
    of = QUESTIONS + 2
    half = 1.96 * np.sqrt(one + other - (one - other) ** 2 / of) / of
    return (one - other) / of - half, (one - other) / of + half


def _newcombe(first: np.ndarray, second: np.ndarray) -> Limits:
    cells = [((first == a) & (second == b)).sum(axis=1) for a, b in ((1, 1), (1, 0), (0, 1), (0, 0))]
    intervals = [paired_rates(*map(int, counts)).interval for counts in zip(*cells, strict=True)]
    return np.array([one.low for one in intervals]), np.array([one.high for one in intervals])


WAYS: dict[str, Callable[[np.ndarray, np.ndarray], Limits]] = {
    "ours": _ours,
    "t": _t,
    "Agresti-Min": _agresti_min,
    "Newcombe, paired": _newcombe,
}


def single_cases() -> Iterator[Case]:
    """Yield how often each way finds a difference from 0, and how often a limit lies on the wrong side of the truth."""
    for way, limits in WAYS.items():
        for rates in ((0.05, 0.0), (0.02, 0.0), (0.02, 0.02), (0.2, 0.1)):
            for event in ("found", "limit below", "limit above"):
                if event == "found" and rates[0] == rates[1]:
                    continue

                def studies(
                    rng: np.random.Generator,
                    limits: Callable[[np.ndarray, np.ndarray], Limits] = limits,
                    rates: tuple[float, float] = rates,
                    event: str = event,
                ) -> Sequence[Drawn]:
                    low, high = limits(*(rng.binomial(1, rate, (BATCH, QUESTIONS)) for rate in rates))
                    truth = rates[0] - rates[1]
                    of = {"found": low > 0, "limit below": high < truth - 1e-9, "limit above": low > truth + 1e-9}
                    return [(bool(one), float(width)) for one, width in zip(of[event], high - low, strict=True)]

                name = f"{way}: {rates[0]:.0%} against {rates[1]:.0%}, {QUESTIONS} questions once"
                yield Case(name, event, "-" if event == "found" else "<= 5%", studies, 40, BATCH)
