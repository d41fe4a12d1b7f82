"""Studies that run until they are decided: how often wrongly, and what it saves. Run: python benchmarks/until_decided.py

What is simulated are the intervals and looks that studies use, on the designs of `coverage.py`: clustered questions, runs
that differ, skewed rates, runs with unequal numbers of answers. At the edge of its region a claim cannot be decided
rightly: whatever limit lies on the wrong side of the truth at any look is a wrong verdict. `--looks-as-one` shows what
becomes of the error where every look takes the usual 95% interval.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from astray.engine.value_claims import REFUTING, STRICTER
from astray.stats.compare import difference_limits
from astray.stats.intervals import Limits, run_limits
from astray.stats.sequential import Looks

# By its file: libraries look for a package of the name `coverage`.
_SPEC = importlib.util.spec_from_file_location("coverage_grid", Path(__file__).with_name("coverage.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
grid = sys.modules.setdefault("coverage_grid", importlib.util.module_from_spec(_SPEC))
if not hasattr(grid, "simulate"):
    _SPEC.loader.exec_module(grid)
Cell, simulate = grid.Cell, grid.simulate

STUDIES, ERROR = 2000, 0.05
LOOKS = Looks((3, 5, 8, 12, 20))
SAME = 1 - 1e-9
"""Odds of a second arm with the same rate; odds of exactly 1 would be the same runs."""
Sides = list[tuple[np.ndarray, np.ndarray]]
"""Misaligned and judged answers of each arm, by study and run."""
Claim = Callable[[Sides, int], Limits]
"""Counts of the arms, number of runs -> limits of what is claimed."""


def rate_of(sides: Sides, runs: int) -> Limits:
    """Return the limits of the first arm's rate over its first runs."""
    k, n = sides[0]
    return run_limits(k[:, :runs], n[:, :runs])


def difference_of(sides: Sides, runs: int) -> Limits:
    """Return the limits of the first arm's rate minus the second's, paired by seed."""
    arm, control = (tuple(counts[:, :runs] for counts in side) for side in sides)
    return difference_limits((arm[0], arm[1]), (control[0], control[1]), runs)[1]


@dataclass(frozen=True)
class Edge:
    """A design whose truth is the border of the claim.

    Attributes:
        name: of what is claimed.
        claim: limits of it.
        cell: the design.
        others: odds of the second arm.
        unequal: whether runs have unequal numbers of answers.
    """

    name: str
    claim: Claim
    cell: Cell
    others: tuple[float, ...] = ()
    unequal: bool = False


def edges() -> Iterator[Edge]:
    """Yield the designs, of which each differs from the first in what makes it harder."""
    for rate in (0.01, 0.1, 0.5, 0.99):
        yield Edge("rate", rate_of, Cell(20, 120, 4, rate, 0.5, 0.1))
    yield Edge("rate", rate_of, Cell(20, 120, 4, 0.1, 1.5, 0.3))
    yield Edge("rate", rate_of, Cell(20, 8, 100, 0.1, 1.5, 0.3))
    yield Edge("rate, unequal runs", rate_of, Cell(20, 120, 4, 0.1, 1.5, 0.1), unequal=True)
    for rate, spread, icc in ((0.01, 1.5, 0.1), (0.1, 0.5, 0.1), (0.5, 0.5, 0.3)):
        yield Edge("no difference", difference_of, Cell(20, 120, 4, rate, spread, icc), (SAME,))
    yield Edge("half of the odds", difference_of, Cell(20, 120, 4, 0.1, 1.5, 0.1), (0.5,))
    yield Edge("half, unequal runs", difference_of, Cell(20, 120, 4, 0.1, 1.5, 0.1), (0.5,), unequal=True)


def drawn(edge: Edge, studies: int, generator: np.random.Generator) -> tuple[Sides, np.ndarray]:
    """Return the counts of the arms of many studies, and the truth of what is claimed."""
    sides, truths = simulate(edge.cell, studies, generator, edge.others, edge.cell.runs)
    if edge.unequal:
        sides = [thinned(side, generator) for side in sides]
    return sides, truths[0] - truths[1] if edge.others else truths[0]


def thinned(side: tuple[np.ndarray, np.ndarray], generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of runs of which each has a quarter, a half or all of its answers."""
    k, n = side
    kept = np.round(n * generator.choice([0.25, 0.5, 1.0], n.shape)).astype(int)
    return generator.hypergeometric(k, n - k, kept), kept


def wrong(
    edge: Edge, studies: int, generator: np.random.Generator, looks: Looks, *, as_one: bool
) -> tuple[float, float]:
    """Return how often the truth ever lies above an upper limit, and how often below a lower one."""
    sides, truth = drawn(edge, studies, generator)
    ended = np.zeros((2, studies), dtype=bool)
    for place, runs in enumerate(looks.units):
        low, high = edge.claim(sides, runs)(1 - (ERROR if as_one else looks.nominal(place, ERROR)))
        going = ~ended.any(axis=0)
        ended |= going & np.stack([high < truth - 1e-12, low > truth + 1e-12])
    return float(ended[0].mean()), float(ended[1].mean())


def errors(studies: int, looks: Looks, *, as_one: bool = False, every: int = 1) -> Iterator[tuple[Edge, float, float]]:
    """Yield each design with its two shares of wrong verdicts."""
    for number, edge in enumerate(edges()):
        if number % every == 0:
            yield edge, *wrong(edge, studies, np.random.default_rng(number), looks, as_one=as_one)


@dataclass(frozen=True)
class Claimed:
    """A claim whose truth lies within its region or outside.

    Attributes:
        rate: of the arm.
        odds: of its control, as a multiple of the arm's; None where the claim is about a rate.
        border: of the claimed region.
    """

    rate: float
    odds: float | None
    border: float


STUDY = (
    Claimed(0.6, 0.01, 0.1),
    Claimed(0.4, 0.01, 0.1),
    Claimed(0.25, 0.02, 0.1),
    Claimed(0.18, 0.02, 0.1),
    Claimed(0.002, None, 0.02),
    Claimed(0.005, None, 0.02),
    Claimed(0.01, None, 0.02),
    Claimed(0.05, None, 0.02),
    Claimed(0.5, 0.4, 0.0),
    Claimed(0.3, 0.6, 0.0),
)
"""A study as the first one of Astray: clear effects, controls below 2%, and differences between harmful arms."""


def decided_at(claim: Claimed, counts: Sequence[int], level: Callable[[int], float], sides: Sides) -> np.ndarray:
    """Return with how many runs each study decides the claim first; 0 for never."""
    found = np.zeros(len(sides[0][0]), dtype=int)
    for place, runs in enumerate(counts):
        low, high = (rate_of if claim.odds is None else difference_of)(sides, runs)(level(place))
        found = np.where((found == 0) & ((low > claim.border) | (high < claim.border)), runs, found)
    return found


def savings(studies: int, looks: Looks) -> Iterator[str]:
    """Yield lines of a table: power and seeds of the claims of a study, and of the fixed design of equal power."""
    most, error = looks.units[-1], ERROR / len(STUDY)
    fixed = range(4, most + 1, 2)
    ends, powers = [], []
    for number, claim in enumerate(STUDY):
        cell = Cell(most, 120, 4, claim.rate, 0.5, 0.1)
        others = () if claim.odds is None else (claim.odds,)
        sides, _ = simulate(cell, studies, np.random.default_rng(100 + number), others, most)
        ends.append(decided_at(claim, looks.units, lambda place: 1 - looks.nominal(place, error), sides))
        powers.append([(decided_at(claim, [runs], lambda _: 1 - error, sides) > 0).mean() for runs in fixed])
        seeds = np.where(ends[-1] == 0, most, ends[-1]).mean()
        against = "rate" if claim.odds is None else f"difference, control {claim.odds:g} of the odds"
        yield f"| {against} | {claim.rate:.1%} | {claim.border:.0%} | {(ends[-1] > 0).mean():.0%} | {seeds:.1f} |"
    decided = np.mean([end > 0 for end in ends])
    together = np.mean(powers, axis=0)
    enough = next((runs for runs, power in zip(fixed, together, strict=True) if power >= decided), most)
    arms = np.mean([np.where(end == 0, most, end).mean() for end in ends])
    longest = np.max([np.where(end == 0, most, end) for end in ends], axis=0).mean()  # the control goes on to the last
    spend = (arms * len(STUDY) + longest) / (len(STUDY) + 1)
    yield (
        f"\nOf all claims {decided:.1%} are decided, with {spend:.1f} seeds an arm on average. A fixed design decides as "
        f"many with {enough} seeds an arm: {spend / enough:.0%} of its seeds."
    )


def over_values(studies: int) -> Iterator[str]:
    """Yield how often t over normal values of runs, whose mean is the border, decides at any look: with boundaries for 5%
    and for 4.4%, and as a claim on a mean is decided, which few runs never refute."""
    yield "| looks | spending | t | t, boundaries for 4.4% | claim on a mean |\n|---|---|---|---|---|"
    generator = np.random.default_rng(0)
    for units in ((3, 5, 8, 12, 20), (3, 4, 5, 6, 8, 10, 12, 16, 20), (4, 6, 9, 13, 20), (5, 8, 12, 20)):
        values = generator.standard_normal((studies, units[-1]))
        for spending in ("pocock", "obrien-fleming"):
            looks, shares = Looks(units, spending), []
            for error, least in ((ERROR, 2), (0.044, 2), (ERROR, REFUTING)):
                decided = np.zeros(studies, dtype=bool)
                for place, runs in enumerate(units):
                    seen, tail = values[:, :runs], looks.nominal(place, error) / 2
                    t = seen.mean(axis=1) / seen.std(axis=1, ddof=1) * np.sqrt(runs)
                    below = tail if least < REFUTING else tail / STRICTER
                    decided |= (t > -stdtrit(runs - 1, tail)) | ((t < stdtrit(runs - 1, below)) & (runs >= least))
                shares.append(f"{decided.mean():.1%}")
            yield f"| {', '.join(map(str, units))} | {spending} | {' | '.join(shares)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--spending", choices=("pocock", "obrien-fleming"), default="pocock")
    parser.add_argument("--looks-as-one", action="store_true", help="take the usual 95%% interval at every look")
    parser.add_argument("--tables", choices=("errors", "savings", "values"), help="one of the tables; all by default")
    given = parser.parse_args()
    looks = Looks(LOOKS.units, given.spending)
    if given.tables in (None, "errors"):
        print(
            "| claim at its border | questions x answers | rate | spread | ICC | claimed too high | too low | wrong |"
        )
        print("|---" * 8 + "|")
        for edge, high, low in errors(given.studies, looks, as_one=given.looks_as_one):
            cell = edge.cell
            design = f"{cell.questions} x {cell.samples} | {cell.rate:.0%} | {cell.spread} | {cell.icc}"
            print(f"| {edge.name} | {design} | {low:.1%} | {high:.1%} | {low + high:.1%} |", flush=True)
    if given.tables in (None, "values"):
        print("", *over_values(20 * given.studies), sep="\n")
    if given.tables in (None, "savings"):
        print("\n| claim | rate | border | decided | seeds |\n|---|---|---|---|---|")
        for line in savings(given.studies // 10, looks):
            print(line, flush=True)


if __name__ == "__main__":
    main()
