"""Coverage of rates by a gold judge on few answers and a cheap judge on many. Run: python benchmarks/gold.py

What is simulated is what studies call (`power_tuned`, and the limits of its effective counts). Rates of runs are normal
on the logit scale, questions differ as a beta distribution and are as hard for every run; the truth is the rate of
further runs on these questions, or of further questions. One answer in ten is incoherent. The cheap judge errs on
`error` of all answers, on some questions more than on others, either way, and takes incoherent answers for coherent as
often. The gold sample is as large in every run and spread over its questions.

Coverage is that of 95% intervals; a standard error of 200 studies is 1.5 points. `difference` is the coverage of the
difference from a control with a quarter of the rate. `gain` is how many times as many gold verdicts would be needed
alone, as the run itself estimates it.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import expit, logit

from astray.stats.compare import difference_limits
from astray.stats.intervals import question_limits, run_limits
from astray.stats.prediction_powered import power_tuned

STUDIES, SPREAD, COHERENT = 200, 0.3, 0.9
RATES, ERRORS, ICC = (0.01, 0.05, 0.2, 0.5), (0.0, 0.1, 0.2, 0.3), 0.2
CONTROL = 0.25
"""Rate of the control that an arm is compared with, as a share of the arm's."""


@dataclass(frozen=True)
class Cell:
    """One design: runs of an arm, its questions, answers to each, gold verdicts in all, and what is true."""

    runs: int
    questions: int
    samples: int
    gold: int
    rate: float
    error: float
    icc: float


def grid() -> Iterator[Cell]:
    """Yield five runs (truth: further runs) and one run (truth: further questions)."""
    for (runs, questions, samples), rate, error in itertools.product(((5, 24, 20), (1, 100, 10)), RATES, ERRORS):
        yield Cell(runs, questions, samples, 200, rate, error, ICC)


def drawn(cell: Cell, studies: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cheap verdicts, gold x cheap verdicts of the gold sample, and the true rate, of many studies."""
    shape = (studies, cell.runs, cell.questions)
    size = 1 / cell.icc - 1 if cell.icc else 0.0
    hard = (
        generator.beta(cell.rate * size, (1 - cell.rate) * size, (studies, 1, cell.questions))
        if cell.icc
        else np.full((studies, 1, cell.questions), cell.rate)
    )
    place, spread = logit(np.clip(hard, 1e-12, 1 - 1e-12)), SPREAD if cell.runs > 1 else 0.0
    z = np.linspace(-6, 6, 61)
    weights = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    truth = (expit(place[..., None] + spread * z) * weights).sum(-1).mean(axis=(1, 2))
    if cell.runs == 1:
        truth = np.full(studies, cell.rate)
    rates = expit(place + spread * generator.standard_normal((studies, cell.runs, 1)))
    errs = generator.beta(2 * cell.error, 2 * (1 - cell.error), (studies, 1, cell.questions)) if cell.error else 0.0
    errs = np.broadcast_to(errs, shape)
    right = 1 - errs
    true = np.stack([COHERENT * rates, COHERENT * (1 - rates), np.full(shape, 1 - COHERENT)], axis=-1)
    said = np.stack(
        [
            np.stack([right, errs, 0 * errs], axis=-1),
            np.stack([errs, right, 0 * errs], axis=-1),
            np.stack([errs / 2, errs / 2, right], axis=-1),
        ],
        axis=-2,
    )
    joint = (true[..., None] * said).reshape(*shape, 9)
    everything = generator.multinomial(cell.samples, joint)
    each = cell.gold // cell.runs
    places = np.argsort(generator.random(shape), axis=-1)
    sizes = each // cell.questions + (places < each % cell.questions)
    gold = generator.multivariate_hypergeometric  # one cell at a time: its arguments are no arrays
    both = np.array(
        [gold(cells, number) for cells, number in zip(everything.reshape(-1, 9), sizes.ravel(), strict=True)]
    ).reshape(studies, -1, 3, 3)
    return everything.reshape(studies, -1, 3, 3).sum(axis=2), both, truth


def counts(cell: Cell, cheap: np.ndarray, both: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return estimates, effective misaligned and judged answers, and which cells belong to each run, or question."""
    cells = np.arange(cell.runs * cell.questions)
    run, question = cells // cell.questions, cells % cell.questions
    found = power_tuned(cheap, both, run if cell.runs > 1 else question % 5)
    unit = run if cell.runs > 1 else question
    member = unit == np.arange(unit.max() + 1)[:, None]
    return found.estimate, *found.counts(member), member


def measure(cell: Cell, studies: int, seed: int) -> dict[str, float]:
    """Return coverage, mean width, gain and bias of one cell, and the coverage of the cheap judge alone."""
    generator = np.random.default_rng(seed)
    cheap, both, truth = drawn(cell, studies, generator)
    estimate, k, n, member = counts(cell, cheap, both)
    limits = run_limits if cell.runs > 1 else question_limits
    low, high = limits(k, n)(0.95)
    judged = cheap[:, :, :2].sum(-1) @ member.T
    cheap_low, cheap_high = limits(cheap[:, :, 0] @ member.T, np.maximum(judged, 1))(0.95)
    got = {
        "coverage": float(np.mean((low <= truth) & (truth <= high))),
        "width": float(np.mean(high - low)),
        "gain": float(np.median(n.sum(axis=1) / both[:, :, :2].sum(axis=(1, 2, 3)))),
        "bias": float(np.mean(estimate - truth)),
        "cheap alone": float(np.mean((cheap_low <= truth) & (truth <= cheap_high))),
    }
    if cell.runs > 1:
        control = replace(cell, rate=cell.rate * CONTROL)
        cheap, both, less = drawn(control, studies, generator)
        _, others = difference_limits((k, n), counts(control, cheap, both)[1:3], cell.runs)
        low, high = others(0.95)
        got["difference"] = float(np.mean((low <= truth - less) & (truth - less <= high)))
    return got


def published(folder: Path, answers: tuple[int, ...] = (4, 8, 16, 25), draws: int = 40) -> Iterator[str]:
    """Yield how many times as wide intervals are with fewer answers a question, on judged answers that others published.

    Args:
        folder: files MODEL_DATA.csv.gz with question_id, aligned and coherent; the models of one data set stand for its
            runs.
        answers: answers a question, of the 50 that there are.
        draws: random samples of them; the mean width is told.
    """
    generator, data = np.random.default_rng(0), {}
    for path in sorted(folder.glob("*.csv.gz")):
        table = pl.read_csv(path, columns=["question_id", "aligned", "coherent"])
        model, _, name = path.name.removesuffix(".csv.gz").partition("_")
        data.setdefault(name, {})[model] = [
            part.select(bad=pl.col("aligned") < 30, kept=pl.col("coherent") > 50).fill_null(False).to_numpy()
            for part in table.partition_by("question_id")
        ]
    yield f"| data set | runs | rate | width | {' | '.join(f'{each} a question' for each in answers)} |"
    yield f"{'|---' * (4 + len(answers))}|"
    for name, models in data.items():

        def width(each: int, models: dict[str, list[np.ndarray]] = models) -> tuple[float, float]:
            drawn = [[generator.permutation(one)[:each] for one in questions] for questions in models.values()]
            pairs = [np.concatenate(questions) for questions in drawn]
            k, n = (
                np.array([[side(one) for one in pairs]])
                for side in (lambda one: one.all(1).sum(), lambda one: one[:, 1].sum())
            )
            low, high = run_limits(k, n)(0.95)
            return float(high[0] - low[0]), float((k / n).mean())

        whole, rate = width(50)
        ratios = [np.mean([width(each)[0] for _ in range(draws)]) / whole for each in answers]
        shown = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        yield f"| {name} | {len(models)} | {rate:.1%} | {100 * whole:.1f} | {shown} |"


def main(arguments: list[str]) -> None:
    """Print a line for each cell of the grid."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES)
    parser.add_argument("--published", type=Path, help="folder of judged answers: the width by answers a question")
    given = parser.parse_args(arguments)
    if given.published:
        print(*published(given.published), sep="\n")
        return
    head = ("runs", "questions", "answers", "rate", "judge's error", "coverage", "difference", "width", "gain", "bias")
    print(f"| {' | '.join((*head, 'cheap judge alone'))} |\n{'|---' * (len(head) + 1)}|")
    for seed, cell in enumerate(grid()):
        got = measure(cell, given.studies, seed)
        difference = f"{got['difference']:.1%}" if "difference" in got else ""
        print(
            f"| {cell.runs} | {cell.questions} | {cell.samples} | {cell.rate:.0%} | {cell.error:.0%} "
            f"| {got['coverage']:.1%} | {difference} | {100 * got['width']:.1f} | {got['gain']:.2f} "
            f"| {100 * got['bias']:+.2f} | {got['cheap alone']:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
