"""Other intervals for rates of few runs, against whose width ours is held by benchmarks/coverage.py."""

import numpy as np
from scipy.special import betaincinv, expit, logit, ndtri, stdtrit

from astray.stats.compare import answer_variance

Limits = tuple[np.ndarray, np.ndarray]
"""Lower and upper limits of many studies, at 95%."""
Side = tuple[np.ndarray, np.ndarray]


def t_on_shares(k: np.ndarray, n: np.ndarray) -> Limits:
    """Return the t interval on the shares of clusters, cut off at 0 and 1."""
    middle, half = _t(k / n)
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)


def t_on_log_odds(k: np.ndarray, n: np.ndarray) -> Limits:
    """Return the t interval on the log odds of clusters, with half an answer added to each count."""
    middle, half = _t(logit((k + 0.5) / (n + 1)))
    return expit(middle - half), expit(middle + half)


def korn_graubard(k: np.ndarray, n: np.ndarray) -> Limits:
    """Return Clopper and Pearson's limits for the effective number of answers (Korn and Graubard 1998)."""
    clusters = k.shape[1]
    hits, trials = effective_sample_size(k, n)
    correction = (ndtri(0.025) / stdtrit(clusters - 1, 0.025)) ** 2
    hits, trials = hits[:, 0] * correction, trials[:, 0] * correction
    with np.errstate(invalid="ignore"):
        low = np.where(hits > 0, betaincinv(hits, trials - hits + 1, 0.025), 0.0)
        high = np.where(hits < trials, betaincinv(hits + 1, trials - hits, 0.975), 1.0)
    return low, high


def effective_sample_size(k: np.ndarray, n: np.ndarray) -> Side:
    """Return hits and trials of one cluster with as much information, rounded: the design effect of the clusters."""
    share, clusters = k.sum(axis=1) / n.sum(axis=1), k.shape[1]
    variance = (k / n).var(axis=1, ddof=1) / clusters
    chance = share * (1 - share)
    trials = np.where(variance > 0, np.minimum(n.sum(axis=1), chance / np.maximum(variance, 1e-12)), n.sum(axis=1))
    trials = np.maximum(1, np.round(trials))
    return np.round(share * trials)[:, None].astype(int), trials[:, None].astype(int)


def paired_t(arm: Side, control: Side) -> Limits:
    """Return the t interval on the differences of pairs."""
    middle, half = _t(arm[0] / arm[1] - control[0] / control[1])
    return middle - half, middle + half


def t_on_slopes(arms: list[Side], weights: np.ndarray) -> Limits:
    """Return the t interval on the slopes of seeds over several arms."""
    middle, half = _t(np.asarray(sum(weight * k / n for weight, (k, n) in zip(weights, arms, strict=True))))
    return middle - half, middle + half


def welch(arm: Side, control: Side) -> Limits:
    """Return Welch's t interval on the difference of shares of runs that are not paired."""
    shares = [k / n for k, n in (arm, control)]
    parts = [share.var(axis=1, ddof=1) / share.shape[1] for share in shares]
    total = np.maximum(sum(parts), 1e-12)
    spent = sum(part**2 / (share.shape[1] - 1) for part, share in zip(parts, shares, strict=True))
    half = -stdtrit(np.maximum(1.0, total**2 / np.maximum(spent, 1e-24)), 0.025) * np.sqrt(total)
    middle = shares[0].mean(axis=1) - shares[1].mean(axis=1)
    return middle - half, middle + half


def ratio_t(after: Side, before: Side) -> Limits:
    """Return one minus the t interval on the logarithms of ratios of pairs, with half an answer added to each count."""
    middle, half = _t(np.log((after[0] + 0.5) / (after[1] + 0.5) / (before[0] + 0.5) * (before[1] + 0.5)))
    return np.maximum(-1.0, 1 - np.exp(middle + half)), 1 - np.exp(middle - half)


def fieller(after: Side, before: Side) -> Limits:
    """Return one minus Fieller's limits of the ratio of two mean shares of pairs."""
    left, whole = (k / n for k, n in (after, before))
    pairs, (a, b) = left.shape[1], (left.mean(axis=1), whole.mean(axis=1))
    factor = stdtrit(pairs - 1, 0.975) ** 2 / pairs
    mixed = ((left - a[:, None]) * (whole - b[:, None])).sum(axis=1) / (pairs - 1)
    square, middle, rest = (
        b**2 - factor * whole.var(axis=1, ddof=1),
        a * b - factor * mixed,
        a**2 - factor * left.var(axis=1, ddof=1),
    )
    half = np.sqrt(np.maximum(middle**2 - square * rest, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where the rate before may be 0 the ratio has no limits, beyond which widths are not compared.
        high, low = (np.where(square > 0, (middle + side * half) / square, side * np.inf) for side in (1, -1))
    return np.maximum(-1.0, 1 - high), np.minimum(1.0, 1 - low)


def corrected_t(judged: np.ndarray, n: np.ndarray, sensitivity: np.ndarray, specificity: np.ndarray) -> Limits:
    """Return the t interval on the shares of runs, each corrected by the judge's errors as measured."""
    alarm = 1 - specificity[:, None]
    middle, half = _t((judged / n - alarm) / np.maximum(sensitivity[:, None] - alarm, 1e-9))
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)


def shifted(limits: Limits, sensitivity: np.ndarray, specificity: np.ndarray) -> Limits:
    """Return limits of the rate as judged, moved by the judge's errors as if these were known (Rogan and Gladen)."""
    alarm = 1 - specificity
    low, high = ((limit - alarm) / np.maximum(sensitivity - alarm, 1e-9) for limit in limits)
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def _t(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    clusters = values.shape[1]
    return values.mean(axis=1), -stdtrit(clusters - 1, 0.025) * values.std(axis=1, ddof=1) / np.sqrt(clusters)


def bootstrap_t(arm: Side, control: Side, draws: int = 200) -> Limits:
    """Return the bootstrap-t interval on the differences of questions, with the floor of their answers."""
    differences, generator = arm[0] / arm[1] - control[0] / control[1], np.random.default_rng(0)
    middle, floor = differences.mean(axis=1), answer_variance(*arm) + answer_variance(*control)
    questions = differences.shape[1]

    def error(values: np.ndarray) -> np.ndarray:
        return np.sqrt(np.maximum(values.var(axis=1, ddof=1) / questions, floor))

    drawn = (differences[:, generator.integers(0, questions, questions)] for _ in range(draws))
    t = np.array([(values.mean(axis=1) - middle) / error(values) for values in drawn])
    low, high = np.quantile(t, [0.025, 0.975], axis=0)
    return middle - np.maximum(high, 0) * error(differences), middle - np.minimum(low, 0) * error(differences)


def sign_flips(arm: Side, control: Side, draws: int = 400) -> Limits:
    """Return the limits at which a test by random signs of the differences of questions just rejects."""
    differences, generator = arm[0] / arm[1] - control[0] / control[1], np.random.default_rng(0)
    questions, limits = differences.shape[1], []
    signs = generator.choice([-1.0, 1.0], (questions, draws))
    for side in (-1, 1):
        limit = differences.mean(axis=1)
        for _ in range(6):  # the distribution under the limit depends on the limit
            spread = np.quantile((differences - limit[:, None]) @ signs / questions, 0.975, axis=1)
            limit = differences.mean(axis=1) + side * spread
        limits.append(limit)
    return limits[0], limits[1]


def t_with_correlation(arm: Side, control: Side, correlation: float = 0.3) -> Limits:
    """Return t on the differences of questions, with the variance of answers that are so correlated as its floor."""
    middle, half = _t(arm[0] / arm[1] - control[0] / control[1])
    floor = sum(answer_variance(k, n) * (1 + (n.mean(axis=1) - 1) * correlation) for k, n in (arm, control))
    half = np.maximum(half, -stdtrit(arm[0].shape[1] - 1, 0.025) * np.sqrt(floor))
    return middle - half, middle + half


def t_with_floor(arm: Side, control: Side) -> Limits:
    """Return t on the differences of questions, with the variance of independent answers as its floor."""
    return t_with_correlation(arm, control, 0.0)
