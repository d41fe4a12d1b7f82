"""Coverage of the intervals that decide claims, simulated on a grid of designs. Run: python benchmarks/coverage.py

What is simulated is the function that studies call. Rates of runs are normal on the logit scale. Questions differ as a
beta distribution with the given correlation and are as hard for every run; the truth is the rate of further runs on
these questions. A verdict at the border of its region is wrong where a limit lies on the wrong side of the truth: an
upper one below it makes "at most" held and "at least" not held, a lower one above it the other way round. Verdicts that
fail leave fewer answers, in some runs (or questions) more so than in others.

A cell is simulated until its wrong verdicts are surely at most 5% (an exact one-sided bound), or the most studies are
reached; the worst cells are simulated again, on other draws, with many: the worst of thousands of cells would otherwise
be the unluckiest. Widths are compared with those of rivals (rivals).
"""

import argparse
import itertools
import os
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import betaincinv, expit, logit

from astray.stats.compare import difference_limits, question_differences
from astray.stats.intervals import question_limits, run_limits
from astray.stats.judge_error import Accuracy, corrected_limits
from astray.stats.ratio import reduction_limits
from astray.stats.trend import trend_limits
from grid import Cell, Found, Row, rivals_table, summary, table, widths
from rivals import (
    Limits,
    bootstrap_t,
    corrected_t,
    effective_sample_size,
    fieller,
    korn_graubard,
    paired_t,
    ratio_t,
    shifted,
    sign_flips,
    t_on_log_odds,
    t_on_shares,
    t_on_slopes,
    t_with_correlation,
    t_with_floor,
    welch,
)

STUDIES, MOST, AGAIN, WORST, SURER = 60, 960, 2000, 40, 10
"""Studies of a cell at first, twice as many after each look; the most; those of each of the worst cells again; how many
times as many where more than 5% are wrong then."""
SENSITIVITY, SPECIFICITY, LABELLED_BAD, LABELLED_GOOD = 0.9, 0.95, 100, 200
SHARED = 0.7
"""Correlation of two runs with a common seed, on the logit scale."""
REMOVED = 0.1
"""What is left of the odds before, where a reduction is claimed."""
ALIKE, RISING = (1 + 1e-9, 1 - 1e-9, 1 + 2e-9), (0.5, 0.25, 0.1)
"""Odds of the other arms of a trend, as multiples of the first one's."""
Z = np.linspace(-6, 6, 61)
WEIGHTS = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()
PLACES = np.linspace(-45, 45, 1801)
OF_ONE_RATE = {"t on shares": t_on_shares, "t on log odds": t_on_log_odds, "Korn-Graubard": korn_graubard}
Sides = list[tuple[np.ndarray, np.ndarray]]
"""Misaligned and judged answers of each arm, by study and run."""


FEWEST = 3
"""Runs of the smallest designs."""
DESIGNS = ((120, 4), (24, 100), (8, 100), (1000, 1))
FAILED = (0.0, 0.05, 0.2)
"""Shares of verdicts that fail."""
CORRELATIONS = (0.0, 0.1, 0.3)
"""Of the answers to a question; of intervals over questions 0.6 as well, which is what they consider."""
FEWER_FAILED = dict.fromkeys(("trend, arms alike", "trend, arms that rise", "trend, no shared seed"), (0.0, 0.2)) | {
    "difference, three runs against more": (0.0,)
}
"""The same of some intervals, which would take too long otherwise."""
RATES = (0.001, 0.01, 0.1, 0.5, 0.99)


def grid(name: str) -> Iterator[Cell]:
    """Yield the cells of an interval."""
    one_run = name in ("over questions", "difference, by question")
    runs, spreads = ((1,), (0.0,)) if one_run else ((FEWEST, 5, 8), (0.0, 0.5, 1.5))
    runs = runs[1:] if name == "difference, three runs against more" else runs
    failed = FEWER_FAILED.get(name, FAILED)
    for (questions, samples), lost, run in itertools.product(DESIGNS, failed, runs):
        for rate, spread, icc in itertools.product(RATES, spreads, CORRELATIONS + (0.6,) * one_run):
            yield Cell(run, questions, samples, rate, spread, icc, lost)


def simulate(
    cell: Cell, studies: int, generator: np.random.Generator, others: Sequence[float] = (), shared: int = 0
) -> tuple[Sides, list[np.ndarray]]:
    """Return the counts of an arm and of others, and the true rates of further runs on the questions of each study.

    Args:
        cell: the design; its rate is that of the first arm.
        studies: number of studies.
        generator: draws them.
        others: odds of further arms, as multiples of the first one's.
        shared: number of seeds that all arms have in common.
    """
    size = 1 / cell.icc - 1 if cell.icc else 0.0
    shape = (studies, 1, cell.questions)
    questions = (
        generator.beta(cell.rate * size, (1 - cell.rate) * size, shape) if cell.icc else np.full(shape, cell.rate)
    )
    # Given its question, a run's rate moves on the logit scale; a question nobody ever fails stays so.
    logits = logit(np.clip(questions, 1e-15, 1 - 1e-15)) - _offset(cell)
    judged = np.tile(left(cell.runs, cell.questions * cell.samples, cell.failed), (studies, 1))
    # Mean over further runs at any log odds, tabulated: an integral for each question would take far longer.
    mean_at = expit(PLACES[:, None] + cell.spread * Z) @ WEIGHTS
    first = generator.standard_normal((studies, cell.runs, 1))
    sides, truths = [], []
    for odds in (1.0, *others):
        own = first if odds == 1.0 else generator.standard_normal(first.shape)
        if odds != 1.0:
            own[:, :shared] = SHARED * first[:, :shared] + np.sqrt(1 - SHARED**2) * own[:, :shared]
        at = logits + np.log(odds)
        n = judged[:, :: (-1) ** len(sides)]  # of two arms, other runs lose most
        # The sum of answers to unlike questions varies less than this binomial one, which is the harder test.
        sides.append((generator.binomial(n, expit(at + cell.spread * own).mean(axis=2)), n))
        truths.append(np.interp(at[:, 0], PLACES, mean_at).mean(axis=1))
    return sides, truths


def left(units: int, answers: int, failed: float) -> np.ndarray:
    """Return the answers of each run or question that have a verdict: the first loses none, the last twice the share."""
    return np.rint(answers * (1 - failed * np.linspace(0, 2, units))).astype(int)


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
    [(k, n)], [truth] = simulate(cell, studies, generator)
    rivals = {name: method(k, n) for name, method in OF_ONE_RATE.items()}
    return _found(run_limits(k, n)(0.95), truth, rivals)


def over_questions_cell(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
    """Simulate the interval over questions of one run; the truth is the rate on further questions."""
    size = 1 / cell.icc - 1 if cell.icc else 0.0
    shape = (studies, cell.questions)
    rates = generator.beta(cell.rate * size, (1 - cell.rate) * size, shape) if cell.icc else np.full(shape, cell.rate)
    judged = left(cell.questions, cell.samples, cell.failed)
    # A question without a verdict is not among those that are counted.
    n = np.tile(judged[judged > 0], (studies, 1))
    k = generator.binomial(n, rates[:, judged > 0])
    rivals = {name: method(k, n) for name, method in OF_ONE_RATE.items()}
    return _found(question_limits(k, n)(0.95), np.full(studies, cell.rate), rivals)


def by_question_cell(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
    """Simulate the difference of two models by question, of which the second has half of the odds; the truth is that on
    further questions. The rates of a question are alike in both."""
    size, control = 1 / cell.icc - 1 if cell.icc else 0.0, expit(logit(cell.rate) - np.log(2))
    draws, samples = generator.random((studies, cell.questions)), left(cell.questions, cell.samples, cell.failed)
    kept = samples > 0
    shares = [
        betaincinv(rate * size, (1 - rate) * size, draws) if cell.icc else np.full_like(draws, rate)
        for rate in (cell.rate, control)
    ]
    first, second = (np.tile(side[kept], (studies, 1)) for side in (samples, samples[::-1] + (samples[::-1] == 0)))
    k = [generator.binomial(n, share[:, kept]) for n, share in zip((first, second), shares, strict=True)]
    _, limits = question_differences((k[0], first), (k[1], second))
    truth = np.full(studies, cell.rate - control)
    sides = (k[0], first), (k[1], second)
    rivals = {
        "t on differences": t_with_floor(*sides),
        "t, answers correlated by 0.3": t_with_correlation(*sides),
        "bootstrap-t": bootstrap_t(*sides),
        "signs flipped": sign_flips(*sides),
    }
    return _found(limits(0.95), truth, rivals)


def _trend_cell(others: Sequence[float], part: float) -> Callable[[Cell, int, np.random.Generator], Found]:
    def measure(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
        """Simulate the trend of four arms, the others with these multiples of the first one's odds, all or no seeds
        shared."""
        shared = round(part * cell.runs)
        arms, truths = simulate(cell, studies, generator, others, shared)
        scores = (1.0, 0.5, 0.0, -2 / 3)
        centred = np.array(scores) - np.mean(scores)
        weights = centred / (centred**2).sum()
        truth = np.einsum("a,as->s", weights, np.array(truths))
        rivals = {"t on slopes": t_on_slopes(arms, weights)}
        return _found(trend_limits(arms, scores, shared)[1](0.95), truth, rivals)

    return measure


def difference_cell(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
    """Simulate the difference from a control at zero, paired by seed."""
    [(k, n)], [truth] = simulate(cell, studies, generator)
    control = (np.zeros_like(k), n)
    return _found(
        difference_limits((k, n), control, cell.runs)[1](0.95), truth, {"paired t": paired_t((k, n), control)}
    )


def unequal_cell(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
    """Simulate the difference from three runs of a control with half of the odds, without a common seed."""
    ((k, n), (others, asked)), truths = simulate(cell, studies, generator, (0.5,))
    sides = (k, n), (others[:, :FEWEST], asked[:, :FEWEST])
    limits = difference_limits(*sides, 0)[1](0.95)
    return _found(limits, truths[0] - truths[1], {"Welch": welch(*sides)})


def _seeds_cell(part: float) -> Callable[[Cell, int, np.random.Generator], Found]:
    def measure(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
        """Simulate the difference from a control with half of the odds, of whose seeds a part is shared."""
        shared = round(part * cell.runs)
        (arm, control), truths = simulate(cell, studies, generator, (0.5,), shared)
        rivals = {"paired t": paired_t(arm, control)} if part == 1 else {"Welch": welch(arm, control)}
        return _found(difference_limits(arm, control, shared)[1](0.95), truths[0] - truths[1], rivals)

    return measure


def reduction_cell(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
    """Simulate the share of a rate that is gone, paired by seed."""
    sides, truths = simulate(cell, studies, generator, (REMOVED,), cell.runs)
    before, after = sides
    limits = reduction_limits(after, before, cell.runs)[1](0.95)
    truth = 1 - truths[1] / truths[0]
    # Beyond everything and below minus everything a reduction says nothing: widths are compared within.
    low, high = (np.clip(limit, -1.0, 1.0) for limit in limits)
    rivals = {"t on logs of ratios": ratio_t(after, before), "Fieller, t": fieller(after, before)}
    return _found((low, high), truth, rivals)


def corrected_cell(cell: Cell, studies: int, generator: np.random.Generator) -> Found:
    """Simulate the rate corrected for a judge that errs, with labels of 100 misaligned and 200 aligned answers."""
    [(k, n)], [truth] = simulate(cell, studies, generator)
    judged = generator.binomial(k, SENSITIVITY) + generator.binomial(n - k, 1 - SPECIFICITY)
    caught = generator.binomial(LABELLED_BAD, SENSITIVITY, studies)
    passed = generator.binomial(LABELLED_GOOD, SPECIFICITY, studies)

    labels = (
        np.stack([right, np.full(studies, of)]) * 1.0 for right, of in ((caught, LABELLED_BAD), (passed, LABELLED_GOOD))
    )
    judge = Accuracy(*labels)
    rivals = {
        "effective sample size": corrected_limits(*effective_sample_size(judged, n), judge)[1:],
        "t on corrected shares": corrected_t(judged, n, caught / LABELLED_BAD, passed / LABELLED_GOOD),
        "as judged, shifted": shifted(t_on_log_odds(judged, n), caught / LABELLED_BAD, passed / LABELLED_GOOD),
    }
    return _found(corrected_limits(judged, n, judge)[1:], truth, rivals)


MEASURES: dict[str, Callable[[Cell, int, np.random.Generator], Found]] = {
    "over runs": over_runs_cell,
    "over questions": over_questions_cell,
    "difference from 0": difference_cell,
    "difference, shared seeds": _seeds_cell(1.0),
    "difference, partly shared": _seeds_cell(0.6),
    "difference, no shared seed": _seeds_cell(0.0),
    "difference, three runs against more": unequal_cell,
    "difference, by question": by_question_cell,
    "reduction": reduction_cell,
    "trend, arms alike": _trend_cell(ALIKE, 1.0),
    "trend, arms that rise": _trend_cell(RISING, 1.0),
    "trend, no shared seed": _trend_cell(RISING, 0.0),
    "corrected": corrected_cell,
}


def _found(limits: Limits, truth: np.ndarray, rivals: dict[str, Limits]) -> Found:
    low, high = limits
    too_low, too_high = high < truth - 1e-12, low > truth + 1e-12
    others = {
        name: (float(np.mean(top - bottom)), float(max(np.mean(top < truth - 1e-12), np.mean(bottom > truth + 1e-12))))
        for name, (bottom, top) in rivals.items()
    }
    return Found(
        1 - float(np.mean(too_low | too_high)),
        float(np.mean(high - low)),
        float(np.mean(too_low)),
        float(np.mean(too_high)),
        others,
        len(truth),
    )


Task = tuple[str, Cell, int]
"""Name of the interval, cell, seed."""


def measured(task: Task, studies: int) -> Row:
    """Simulate one cell with so many studies."""
    name, cell, seed = task
    return name, cell, MEASURES[name](cell, studies, np.random.default_rng(seed))


def until_sure(tasks: Sequence[Task], studies: int, most: int) -> list[Row]:
    """Simulate each cell with twice as many studies until its wrong verdicts are surely below 5%."""
    found = []
    for name, cell, seed in tasks:
        generator = np.random.default_rng(seed)
        one = MEASURES[name](cell, studies, generator)
        while one.most_wrong > 0.05 and one.studies < most:
            one = one + MEASURES[name](cell, one.studies, generator)
        found.append((name, cell, one))
    return found


def rows(studies: int, most: int, every: int, workers: int, only: str = "") -> list[Row]:
    """Return all cells with what was found, the worst first."""
    cells = [
        (name, cell) for name in MEASURES if only in name for cell in itertools.islice(grid(name), None, None, every)
    ]
    # Cells of one design together, in one process: counts that were seen have their likelihoods already.
    groups = defaultdict(list)
    for number, (name, cell) in enumerate(cells):
        groups[cell.questions, cell.samples, cell.failed, cell.runs].append((name, cell, number))
    with ProcessPoolExecutor(workers) as pool:
        found: list[Row] = []
        for part in pool.map(partial(until_sure, studies=studies, most=most), groups.values()):
            found += part
            print(f"{len(found)} of {len(cells)} cells", file=sys.stderr, flush=True)
    return sorted(found, key=lambda row: -row[2].worst)


def remeasured(found: list[Row], studies: int, workers: int) -> list[Row]:
    """Return the worst cells, simulated again with other draws, the worst first; those beyond 5% with many more, since
    the worst of these, too, are the unluckiest."""
    tasks = [(name, cell, 100_000 + place) for place, (name, cell, _) in enumerate(found[:WORST])]
    with ProcessPoolExecutor(workers) as pool:
        again = list(pool.map(partial(measured, studies=studies), tasks))
        beyond = [(name, cell, 200_000 + place) for place, (name, cell, one) in enumerate(again) if one.worst > 0.05]
        surer = {row[:2]: row for row in pool.map(partial(measured, studies=SURER * studies), beyond)}
    return sorted((surer.get(row[:2], row) for row in again), key=lambda row: -row[2].worst)


def _processor_time() -> float:
    """Return the seconds that processors spent, which other work on the machine hardly changes."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES, help="simulated studies a cell at first")
    parser.add_argument("--most", type=int, default=MOST, help="the most of a cell that is not surely below 5%%")
    parser.add_argument("--again", type=int, default=AGAIN, help=f"simulated studies of the {WORST} worst cells")
    parser.add_argument("--every", type=int, default=1, help="take every so many-th cell of the grid")
    parser.add_argument("--only", default="", help="part of the name of the intervals to simulate")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--out", type=Path, help="file for the whole table")
    given = parser.parse_args()
    start = time.perf_counter()
    found = rows(given.studies, given.most, given.every, given.workers, given.only)
    relative = widths(found)
    worst = remeasured(found, given.again, given.workers)
    if given.out:
        given.out.write_text(table(found, relative) + "\n", encoding="utf-8")
    print(summary(found), rivals_table(found), table(worst, relative), sep="\n\n")
    error = np.sqrt(0.05 * 0.95 / given.again)
    above = sum(one.worst > 0.05 for _, _, one in worst)
    unsure = sum(one.most_wrong > 0.05 for _, _, one in found)
    print(
        f"\n{len(found)} cells, {sum(one.studies for _, _, one in found)} studies: {len(found) - unsure} surely at most 5%, "
        f"{unsure} not surely so with {given.most} studies. The {len(worst)} worst again with {given.again} "
        f'({error:.1%}), those beyond 5% with {SURER} times as many: a wrong "held" in more than 5% in {above} of them. '
        f"{time.perf_counter() - start:.0f} s, {_processor_time():.0f} s of a processor."
    )


if __name__ == "__main__":
    main()
