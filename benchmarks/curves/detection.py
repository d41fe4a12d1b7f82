"""Areas under curves, correlations and means: does their interval cover?"""

import math
from collections.abc import Hashable, Iterator

import numpy as np
from scipy.special import expit

from astray.stats.detection import (
    Estimate,
    auroc,
    auroc_estimate,
    average_precision,
    average_precision_estimate,
    correlation_estimate,
    mean_estimate,
)
from curves import Case, Drawn, covered


def score_rows(
    rng: np.random.Generator, positive: int, negative: int, shift: float
) -> tuple[np.ndarray, np.ndarray, range]:
    """Draw independent rows with normal scores."""
    scores = np.concatenate([rng.normal(shift, 1, positive), rng.normal(0, 1, negative)])
    return scores, np.arange(positive + negative) < positive, range(positive + negative)


def prompt_rows(
    rng: np.random.Generator, prompts: int, strength: float, samples: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw prompts whose score is shared by all samples, and samples that are bad the likelier the higher it is."""
    score = rng.normal(0, 1, prompts)
    rate = expit(-1 + strength * score + rng.normal(0, 0.5, prompts))
    cluster = np.repeat(np.arange(prompts), samples)
    return score[cluster], rng.random(prompts * samples) < rate[cluster], cluster


def detection_cases() -> Iterator[Case]:
    """Yield intervals of areas under curves, correlations, average precision and means."""
    yield from area_cases()
    yield from correlation_cases()
    yield from precision_cases()
    yield from mean_cases()


def area_cases() -> Iterator[Case]:
    """Yield intervals of areas under curves."""
    from scipy.stats import norm

    for positive, negative in ((8, 50), (10, 500), (30, 30), (20, 300)):
        for shift in (0.0, 1.2, 2.5):
            truth = float(norm.cdf(shift / math.sqrt(2)))

            def area(
                rng: np.random.Generator,
                n: tuple[int, int] = (positive, negative),
                shift: float = shift,
                truth: float = truth,
            ) -> list[Drawn]:
                return covered(auroc_estimate(*score_rows(rng, *n, shift), "row").interval, truth)

            yield Case(f"AUC {truth:.2f}, {positive} of {positive + negative} rows", "covered", ">= 93%", area)
    for prompts in (8, 12, 20, 50):
        for strength in (0.0, 1.0):
            truth = auroc(*prompt_rows(np.random.default_rng(1), 20_000, strength)[:2])

            def clustered(
                rng: np.random.Generator, prompts: int = prompts, strength: float = strength, truth: float = truth
            ) -> list[Drawn]:
                scores, bad, cluster = prompt_rows(rng, prompts, strength)
                return covered(auroc_estimate(scores, bad, cluster.tolist(), "prompt").interval, truth)

            yield Case(f"AUC {truth:.2f}, {prompts} prompts x 10", "covered", ">= 93%", clustered)


def correlation_cases() -> Iterator[Case]:
    """Yield intervals of correlations."""
    for rows in (8, 10, 20, 60):
        for truth in (0.0, 0.6, 0.95):
            for ranks in (False, True):
                # Spearman's correlation of a bivariate normal distribution (Pearson 1907).
                shown = 6 / math.pi * math.asin(truth / 2) if ranks else truth

                def correlated(
                    rng: np.random.Generator,
                    rows: int = rows,
                    truth: float = truth,
                    ranks: bool = ranks,
                    shown: float = shown,
                ) -> list[Drawn]:
                    x = rng.normal(size=rows)
                    y = truth * x + math.sqrt(1 - truth**2) * rng.normal(size=rows)
                    return covered(correlation_estimate(x, y, range(rows), "row", ranks=ranks).interval, shown)

                yield Case(
                    f"{'Spearman' if ranks else 'Pearson'} {shown:.2f}, {rows} rows",
                    "covered",
                    ">= 93%",
                    correlated,
                    300,
                )


def precision_cases() -> Iterator[Case]:
    """Yield intervals of average precision."""
    for rows, bad in ((120, 12), (400, 20), (200, 8)):
        for shift in (1.2, 2.5):
            truth = float(
                np.mean(
                    [
                        average_precision(*score_rows(np.random.default_rng(k), 40 * bad, 40 * (rows - bad), shift)[:2])
                        for k in range(9)
                    ]
                )
            )

            def precise(
                rng: np.random.Generator,
                n: tuple[int, int] = (bad, rows - bad),
                shift: float = shift,
                truth: float = truth,
            ) -> list[Drawn]:
                return covered(average_precision_estimate(*score_rows(rng, *n, shift), "row").interval, truth)

            yield Case(f"average precision {truth:.2f}, {bad} of {rows} rows", "covered", ">= 93%", precise, 150)


def mean_cases() -> Iterator[Case]:
    """Yield intervals of means."""
    for prompts in (2, 5, 20):

        def mean(rng: np.random.Generator, prompts: int = prompts) -> list[Drawn]:
            cluster: list[Hashable] = list(np.repeat(np.arange(prompts), 4))
            found: Estimate = mean_estimate(
                np.repeat(rng.normal(0, 1, prompts), 4) + rng.normal(0, 1, 4 * prompts), cluster, "prompt"
            )
            return covered(found.interval, 0.0)

        yield Case(f"mean of {prompts} prompts x 4", "covered", ">= 93%", mean)
