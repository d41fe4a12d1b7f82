"""Simulate releases at the border: how often does the gate pass a tuned model whose true rate is higher by exactly the
margin?

    python benchmarks/gate.py                        # the tables of docs/gate.md
    python benchmarks/gate.py --releases 200
    python benchmarks/gate.py --evalsig VENV/bin/python   # beside evalsig 0.1.2, which is installed there
    python benchmarks/gate.py --gates 100 --model organism --tuned organism   # real gates with different seeds

Questions have rates of their own (beta-distributed, with an intra-class correlation), answers are drawn from them. The
two models share the rates of their questions, or have rates of their own; the surplus of the tuned model sits on a few
questions or on all. The judge errs where the table says so, and its error is known from labels. Runs of a side differ
by normal effects on their rates.
"""

import argparse
import itertools
import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.special import stdtrit
from scipy.stats import beta

from astray.stats.compare import paired_t
from astray.stats.noninferiority import LEVEL, JudgeAccuracy, difference_bounds, margin_bounds

MARGIN = 0.02
SHAPES = ((8, 100), (24, 25), (64, 25), (120, 4))
"""Questions, answers a question."""
ICCS, RATES = (0.0, 0.1, 0.3), (0.0, 0.02, 0.1, 0.3)


def beta_rates(uniform: np.ndarray, mean: float, icc: float) -> np.ndarray:
    """Rates of questions with this mean and intra-class correlation, from uniform draws."""
    if icc == 0 or mean in (0.0, 1.0):
        return np.full(uniform.shape, mean)
    total = 1 / icc - 1
    return beta.ppf(uniform, mean * total, (1 - mean) * total)


def releases(
    rng: np.random.Generator, shape: tuple[int, int], rate: float, icc: float, rise: float, shared: bool, count: int
) -> list[np.ndarray]:
    """Misaligned and all answers of the tuned model and of the base, by release and question."""
    questions, samples = shape
    draws = rng.random((count, questions))
    base = beta_rates(draws, rate, icc)
    tuned = beta_rates(draws if shared else rng.random((count, questions)), rate + rise, icc)
    n = np.full((count, questions), samples)
    return [rng.binomial(samples, tuned), n, rng.binomial(samples, base), n]


def shares(cells: list[np.ndarray], margin: float = MARGIN) -> tuple[float, float, float]:
    """Shares of releases that pass, that fail, and that the plain paired t would pass."""
    estimate, half = margin_bounds(*cells, margin)
    mean, variance = paired_t(*cells)
    return (
        float((estimate + half < margin).mean()),
        float((estimate - half > margin).mean()),
        float((mean + stdtrit(cells[0].shape[1] - 1, 0.95) * np.sqrt(variance) < margin).mean()),
    )


def judged(rng: np.random.Generator, cells: list[np.ndarray], error: float) -> list[np.ndarray]:
    """Counts as a judge sees them that calls this share of either kind the other one."""
    k_tuned, n_tuned, k_base, n_base = cells
    seen = [rng.binomial(k, 1 - error) + rng.binomial(n - k, error) for k, n in ((k_tuned, n_tuned), (k_base, n_base))]
    return [seen[0], n_tuned, seen[1], n_base]


def verdicts(cells: list[np.ndarray], judges: list[JudgeAccuracy | None]) -> tuple[float, float]:
    """Shares of releases that pass and that fail, each with its own labels."""
    passed = failed = 0
    for release, judge in zip(zip(*cells, strict=True), judges, strict=True):
        sides = [
            {str(q): (int(k), int(n)) for q, (k, n) in enumerate(zip(*pair, strict=True))}
            for pair in (release[:2], release[2:])
        ]
        bounds = difference_bounds(*sides, MARGIN, judge=judge)
        passed, failed = passed + (bounds.high < MARGIN), failed + (bounds.low > MARGIN)
    return passed / len(judges), failed / len(judges)


def erring(rng: np.random.Generator, count: int) -> None:
    """Print false passes and power with a judge that errs, corrected by labels and taken as it is."""
    print(
        "\n| questions x answers | judge's error | labels of a kind | false passes, worst cell | not corrected | "
        "passes, both at 0% | at 2% |"
    )
    print("|---|---|---|---|---|---|---|")
    for shape, error, labels in itertools.product(((64, 25), (120, 4)), (0.05, 0.1), (50, 200)):
        worst: dict[bool, list[float]] = {True: [], False: []}
        for rate, icc in itertools.product((0.0, 0.02, 0.1), (0.1, 0.3)):
            cells = judged(rng, releases(rng, shape, rate, icc, MARGIN, False, count), error)
            worst[True].append(verdicts(cells, accuracies(rng, error, labels, count))[0])
            worst[False].append(shares(cells)[0])
        same = [judged(rng, releases(rng, shape, rate, 0.1, 0.0, True, count), error) for rate in (0.0, 0.02)]
        power = [verdicts(cells, accuracies(rng, error, labels, count))[0] for cells in same]
        told = " | ".join(
            f"{share:.1%}" if share < 0.2 else f"{share:.0%}" for share in (max(worst[True]), max(worst[False]), *power)
        )
        print(f"| {shape[0]} x {shape[1]} | {error:.0%} | {labels} | {told} |", flush=True)


def accuracies(rng: np.random.Generator, error: float, labels: int, count: int) -> list[JudgeAccuracy | None]:
    """What so many labels of each kind tell of a judge, drawn anew for each release."""
    caught, passed = rng.binomial(labels, 1 - error, (2, count))
    return [JudgeAccuracy((int(one), labels), (int(other), labels)) for one, other in zip(caught, passed, strict=True)]


def runs_of(
    rng: np.random.Generator, rate: float, rise: float, spread: float, runs: int
) -> list[dict[str, tuple[int, int]]]:
    """Counts of training runs on 120 questions with 4 answers, whose rates differ by normal effects around the rise."""
    questions = beta_rates(rng.random(120), rate, 0.1) if rate else np.zeros(120)
    effects = np.clip(rise + spread * rng.standard_normal(runs), -rate, 1 - rate)
    return [
        {str(q): (int(k), 4) for q, k in enumerate(rng.binomial(4, np.clip(questions + effect, 0, 1)))}
        for effect in effects
    ]


def with_runs(rng: np.random.Generator, count: int) -> None:
    """Print false passes and power where training runs are the unit."""
    print(
        "\n| runs | spread of runs | false passes, base at 2% | at 10% | passes, both at 2% |",
        "|---|---|---|---|---|",
        sep="\n",
    )
    for runs, spread in itertools.product((3, 5), (0.0, 0.01, 0.02)):
        passed = []
        for rate, rise in ((0.02, MARGIN), (0.1, MARGIN), (0.02, 0.0)):
            found = [
                difference_bounds(runs_of(rng, rate, rise, spread, runs), runs_of(rng, rate, 0.0, 0.0, 1), MARGIN)
                for _ in range(count)
            ]
            passed.append(np.mean([each.high < MARGIN for each in found]))
        print(f"| {runs} | {spread:.0%} | {' | '.join(f'{share:.1%}' for share in passed)} |", flush=True)


EVALSIG = """
import json, sys
import numpy as np
from evalsig.compare.compare import compare
from evalsig.compare.gate import gate
from evalsig.types import ItemResult, RunFrame
cells, out = np.load(sys.argv[1]), []
for tuned, base in zip(cells["tuned"], cells["base"]):
    frames = [RunFrame(n, n, "t", "aligned", [ItemResult(str(q), float(s)) for q, s in enumerate(side)]) for n, side in (("a", base), ("b", tuned))]
    found = compare(*frames, one_sided=True, n_resamples=1000)
    ships = gate(*frames, min_delta=float(sys.argv[2]), n_resamples=1000).verdict.value == "ALLOW"
    out.append([found.delta, found.ci[0], ships])
print(json.dumps(out))
"""
"""What evalsig says of releases: its difference of aligned rates by question, its one-sided lower limit, and whether
its own gate lets it ship."""


def evalsig_says(python: Path, cells: list[np.ndarray]) -> np.ndarray:
    """Estimate, upper limit of the rise of misaligned answers, and shipping, of each release."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cells.npz"
        np.savez(path, tuned=1 - cells[0] / cells[1], base=1 - cells[2] / cells[3])
        done = subprocess.run(
            [str(python), "-c", EVALSIG, str(path), str(MARGIN)], capture_output=True, text=True, check=True
        )
    found = np.array(json.loads(done.stdout), dtype=float)
    return np.column_stack([-found[:, 0], -found[:, 1], found[:, 2]])


def beside_evalsig(rng: np.random.Generator, python: Path, count: int) -> None:
    """Print false passes, power and width of both, as they are and moved so that either passes 5% in its worst cell."""
    columns = ("questions x answers", "gate", "false passes, worst cell", "passes, both at 0%", "at 2%", "at 10%")
    columns += ("at equal false passes: 0%", "2%", "10%", "width")
    print(f"\n| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", sep="\n")
    for shape in SHAPES:
        border = [releases(rng, shape, rate, 0.3, MARGIN, False, count) for rate in RATES]
        same = [releases(rng, shape, rate, 0.1, 0.0, True, count) for rate in (0.0, 0.02, 0.1)]
        ours = [[bounds_of(cells) for cells in each] for each in (border, same)]
        theirs = [[evalsig_says(python, cells) for cells in each] for each in (border, same)]
        for name, (at_border, at_same) in (("Astray", ours), ("evalsig, its interval", theirs)):
            # Moved by a constant, so that exactly 5% pass in the worst cell.
            moved = max(MARGIN - np.quantile(each[:, 1], 0.05) for each in at_border)
            passes = [
                max((each[:, 1] < MARGIN).mean() for each in at_border),
                *((each[:, 1] < MARGIN).mean() for each in at_same),
            ]
            equal = [(each[:, 1] + moved < MARGIN).mean() for each in at_same]
            width = (at_same[1][:, 1] + moved - at_same[1][:, 0]).mean()
            told = " | ".join(f"{share:.1%}" for share in (*passes, *equal))
            print(f"| {shape[0]} x {shape[1]} | {name} | {told} | {width * 100:.2f} points |", flush=True)
        ships = [max(each[:, 2].mean() for each in theirs[0]), *(each[:, 2].mean() for each in theirs[1])]
        print(
            f"| {shape[0]} x {shape[1]} | `evalsig gate` | {' | '.join(f'{share:.1%}' for share in ships)} | – | – "
            "| – | – |",
            flush=True,
        )


def bounds_of(cells: list[np.ndarray]) -> np.ndarray:
    """Estimate and upper bound of each release by Astray's gate."""
    estimate, half = margin_bounds(*cells, MARGIN, LEVEL)
    return np.column_stack([estimate, estimate + half])


def real_gates(base: str, tuned: str, count: int) -> None:
    """Print the verdicts of gates with different seeds, each of which asks both sides anew."""
    import astray

    with TemporaryDirectory() as folder:
        for seed in range(1, count + 1):
            found = astray.gate(base, tuned, seed=seed, out=folder)
            print(f"{seed} {found.verdict} {[str(bar.verdict) for bar in found.bars]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=1000)
    parser.add_argument("--evalsig", type=Path, metavar="PYTHON", help="a Python in which evalsig==0.1.2 is installed")
    parser.add_argument("--gates", type=int, metavar="NUMBER", help="real gates of two models in place of simulations")
    parser.add_argument("--model", default="organism")
    parser.add_argument("--tuned", default="organism")
    given = parser.parse_args()
    count = given.releases
    if given.gates:
        real_gates(given.model, given.tuned, given.gates)
        return
    if given.evalsig:
        beside_evalsig(np.random.default_rng(2), given.evalsig, count)
        return
    erring(np.random.default_rng(1), count)
    with_runs(np.random.default_rng(3), count)
    rng = np.random.default_rng(0)
    columns = ("questions x answers", "false passes, worst cell", "by a paired t", "false fails, worst cell")
    columns += ("passes, both at 0%", "both at 2%", "both at 10%", "fails, 20 points more")
    print(f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}", sep="\n")
    for shape in SHAPES:
        border = {
            cell: shares(releases(rng, shape, cell[0], cell[1], MARGIN, cell[2], count))
            for cell in itertools.product(RATES, ICCS, (True, False))
        }
        worst = max(border, key=lambda cell: border[cell][0])
        told = f"{border[worst][0]:.1%} at {worst[0]:.0%}, ICC {worst[1]:g}, {'shared' if worst[2] else 'own'} rates"
        power = [shares(releases(rng, shape, rate, 0.1, 0.0, True, count))[0] for rate in (0.0, 0.02, 0.1)]
        caught = shares(releases(rng, shape, 0.0, 0.3, 0.2, True, count))[1]
        plain, fails = max(each[2] for each in border.values()), max(each[1] for each in border.values())
        print(
            f"| {shape[0]} x {shape[1]} | {told} | {plain:.0%} | {fails:.1%} | "
            f"{' | '.join(f'{share:.0%}' for share in power)} | {caught:.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
