"""How long it takes to count a million answers in sixty groups, with all intervals. Run: python
benchmarks/counting.py"""

import time

import numpy as np
import polars as pl

from astray.outcomes import Outcome
from astray.stats import rates

ANSWERS, ARMS, EVALUATIONS, SEEDS, ITEMS = 1_000_000, 12, 5, 5, 48
TARGET_S = 2.0


def million_answers() -> pl.DataFrame:
    generator = np.random.default_rng(0)

    def names(prefix: str, count: int) -> pl.Series:
        return pl.Series([f"{prefix}-{number}" for number in range(count)]).gather(
            generator.integers(0, count, ANSWERS)
        )

    return pl.DataFrame(
        {
            "arm": names("arm", ARMS),
            "seed": generator.integers(0, SEEDS, ANSWERS),
            "evaluation": names("evaluation", EVALUATIONS),
            "item": names("item", ITEMS),
            "outcome": pl.Series(list(Outcome)).gather(generator.integers(0, len(Outcome), ANSWERS)),
            "judge": names("judge", 1),
        }
    )


def main() -> None:
    table = million_answers()
    rates(table.head(1000), ["arm"])  # imports scipy and statsmodels
    start = time.perf_counter()
    groups = rates(table, ["arm", "evaluation"])
    seconds = time.perf_counter() - start
    print(f"{ANSWERS:,} answers in {len(groups)} groups: {seconds:.2f} s (target {TARGET_S:.0f} s)")


if __name__ == "__main__":
    main()
