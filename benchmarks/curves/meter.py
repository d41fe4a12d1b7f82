"""The meter over training runs: coverage of the difference, and wrong verdicts where it lies at the border."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import polars as pl

from astray.measure.meter.difference import by_domain, over_domains
from curves import Case, Drawn

DOMAINS, PAIRS = 20, 12
DOMAIN_SD, PAIR_SD, APART_SD = 0.05, 0.2, 0.05
"""Nats a token by which changes of domains and of pairs differ, as SmolLM2's do, and by which a run moves a single pair."""
SHAPES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "exponential": lambda rng, n: rng.exponential(1, n) - 1,
    "lognormal, 1": lambda rng, n: (np.exp(rng.standard_normal(n)) - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e),
}
"""How runs differ around their mean of 0, with a standard deviation of 1."""


def meter_cases() -> Iterator[Case]:
    """Yield the designs: the truth is 0, over further runs and domains."""
    for runs in (2, 3, 5):
        for run_sd in (0.0, 0.05, 0.2):
            for shape in SHAPES if run_sd else ("normal",):
                for event in ("covered", "limit above", "limit below"):

                    def study(
                        rng: np.random.Generator,
                        runs: int = runs,
                        run_sd: float = run_sd,
                        shape: str = shape,
                        event: str = event,
                    ) -> Sequence[Drawn]:
                        return [_study(rng, runs, run_sd * SHAPES[shape](rng, runs), event)]

                    target = "95%" if event == "covered" else "<= 5%"
                    yield Case(f"meter over {runs} runs {run_sd} apart, {shape}", event, target, study, 400)


def _study(rng: np.random.Generator, runs: int, of_runs: np.ndarray, event: str) -> Drawn:
    """Return whether the interval of one study covers 0, or on which side it misses."""
    of_domains = DOMAIN_SD * rng.standard_normal(DOMAINS)
    of_pairs = np.repeat(of_domains, PAIRS) + PAIR_SD * rng.standard_normal(DOMAINS * PAIRS)
    changes = of_pairs + of_runs[:, None] + APART_SD * rng.standard_normal((runs, DOMAINS * PAIRS))
    pairs = np.arange(DOMAINS * PAIRS)
    table = pl.DataFrame(
        {
            "seed": np.repeat(np.arange(runs), len(pairs)),
            "item": np.tile(pairs, runs),
            "category": np.tile(pairs // PAIRS, runs),
            "change": changes.ravel(),
        }
    )
    interval = over_domains(*by_domain(table), 0.95).interval
    assert interval is not None
    happened = {"limit above": interval.low > 0, "limit below": interval.high < 0}
    return happened.get(event, interval.low <= 0 <= interval.high), interval.width
