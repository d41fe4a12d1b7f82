"""Two models asked each question once: how often a limit is wrong, how wide intervals are, and what they find.

    OMP_NUM_THREADS=1 python benchmarks/pairs.py [studies a cell, 4,000 by default]

Compared are our interval (`stats.paired`), that of several answers a question (`stats.compare`), which was taken before,
Newcombe's for pairs (1998, Statistics in Medicine 17:2635, method 10), Tango's (1998, Statistics in Medicine 17:891) and
t on the differences. A question has one beta-distributed rate a model, at the same quantile in both.

One table is of simulated cells; its widths are beside ours. The columns "any rates" are no simulation: all tables of
answers are enumerated, at a grid of rates, and the worst share of studies with a wrong limit is given. "Difference at or
above 0" is the lower limit alone: at least that difference is wrongly held.

The last table is of two to four answers a question. "As pairs" is our interval for single answers, of one of them at
random (expected numbers of pairs that differ).
"""

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import betaincinv, gammaln, stdtrit, xlogy

from astray.stats.compare import difference_limits, question_differences
from astray.stats.paired import paired_limits
from rivals import paired_t

Limits = tuple[np.ndarray, np.ndarray]
Z, NEAR = 1.959963984540054, 1e-9
QUESTIONS, RATES, CONTROLS, CORRELATIONS = (24, 120, 1000), (0.01, 0.1, 0.5), (1.0, 0.5, 0.0), (0.0, 0.3, 0.6)
FOUND = ((0.05, 0.0, 0.0), (0.2, 0.1, 0.0), (0.2, 0.1, 0.3))
"""Rates of both models and correlation of the differences that are looked for with 112 questions."""
OFTEN = ((0.05, 0.0), (0.02, 0.0), (0.02, 0.01), (0.2, 0.1), (0.5, 0.25))
"""Rates of both models where a question has several answers."""


def ours(_both: np.ndarray, first: np.ndarray, second: np.ndarray, n: int) -> Limits:
    return paired_limits(first, second, n)(0.95)


def before(both: np.ndarray, first: np.ndarray, second: np.ndarray, n: int) -> Limits:
    order, found = np.arange(n), []
    for tables in np.array_split(np.stack([both, first, second])[:, :, None], 1 + len(both) // 500, axis=1):
        some = order < tables[0] + tables[1]
        other = (order < tables[0]) | (order >= tables[0] + tables[1]) & (order < tables.sum(axis=0))
        sides = [(side.astype(int), np.ones(side.shape, dtype=int)) for side in (some, other)]
        found.append(difference_limits(sides[0], sides[1], n, _exact)[1](0.95))
    low, high = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return low, high


def _exact(k: np.ndarray, n: np.ndarray) -> Callable[[float], Limits]:
    """Return Clopper and Pearson's limits: those of `intervals.question_limits` for single answers, without its fit."""
    hits, trials = k.sum(axis=1), n.sum(axis=1)

    def limits(level: float) -> Limits:
        tail = (1 - level) / 2
        with np.errstate(invalid="ignore"):
            low = np.where(hits > 0, betaincinv(hits, trials - hits + 1, tail), 0.0)
            return low, np.where(hits < trials, betaincinv(hits + 1, trials - hits, 1 - tail), 1.0)

    return limits


def newcombe(both: np.ndarray, first: np.ndarray, second: np.ndarray, n: int) -> Limits:
    neither = n - both - first - second
    ones = [both + first, both + second]
    product = ones[0] * (n - ones[0]) * ones[1] * (n - ones[1])
    covariance = both * neither - first * second
    covariance = np.where(covariance > 0, np.maximum(covariance - n / 2, 0.0), covariance)
    phi = np.where(product > 0, covariance / np.sqrt(np.maximum(product, 1)), 0.0)
    below, above = [], []
    for k in ones:
        middle = (k + Z**2 / 2) / (n + Z**2)
        half = Z * np.sqrt(k * (n - k) / n + Z**2 / 4) / (n + Z**2)
        below.append(k / n - middle + half)
        above.append(middle + half - k / n)

    def half_width(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(0.0, a**2 - 2 * phi * a * b + b**2))

    estimate = (first - second) / n
    return estimate - half_width(below[0], above[1]), estimate + half_width(above[0], below[1])


def tango(_both: np.ndarray, first: np.ndarray, second: np.ndarray, n: int) -> Limits:
    estimate = (first - second) / n
    limits = []
    for sign in (1, -1):
        inside, outside = estimate, np.full_like(estimate, -sign)
        for _ in range(48):
            middle = (inside + outside) / 2
            linear = (2 * n - first + second) * middle - first - second
            fewer = (np.sqrt(np.maximum(linear**2 + 8 * n * second * middle * (1 - middle), 0.0)) - linear) / (4 * n)
            error = np.sqrt(np.maximum(2 * np.maximum(fewer, 0.0) + middle * (1 - middle), 0.0) / n)
            rejected = sign * (estimate - middle) > Z * error
            inside, outside = np.where(rejected, inside, middle), np.where(rejected, middle, outside)
        limits.append(outside)
    return limits[0], limits[1]


def t_on_differences(_both: np.ndarray, first: np.ndarray, second: np.ndarray, n: int) -> Limits:
    estimate = (first - second) / n
    half = stdtrit(n - 1, 0.975) * np.sqrt(((first + second) / n - estimate**2) / (n - 1))
    return estimate - half, estimate + half


WAYS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, int], Limits]] = {
    "ours": ours,
    "before": before,
    "Newcombe, pairs": newcombe,
    "Tango": tango,
    "t on differences": t_on_differences,
}


def shares(rates: tuple[float, float], correlation: float) -> np.ndarray:
    """Return how often both, the first only, the second only and neither shows something."""
    quantiles, size = (np.arange(20_000) + 0.5) / 20_000, 1 / correlation - 1 if correlation else 0.0
    one, other = (
        betaincinv(rate * size, (1 - rate) * size, quantiles) if size and rate else np.full(20_000, rate)
        for rate in rates
    )
    return np.array([(a * b).mean() for a, b in itertools.product((one, 1 - one), (other, 1 - other))])


def studied(n: int, rates: tuple[float, float], correlation: float, studies: int, seed: int) -> Iterator[np.ndarray]:
    """Yield of each way, in a cell: the shares of studies whose lower limit is too high, whose upper is too low, which
    find a difference from 0, and the mean half-width."""
    of = shares(rates, correlation)
    truth = of[1] - of[2]
    drawn = np.random.default_rng(seed).multinomial(n, of / of.sum(), size=studies)[:, :3]
    tables, times = np.unique(drawn, axis=0, return_counts=True)
    for limits in WAYS.values():
        low, high = limits(*tables.T.astype(float), n)
        events = np.array([low > truth + NEAR, high < truth - NEAR, low > NEAR, (high - low) / 2])
        yield events @ times / studies


def worst(limits: Callable[..., Limits], n: int, boths: tuple[float, ...]) -> tuple[float, float]:
    """Return the largest share of studies with a wrong limit, at any rates and at a difference of the rates at or above 0
    for the lower limit; `boths` are the shares, of the rest, of questions on which both show something."""
    cells = [
        cell
        for cell in itertools.product(range(n + 1), repeat=3)
        if sum(cell) <= n and (boths != (0.0,) or not cell[0])
    ]
    both, first, second = np.array(cells, dtype=float).T
    neither = n - both - first - second
    low, high = limits(both, first, second, n)
    ways = gammaln(n + 1) - sum(gammaln(count + 1) for count in (both, first, second, neither))
    points = [
        0.0,
        *np.geomspace(0.02 / n, 0.5, 30),
        *np.linspace(0.05, 0.95, 13),
        *(1 - np.geomspace(0.02 / n, 0.5, 10)),
    ]
    anywhere = above = 0.0
    for one, other, part in itertools.product(points, points, boths):
        if one + other > 1:
            continue
        together = part * (1 - one - other)
        logs = (
            xlogy(both, together)
            + xlogy(first, one)
            + xlogy(second, other)
            + xlogy(neither, 1 - one - other - together)
        )
        chance, truth = np.exp(ways + logs), one - other
        too_high, too_low = chance[low > truth + NEAR].sum(), chance[high < truth - NEAR].sum()
        anywhere = max(anywhere, too_high, too_low)
        above = max(above, too_high if truth >= 0 else 0.0)
    return anywhere, above


def several(studies: int) -> Iterator[str]:
    """Yield a row each of two to four answers a question: the largest share of wrong limits in cells, and what is found."""
    for samples in (2, 3, 4):
        wrong, power, widths = np.zeros(3), np.zeros((3, len(CORRELATIONS))), np.zeros((3, len(CORRELATIONS)))
        for n, rates, (place, icc) in itertools.product((24, 112), OFTEN, enumerate(CORRELATIONS)):
            generator, size = np.random.default_rng(n), 1 / icc - 1 if icc else 1e9
            quantiles, of = generator.random((studies, n)), np.full((studies, n), samples)
            sides = [
                (generator.binomial(of, betaincinv(rate * size, (1 - rate) * size, quantiles) if rate else 0.0), of)
                for rate in rates
            ]
            first, second = (k / samples for k, _ in sides)
            expected = (first * (1 - second)).sum(axis=1), (second * (1 - first)).sum(axis=1)
            ways = question_differences(*sides)[1](0.95), paired_limits(*expected, n)(0.95), paired_t(*sides)
            truth = rates[0] - rates[1]
            for way, (low, high) in enumerate(ways):
                wrong[way] = max(wrong[way], np.mean(low > truth + NEAR), np.mean(high < truth - NEAR))
                if (n, rates) == (112, OFTEN[0]):
                    power[way, place], widths[way, place] = np.mean(low > 0), np.mean(high - low) / 2
        for name, *row in zip(("ours", "as pairs", "t on differences"), wrong, power, widths, strict=True):
            found, half = (", ".join(f"{100 * one:.{digits}f}" for one in row[1 + digits]) for digits in (0, 1))
            yield f"| {samples} | {name} | {row[0]:.1%} | {found}% | {half} points |"


def main(studies: int) -> None:
    start = time.process_time()
    designs = [
        (n, (rate, rate * part), correlation)
        for n, rate, part, correlation in itertools.product(QUESTIONS, RATES, CONTROLS, CORRELATIONS)
        if part or not correlation
    ]
    found = np.array([list(studied(*cell, studies, seed)) for seed, cell in enumerate(designs)])
    looked = np.array([list(studied(112, cell[:2], cell[2], studies, seed)) for seed, cell in enumerate(FOUND)])
    titles = [f"{a:.0%} against {b:.0%}" + (f", correlated by {icc}" if icc else "") for a, b, icc in FOUND]
    head = ["interval", "wrong limit, worst cell", "coverage: least", "mean", "half-width beside ours"]
    head += [f"{n} questions, any rates" for n in (24, 112)] + ["difference at or above 0"]
    head += [f"finds {title}" for title in titles] + [f"half-width at {titles[0]}"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for place, (name, limits) in enumerate(WAYS.items()):
        cells, power = found[:, place], looked[:, place]
        covered = 1 - cells[:, 0] - cells[:, 1]
        beside = (cells[:, 3] / found[:, 0, 3]).mean()
        few = worst(limits, 24, (0.0, 0.1, 0.5, 0.9) if name in ("before", "Newcombe, pairs") else (0.0,))
        # The interval depends on how many show something with both, too: a million tables.
        many = (math.nan, math.nan) if name in ("before", "Newcombe, pairs") else worst(limits, 112, (0.0,))
        row = [f"{cells[:, :2].max():.1%}", f"{covered.min():.1%}", f"{covered.mean():.1%}", f"{beside:.2f}"]
        row += [
            f"{few[0]:.1%}",
            "-" if math.isnan(many[0]) else f"{many[0]:.1%}",
            f"{max(few[1], np.nan_to_num(many[1])):.1%}",
        ]
        row += [*(f"{each[2]:.0%}" for each in power), f"{100 * power[0, 3]:.1f} points"]
        print("| " + " | ".join([name, *row]) + " |", flush=True)
    for n in QUESTIONS:
        of = [place for place, cell in enumerate(designs) if cell[0] == n]
        widths = ", ".join(f"{name} {100 * found[of, place, 3].mean():.1f}" for place, name in enumerate(WAYS))
        print(f"\nMean half-width of {n} questions, in points: {widths}")
    correlations = " / ".join(map(str, CORRELATIONS))
    print(
        "\n| answers a question | interval | wrong limit, worst of 30 cells | finds 5% against 0, 112 questions", end=""
    )
    print(f", correlated by {correlations} | half-width there |\n|---|---|---|---|---|")
    for row in several(studies // 8):
        print(row, flush=True)
    error = math.sqrt(0.05 * 0.95 / studies)
    print(
        f"\n{len(designs)} cells of {studies} studies (error {error:.1%} of 5%), those of several answers of "
        f"{studies // 8}; {time.process_time() - start:.0f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
