"""How often the 95% intervals of the agentic study hold the known truth, over 1,000 simulated studies.

    OMP_NUM_THREADS=1 python benchmarks/agentic_coverage.py [studies]

Scripted subjects with true rates drawn anew for every cell of the core grid (a uniform half of them, the other half
rare: below 5%) are played on the desk, read by the gate and concluded; 100 samples a cell. Target: 94 to 96% for the
rates of cells.
"""

import random
import sys
import time

from agentic_simulation import Played, simulate
from astray.measure.agentic.counting import CONFLICT, CONTROL, difference, executed, select
from astray.measure.agentic.factors import label
from astray.measure.agentic.grid import Grid
from astray.measure.agentic.scripted import ScriptedAPI

GRID = Grid(scenarios=("blackmail",), replicates=100)


def drawn(chance: random.Random) -> dict[str, float]:
    """A true rate for each goal and threat."""
    rates = {}
    for cell in GRID.cells:
        rate = chance.random() if chance.random() < 0.5 else 0.05 * chance.random()
        rates[f"goal={cell.factors.goal},threat={cell.factors.threat}"] = rate
    return rates


def main(studies: int) -> None:
    played: Played = {}
    chance, start = random.Random(0), time.process_time()
    held: dict[str, int] = dict.fromkeys((label(cell.factors) for cell in GRID.cells), 0)
    differences = 0
    for seed in range(studies):
        subject = ScriptedAPI("scripted/sometimes", conditions=drawn(chance), seed=seed)
        table = simulate(subject, GRID, played)
        for cell in GRID.cells:
            interval = executed(select(table, cell.factors.model_dump())).interval
            assert interval is not None
            held[label(cell.factors)] += interval.low <= subject.harm_rate("blackmail", cell.factors) <= interval.high
        found = difference(executed(select(table, CONFLICT)), executed(select(table, CONTROL)))
        assert found is not None
        conflict, control = (
            cell.factors for cell in GRID.cells if label(cell.factors) in ("baseline", "goal=none+threat=none")
        )
        true = subject.harm_rate("blackmail", conflict) - subject.harm_rate("blackmail", control)
        differences += found.interval.low <= true <= found.interval.high
    seconds = time.process_time() - start
    print(
        f"{studies:,} studies of {GRID.size:,} samples, {seconds:.0f} processor seconds, "
        f"{studies * GRID.size / seconds:,.0f} samples a second"
    )
    print(
        f"rates of cells: {sum(held.values()) / studies / len(held):.1%} held",
        {name: f"{count / studies:.1%}" for name, count in held.items()},
    )
    print(f"difference of conflict and control: {differences / studies:.1%} held")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
