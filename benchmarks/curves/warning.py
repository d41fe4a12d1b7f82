"""Early warning and onsets: how often is one found where nothing moves, and is the difference covered?"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.special import expit

from astray.stats.onset import onset
from astray.stats.warning import Warned, difference, net_share, net_share_of_counts, over_doses, over_training_runs
from curves import Case, Drawn, covered


def warned(
    rng: np.random.Generator,
    runs: int,
    shifts: Sequence[float],
    rates: Sequence[float],
    spread: float,
    kind: str,
    readings: int = 56,
    answers: int = 480,
) -> Warned:
    """Draw a study and return what a measure finds more than behaviour.

    Args:
        rng: draws the study.
        runs: training runs.
        shifts: mean of the measure's readings at the control and at each dose; of "misaligned" readings their rate.
        rates: rate of misaligned answers at the control and at each dose.
        spread: standard deviation between trainings, of the shift and of the log odds of the rate.
        kind: distribution of the readings.
        readings: of the measure in each arm.
        answers: of each arm.
    """

    def read(shift: float) -> list[float]:
        if kind == "misaligned":
            return (rng.random(readings) < shift).astype(float).tolist()
        noise = rng.normal(0, 1, readings) if kind == "normal" else rng.exponential(1, readings)
        return (noise + shift + rng.normal(0, spread)).tolist()

    def count(rate: float) -> tuple[int, int]:
        own = expit(math.log(rate / (1 - rate)) + rng.normal(0, spread)) if 0 < rate < 1 else rate
        return int(rng.binomial(answers, own)), answers

    found = []
    for _ in range(runs):
        control, behaviour = read(shifts[0]), count(rates[0])
        of_measure = over_doses([net_share(read(shift), control) for shift in shifts[1:]])
        found.append(
            difference(
                of_measure, over_doses([net_share_of_counts(count(rate), behaviour, readings) for rate in rates[1:]])
            )
        )
    return over_training_runs(found)


Shape = tuple[tuple[float, ...], tuple[float, ...], float, str]
WARNINGS: dict[str, Shape] = {
    "nothing moves, behaviour at 0": ((0.0,) * 5, (0.0,) * 5, 0.0, "normal"),
    "nothing moves, runs differ": ((0.0,) * 5, (0.01,) * 5, 0.5, "normal"),
    "nothing moves, skewed, runs differ": ((0.0,) * 5, (0.05,) * 5, 0.5, "exponential"),
    "the same curve, rising to 20%": (
        (0.002, 0.005, 0.02, 0.05, 0.2),
        (0.002, 0.005, 0.02, 0.05, 0.2),
        0.0,
        "misaligned",
    ),
    "the same curve, rising to 50%": ((0.05, 0.1, 0.2, 0.3, 0.5), (0.05, 0.1, 0.2, 0.3, 0.5), 0.0, "misaligned"),
    "the measure rises": ((0.0, 0.1, 0.2, 0.3, 0.5), (0.002, 0.003, 0.004, 0.006, 0.03), 0.3, "normal"),
    "behaviour rises": ((0.0, 0.0, 0.0, 0.1, 0.2), (0.01, 0.02, 0.05, 0.1, 0.3), 0.5, "normal"),
}
"""Shifts of the measure and rates of behaviour at the control and four doses, spread between trainings, and kind of
readings."""


def warning_cases() -> Iterator[Case]:
    """Yield the verdict that a measure warns, where it finds no more than behaviour, and the coverage of the
    difference."""
    for name, design in WARNINGS.items():
        rng = np.random.default_rng(5)
        moves = "rises" in name  # else the measure finds no more than behaviour
        truth = float(np.mean([warned(rng, 1, *design).share for _ in range(2000)])) if moves else None
        for runs in (3, 5, 8):

            def drawn(
                rng: np.random.Generator, runs: int = runs, design: Shape = design, truth: float | None = truth
            ) -> list[Drawn]:
                interval = warned(rng, runs, *design).interval
                assert interval is not None
                return [(interval.low >= 0, interval.width)] if truth is None else covered(interval, truth)

            if truth is None:
                yield Case(f"{name}, {runs} runs", "held", "<= 5%", drawn, 300)
            else:
                yield Case(f"{name} (difference {truth:.2f}), {runs} runs", "covered", ">= 93%", drawn, 300)
    for runs in (3, 5, 8):

        def named(rng: np.random.Generator, runs: int = runs) -> list[Drawn]:
            scale = rng.lognormal(0, 1, runs)  # dictionaries of different runs have different scales
            values, control = rng.normal(0, 1, (runs, 8)) * scale[:, None], rng.normal(0, 1, runs) * scale
            return [
                (
                    onset([0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0], values.tolist(), control.tolist()).dose
                    is not None,
                    math.nan,
                )
            ]

        yield Case(f"an onset is named where nothing moves, {runs} runs", "named", "<= 5%", named, 1000)
