"""Simulate releases at the border: how often does the gate pass a tuned model whose true rate is higher by exactly the
margin?

    python benchmarks/gate.py               # the table of docs/gate.md
    python benchmarks/gate.py --releases 200

Questions have rates of their own (beta-distributed, with an intra-class correlation), answers are drawn from them. The
two models share the rates of their questions, or have rates of their own; the surplus of the tuned model sits on a few
questions or on all. Left out: the judge's error.
"""

import argparse
import itertools

import numpy as np
from scipy.special import stdtrit
from scipy.stats import beta

from astray.stats.compare import paired_t
from astray.stats.noninferiority import margin_bounds

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=1000)
    count = parser.parse_args().releases
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
