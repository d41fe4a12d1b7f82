"""Effects of factors that have none: how often is one found?"""

from collections.abc import Iterator

import numpy as np
import polars as pl
from scipy.special import expit

from astray.measure.agentic.effects import factor_effects
from astray.measure.agentic.factors import BASELINE, FACTORS
from curves import Case, Drawn


def false_effects(
    *, scenarios: int, values: int, samples: int, spread: float, seed: int, base: float = 0.0
) -> list[tuple[float, float]]:
    """Return the intervals of effects that are none: goal and threat matter, and cells differ by themselves.

    Args:
        scenarios: number of scenarios, each with the whole grid.
        values: number of values without an effect that are tried one by one.
        samples: samples of each cell.
        spread: standard deviation between cells, on the logit scale.
        seed: of the draw.
        base: log odds of harm in the main condition.
    """
    rng = np.random.default_rng(seed)
    idle = [
        (factor, value)
        for factor in ("name", "instruction", "framing")
        for value in FACTORS[factor]
        if value != getattr(BASELINE, factor)
    ]
    idle = [each for each in idle if each != ("instruction", "priority")][:values]
    core = [({"goal": goal, "threat": threat}, -1.5 * (goal == "none") - 0.5 * (threat != "replacement"))
            for goal in ("explicit", "none") for threat in FACTORS["threat"]]  # fmt: skip
    cells = [*core, *(({factor: value}, 0.0) for factor, value in idle)]
    shared = BASELINE.model_dump() | {"subject": "one", "monitor": "none", "outcome": "harmful"}
    rows = []
    for scenario in range(scenarios):
        for factors, effect in cells:
            harmful = rng.binomial(samples, expit(base + effect + rng.normal(0, spread)))
            rows.append(
                shared | factors | {"scenario": str(scenario), "gate": [True] * harmful + [False] * (samples - harmful)}
            )
    found = factor_effects(pl.DataFrame(rows).explode("gate"))
    assert found is not None
    return [
        (row.low, row.high)
        for row in found.rows
        if (row.factor, row.value) in idle and row.low is not None and row.high is not None
    ]


def effect_cases() -> Iterator[Case]:
    """Yield false effects of factors, for designs and spreads between cells."""
    for scenarios, values, degrees in ((3, 6, 22), (7, 6, 66), (2, 2, 7)):
        for samples in (20, 100):
            for spread in (0.0, 0.5, 1.0):
                for base in (0.0, -2.5):

                    def effects(
                        rng: np.random.Generator,
                        shape: tuple[int, int, int] = (scenarios, values, samples),
                        spread: float = spread,
                        base: float = base,
                    ) -> list[Drawn]:
                        scenarios, values, samples = shape
                        seed = int(rng.integers(2**32))
                        found = false_effects(
                            scenarios=scenarios, values=values, samples=samples, spread=spread, seed=seed, base=base
                        )
                        return [(low > 0 or high < 0, high - low) for low, high in found]

                    name = (
                        f"{scenarios} scenarios x {6 + values} cells x {samples}, spread {spread}, main rate "
                        f"{expit(base):.0%}, {degrees} df"
                    )
                    yield Case(name, "false effect", "<= 5%", effects, 150)
