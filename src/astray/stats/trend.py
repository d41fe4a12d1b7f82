"""Trend of the rates of several arms over scores of theirs: the slope of least squares, from the counts of all runs.

The limits are those of each arm's rate, put together as for a difference (Zou and Donner 2008, Statistics in Medicine
27:1693). Arms are what they are: the slope says nothing about arms with other scores.

Left to others: two arms (compare.py), a curve over doses (dose.py).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Real

from astray.errors import ConfigurationError
from astray.stats.compare import answer_variance, correlation_of, side_limits
from astray.stats.difference import Difference
from astray.stats.freedom import between, bounds_of, degrees_of
from astray.stats.intervals import Limits, one_study
from astray.stats.rates import Rate

Arm = tuple[Real[np.ndarray, "studies runs"], Real[np.ndarray, "studies runs"]]
"""Misaligned and judged answers of an arm's runs, those with a seed that all arms have first and in one order."""


def trend_of_arms(arms: Sequence[Rate], scores: Sequence[float], *, level: float = 0.95) -> Difference | None:
    """Return the rise of the rate for each unit of score; None where an arm has no judged answer.

    Args:
        arms: their rates.
        scores: one for each arm, at least two different ones.
        level: nominal coverage.

    Raises:
        ConfigurationError: scores that are not finite, or all alike.
    """
    if not np.isfinite(scores).all() or len(set(scores)) < 2:
        raise ConfigurationError(
            f"The scores {list(scores)} give no trend: write a number for each arm, at least two of them different."
        )
    judged = [{seed: counts for seed, counts in arm.by_run.items() if counts[1]} for arm in arms]
    if not all(judged):
        return None
    common = [seed for seed in judged[0] if all(seed in arm for arm in judged)]
    ordered = [[*common, *(seed for seed in arm if seed not in common)] for arm in judged]
    counts = [np.array([arm[seed] for seed in seeds]).T for arm, seeds in zip(judged, ordered, strict=True)]
    estimates, limits = trend_limits([(k[None], n[None]) for k, n in counts], scores, len(common))
    interval = one_study(limits, "profile likelihoods of all arms (MOVER), t over training runs", level)
    return Difference(float(estimates[0]), interval, sum(map(len, judged)), "training run")


def trend_limits(
    arms: Sequence[Arm], scores: Sequence[float], shared: int
) -> tuple[Float[np.ndarray, " studies"], Limits]:
    """Return the slopes of many studies at once, and their limits by level.

    Args:
        arms: counts of each arm.
        scores: of the arms.
        shared: number of seeds that all arms have.
    """
    from scipy.special import stdtrit

    centred = np.asarray(scores, dtype=float) - np.mean(scores)
    weights = (centred / (centred**2).sum())[:, None]
    sides, means = [side_limits(*arm) for arm in arms], np.stack([(k / n).mean(axis=1) for k, n in arms])
    runs = [k.shape[1] for k, _ in arms]
    estimate = (weights * means).sum(axis=0)
    variance = sum(weight**2 * answer_variance(*arm) for weight, arm in zip(weights, arms, strict=True))
    paired = shared == max(runs) > 1
    degrees = (min if paired else sum)(degrees_of(runs))
    if paired:
        slopes = sum(weight * k / n for weight, (k, n) in zip(weights, arms, strict=True))
        variance = np.maximum(variance, np.var(slopes, axis=1, ddof=1) / shared)
    pairs = [(a, b) for a in range(len(arms)) for b in range(a)]
    correlations = {(a, b): correlation_of(arms[a], arms[b], shared) for a, b in pairs}

    def limits(level: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        bounds = (np.array([side(level) for side in sides]),) * 2 if paired else bounds_of(sides, runs, level)
        least = -stdtrit(degrees, (1 - level) / 2) * np.sqrt(variance)

        def half(end: int) -> Float[np.ndarray, " studies"]:
            """Return the distance to the limit that takes the lower (0) or upper (1) limits of the arms that rise."""
            signs, ends = 2 * end - 1, np.where(weights[:, 0] > 0, end, 1 - end)
            distances = (signs * weights * (bound[np.arange(len(arms)), ends] - means) for bound in bounds)
            own, joint = (np.maximum(distance, 0.0) for distance in distances)
            parts = np.sign(weights) * between(own, joint, runs, level)
            square = (parts**2).sum(axis=0)
            for (a, b), correlation in correlations.items():
                # Of few common seeds a correlation may widen the interval and not narrow it.
                product = 2 * correlation * parts[a] * parts[b]
                square = square + (product if paired else np.maximum(product, 0.0))
            return np.maximum(np.sqrt(np.maximum(square, 0.0)), least)

        return estimate - half(0), estimate + half(1)

    return estimate, limits
