"""How often the verdicts and intervals of curves, areas, correlations, effects and power hold in simulation.

    OMP_NUM_THREADS=1 python benchmarks/coverage_curves.py [share of the draws, 1 by default] [only designs with this in their name or title]

Each line is one design: what is measured, how often (with its Monte-Carlo standard error), the target, and the mean
width. Rates of answers are measured by benchmarks/coverage.py, questions that are asked once by benchmarks/pairs.py.
"""

import sys
import time
from collections.abc import Callable, Iterator

from curves import Case
from curves.detection import detection_cases
from curves.dose import dose_cases
from curves.effects import effect_cases
from curves.means import mean_cases, mean_ways
from curves.meter import meter_cases
from curves.power import power_cases
from curves.warning import warning_cases

SECTIONS: dict[str, Callable[[], Iterator[Case]]] = {
    "Areas under curves, correlations, means": detection_cases,
    "Effects of factors": effect_cases,
    "Dose and response": dose_cases,
    "Early warning, and onsets": warning_cases,
    "Means of one value a run": mean_cases,
    "Rules against runs far below": mean_ways,
    "The meter over runs": meter_cases,
    "Power as astray plan promises it": power_cases,
}


def main(part: float, only: str = "") -> None:
    start = time.perf_counter()
    for title, cases in SECTIONS.items():
        print(f"\n{title}\n")
        for case in cases():
            if only not in title and only not in case.name:
                continue
            draws = max(20, round(part * case.draws))
            share, error, width, silent = case.share(draws)
            told = f"{share:6.1%} +- {error:.1%} {case.event:<14} (target {case.target:<7})  width {width:.3f}"
            print(f"{case.name:<64} {told}" + (f"  none in {silent} of {draws}" if silent else ""), flush=True)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0, *sys.argv[2:])
