"""Means of one value a run, which are no rates: how often a claim whose truth is its border is decided wrongly."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy.special import expit, stdtrit

from astray.engine.value_claims import REFUTING, STRICTER, values_claim
from astray.stats.claims import Decision
from astray.stats.skewed import skewed_limits
from curves import Case, Drawn

SHAPES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, runs: rng.standard_normal(runs),
    "lognormal, 0.5": lambda rng, runs: np.exp(0.5 * rng.standard_normal(runs)) - math.exp(0.125),
    "exponential": lambda rng, runs: rng.exponential(1, runs) - 1,
    "lognormal, 1": lambda rng, runs: np.exp(rng.standard_normal(runs)) - math.exp(0.5),
    "probability of 10%, runs 1.5 apart (logit)": lambda rng, runs: (
        expit(-2.945 + 1.5 * rng.standard_normal(runs)) - 0.1
    ),
    "one run in five rises": lambda rng, runs: (rng.random(runs) < 0.2) - 0.2 + 0.05 * rng.standard_normal(runs),
    "lognormal, 1, downwards": lambda rng, runs: math.exp(0.5) - np.exp(rng.standard_normal(runs)),
    "one run in five falls": lambda rng, runs: 0.2 - (rng.random(runs) < 0.2) + 0.05 * rng.standard_normal(runs),
}
"""Values whose mean is 0: the first is symmetrical, the last two are skewed downwards, the others upwards."""
DOWNWARDS = ("lognormal, 1, downwards", "one run in five falls")
CLEAR = 4.0
"""Mean of a claim that is true, in standard deviations of runs that are normal."""


def _t_low(values: np.ndarray, tail: float = 0.025) -> float:
    return float(values.mean() + stdtrit(len(values) - 1, tail) * values.std(ddof=1) / math.sqrt(len(values)))


WAYS: dict[str, Callable[[np.ndarray], bool]] = {
    "t": lambda values: _t_low(values) >= 0,
    "Hall's limit beside t": lambda values: skewed_limits(values.tolist(), level=0.975)[0] >= 0,
    "t at a fortieth of the error": lambda values: _t_low(values, 0.025 / STRICTER) >= 0,
    "undecided if skewed below -0.3": lambda values: bool(
        _t_low(values) >= 0 and ((values - values.mean()) ** 3).mean() >= -0.3 * values.std() ** 3
    ),
    "held with one more run at the border": lambda values: _t_low(np.append(values, 0.0)) >= 0,
}
"""Rules by which a mean of at least 0 would be held, against runs far below the others."""


def mean_ways() -> Iterator[Case]:
    """Yield how often each rule holds a claim whose truth is its border, and one that is clearly true."""
    for way, held in WAYS.items():
        for runs in (3, 5, 8, REFUTING):
            for name, mean in (*((name, 0.0) for name in DOWNWARDS), ("normal", CLEAR)):

                def study(
                    rng: np.random.Generator,
                    held: Callable[[np.ndarray], bool] = held,
                    runs: int = runs,
                    name: str = name,
                    mean: float = mean,
                ) -> Sequence[Drawn]:
                    return [(held(mean + SHAPES[name](rng, runs)), math.nan)]

                event = f"{way}: {runs} runs, {name}" + (f" around {mean:g}" if mean else "")
                yield Case(event, "held", "<= 5%" if not mean else "100%", study, 2000)


def mean_cases() -> Iterator[Case]:
    """Yield the designs: the claim is that the mean is at least 0, which it is exactly."""
    for verdict in (Decision.NOT_HELD, Decision.HELD):
        for name, draw in SHAPES.items():
            for runs in (3, 5, 8, REFUTING):

                def decided(
                    rng: np.random.Generator,
                    draw: Callable[[np.random.Generator, int], np.ndarray] = draw,
                    runs: int = runs,
                    verdict: Decision = verdict,
                ) -> Sequence[Drawn]:
                    claim = values_claim("mean", "It rises", draw(rng, runs).tolist(), "nothing", at_least=0.0)
                    width = claim.interval.high - claim.interval.low if claim.interval else math.nan
                    return [(claim.verdict is verdict, width)]

                event = "not held" if verdict is Decision.NOT_HELD else "held"
                yield Case(f"mean of {runs} runs, {name}", event, "<= 5%", decided, 2000)
