"""Dose and response: are the slope and the half-effect dose of the typical seed covered?"""

import math
from collections.abc import Iterator

import numpy as np
from scipy.special import expit

from astray.stats.dose import dose_response
from curves import Case, Drawn, covered

DOSES = (0.01, 0.1, 0.25, 0.5, 0.75, 1.0)


def dose_coverage(
    rng: np.random.Generator,
    clusters: int,
    curve: tuple[float, float],
    of_level: float,
    of_slope: float,
    answers: int = 200,
) -> tuple[list[Drawn], list[Drawn]]:
    """Return whether slope and half-effect dose of the typical seed are covered, in a study with a curve of its own for
    each seed.

    Args:
        rng: draws the study.
        clusters: number of seeds, each trained at every dose.
        curve: log odds at dose 1, and slope on the log dose, of the typical seed.
        of_level: standard deviation of the level between seeds.
        of_slope: standard deviation of the slope between seeds.
        answers: answers of each run.
    """
    level, slope = curve
    seeds = np.tile(np.arange(clusters), len(DOSES))
    levels, slopes = level + rng.normal(0, of_level, clusters), slope + rng.normal(0, of_slope, clusters)
    doses = np.repeat(DOSES, clusters)
    counts = rng.binomial(answers, expit(levels[seeds] + slopes[seeds] * np.log(doses)))
    found = dose_response(doses.tolist(), counts.tolist(), [answers] * len(doses), seeds.tolist())
    full = expit(level)
    half = math.exp((math.log(full / (2 - full)) - level) / slope)
    return covered(found.slope_interval, slope), covered(found.half_effect_interval, half)


def dose_cases() -> Iterator[Case]:
    """Yield slopes and half-effect doses of curves with seeds as clusters."""
    for clusters in (3, 5, 8):
        for of_level, of_slope in ((0.0, 0.0), (0.5, 0.0), (1.5, 0.0), (0.5, 0.4)):
            for curve in ((0.0, 1.2), (-2.0, 1.0), (-4.0, 0.8), (1.5, 0.8)):
                for place, what in enumerate(("slope", "half effect")):

                    def drawn(
                        rng: np.random.Generator,
                        shape: tuple[int, tuple[float, float], float, float] = (clusters, curve, of_level, of_slope),
                        place: int = place,
                    ) -> list[Drawn]:
                        return dose_coverage(rng, *shape)[place]

                    name = (
                        f"{what}, {clusters} seeds, {expit(curve[0]):.0%} at the top, spread {of_level} of level, "
                        f"{of_slope} of slope"
                    )
                    yield Case(name, "covered", ">= 93%", drawn, 150)
