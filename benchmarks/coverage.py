"""Coverage of the intervals that decide claims, simulated on a grid of designs. Run: python benchmarks/coverage.py

What is simulated is the function that studies call (`run_limits`, `difference_limits`, `corrected_rate`). Rates of runs
are normal on the logit scale. Questions differ as a beta distribution with the given correlation and are as hard for
every run; the truth is the rate of further runs on these questions. A verdict at the border of its region is wrong
where a limit lies on the wrong side of the truth: the upper one below it makes "at most" held and "at least" not held,
the lower one above it the other way round. Verdicts that fail leave fewer answers.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta

from astray.stats.compare import difference_limits
from astray.stats.intervals import Interval, run_limits
from astray.stats.judge_error import corrected_rate

STUDIES = 300
SENSITIVITY, SPECIFICITY, LABELLED_BAD, LABELLED_GOOD = 0.9, 0.95, 100, 200
Z = np.linspace(-6, 6, 61)
WEIGHTS = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


@dataclass(frozen=True)
class Cell:
    """One design and what is true in it."""

    runs: int
    questions: int
    samples: int
    rate: float
    spread: float
    icc: float
    failed: float = 0.0


@dataclass(frozen=True)
class Found:
    """Simulated shares, and the mean width."""

    coverage: float
    width: float
    wrong_at_most: float
    wrong_at_least: float

    @property
    def worst(self) -> float:
        """Larger of the two probabilities of a wrong "held"."""
        return max(self.wrong_at_most, self.wrong_at_least)


def grid() -> Iterator[Cell]:
    """Yield all cells: 3, 5 and 8 runs, four designs, five rates, three spreads, three correlations, three shares of
    failed verdicts."""
    designs = ((120, 4), (24, 100), (8, 100), (1000, 1))
    for (questions, samples), failed, runs in itertools.product(designs, (0.0, 0.05, 0.2), (3, 5, 8)):
        for rate, spread, icc in itertools.product((0.001, 0.01, 0.1, 0.5, 0.99), (0.0, 0.5, 1.5), (0.0, 0.1, 0.3)):
            yield Cell(runs, questions, samples, rate, spread, icc, failed)


def simulate(cell: Cell, studies: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return misaligned and judged answers by run, and the true rate of further runs on the questions of each study."""
    hardness = generator.random((studies, 1, cell.questions))
    size = 1 / cell.icc - 1 if cell.icc else 0.0
    questions = (
        beta.ppf(hardness, cell.rate * size, (1 - cell.rate) * size) if cell.icc else np.full_like(hardness, cell.rate)
    )
    offset = _offset(cell)
    shift = cell.spread * generator.standard_normal((studies, cell.runs, 1)) - offset
    # Given its question, a run's rate moves on the logit scale; a question nobody ever fails stays so.
    logits = logit(np.clip(questions, 1e-15, 1 - 1e-15))
    samples = cell.samples * (1 - cell.failed)
    judged = np.full((studies, cell.runs), round(cell.questions * samples))
    mean = expit(logits + shift).mean(axis=2)
    # The sum of answers to unlike questions varies less than this binomial one, which is the harder test.
    k = generator.binomial(judged, mean)
    truth = np.array(
        [(expit(one[0, :, None] + cell.spread * Z - offset).mean(axis=0) * WEIGHTS).sum() for one in logits]
    )
    return k, judged, truth


def _offset(cell: Cell) -> float:
    """Return what brings the mean of runs back to the rate of the cell where questions do not differ."""
    low, high = -20.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        above = (expit(logit(cell.rate) + cell.spread * Z - middle) * WEIGHTS).sum() > cell.rate
        low, high = (middle, high) if above else (low, middle)
    return low


def over_runs_cell(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
    """Simulate the interval over runs."""
    k, n, truth = simulate(cell, studies, generator)
    return _found(*run_limits(k, n)(0.95), truth)


def difference_cell(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
    """Simulate the difference from a control at zero, paired by seed."""
    k, n, truth = simulate(cell, studies, generator)
    return _found(*difference_limits((k, n), (np.zeros_like(k), n), cell.runs)[1](0.95), truth)


def corrected_cell(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
    """Simulate the rate corrected for a judge that errs, with labels of 100 misaligned and 200 aligned answers."""
    k, n, truth = simulate(cell, studies, generator)
    judged_bad = generator.binomial(k, SENSITIVITY) + generator.binomial(n - k, 1 - SPECIFICITY)
    low, high = run_limits(judged_bad, n)(0.95)
    caught, passed = (
        generator.binomial(LABELLED_BAD, SENSITIVITY, studies),
        generator.binomial(LABELLED_GOOD, SPECIFICITY, studies),
    )
    limits = [
        corrected_rate(
            (int(judged_bad[study].sum()), int(n[study].sum())),
            (int(caught[study]), LABELLED_BAD),
            (int(passed[study]), LABELLED_GOOD),
            uncorrected=Interval(float(low[study]), float(high[study]), 0.95, "over runs"),
        )[1]
        for study in range(studies)
    ]
    return _found(np.array([one.low for one in limits]), np.array([one.high for one in limits]), truth)


MEASURES = {"over runs": over_runs_cell, "difference from 0": difference_cell, "corrected": corrected_cell}


def _found(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> Found:
    too_low, too_high = high < truth - 1e-12, low > truth + 1e-12
    return Found(
        1 - float(np.mean(too_low | too_high)),
        float(np.mean(high - low)),
        float(np.mean(too_low)),
        float(np.mean(too_high)),
    )


def rows(studies: int, every: int) -> list[tuple[str, Cell, Found]]:
    """Return the cells with what was found, worst first; differences and corrected rates where no verdict failed."""
    found = []
    for number, cell in enumerate(itertools.islice(grid(), None, None, every)):
        generator = np.random.default_rng(number)
        for name, measure in MEASURES.items():
            if name == "over runs" or not cell.failed:
                found.append((name, cell, measure(cell, studies, generator)))
        print(f"{number}: {cell}", file=sys.stderr, flush=True)
    return sorted(found, key=lambda row: -row[2].worst)


def table(found: list[tuple[str, Cell, Found]]) -> str:
    """Return a Markdown table."""
    lines = [
        (
            "| interval | runs | questions x answers | rate | spread | ICC | failed | coverage | mean width | upper "
            "too low | lower too high |"
        ),
        "|---" * 11 + "|",
    ]
    for name, cell, one in found:
        design = (
            f"{name} | {cell.runs} | {cell.questions} x {cell.samples} | {cell.rate:.1%} | {cell.spread} | "
            f"{cell.icc} | {cell.failed:.0%}"
        )
        lines.append(
            f"| {design} | {one.coverage:.1%} | {one.width:.2%} | {one.wrong_at_most:.1%} | {one.wrong_at_least:.1%} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES, help="simulated studies a cell")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th cell of the grid")
    parser.add_argument("--out", type=Path, help="file for the whole table; without it the 25 worst cells are printed")
    given = parser.parse_args()
    found = rows(given.studies, given.every)
    if given.out:
        given.out.write_text(table(found) + "\n", encoding="utf-8")
    print(table(found[:25]))
    above = sum(one.worst > 0.05 for _, _, one in found)
    print(f'{len(found)} cells of {given.studies} studies; a wrong "held" in more than 5% in {above} of them. '
        'Monte-Carlo error at 5%: '
        f"{np.sqrt(0.05 * 0.95 / given.studies):.1%}.")  # fmt: skip


if __name__ == "__main__":
    main()
