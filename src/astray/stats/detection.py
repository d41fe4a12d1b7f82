"""Measures of how well a score separates two kinds of rows, and correlations, with intervals over clusters of rows.

Average precision is the area under the precision-recall curve as a step function; a random score has the share of
positive rows. The area under the ROC curve is the probability that a positive row scores above a negative one; ties
count half.

Rows of one cluster (a prompt, say) are not independent, so the cluster is the unit. A percentile bootstrap of few
clusters covers far too little and has no width at perfect separation, so intervals are t intervals on a scale without
borders: DeLong's variance with clusters on the logit scale for the area, a jackknife over clusters for the others.
Where hardly a row is out of order the variance cannot be estimated, and the exact limits of disjoint pairs of clusters
hold: at perfect separation each of k such pairs is in order, which has at most the probability area**k, whatever the
distributions. With fewer than `FEWEST` clusters of either kind there is no interval, and the note says so.

Sources: Davis and Goadrich 2006 (why precision-recall where positives are rare, ICML); Obuchowski 1997 (DeLong's
variance with clusters, Biometrics 53:567); Bonett and Wright 2000 (rank correlation, Psychometrika 65:23).
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteError
from astray.stats.intervals import Interval, check_level

FEWEST = 8
"""Number of clusters (of each kind, where there are two) below which there is no interval: simulated coverage falls
below 90%."""
GROUPS = 200
"""Largest number of parts that the jackknife leaves out in turn."""
EVIDENCE = 4
"""Trials that each cluster out of order adds to the exact limits, so that these give way to the estimated variance."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Estimate:
    """Statistic with its interval.

    Attributes:
        value: on all rows.
        interval: confidence interval on it; None where it is not estimable.
        n: number of clusters.
        unit: what a cluster is.
        note: why there is no interval, else "".
    """

    value: float
    interval: Interval | None
    n: int
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Assessment:
    """Performance of a score and its threshold on calls from which neither was made; the unit is the sample.

    Calls of one sample are not independent, so samples are counted and not calls.

    Attributes:
        threshold: lowest score at which a call is blocked.
        blocked: samples with at least one harmful call blocked, and all samples with harmful calls.
        blocked_interval: Wilson interval on their share; None without a harmful call.
        false_alarms: samples with at least one benign call blocked, and all samples with benign calls.
        false_alarms_interval: Wilson interval on their share; None without a benign call.
        auc: probability that a harmful call scores above a benign one; NaN without both.
    """

    threshold: float
    blocked: tuple[int, int]
    blocked_interval: Interval | None
    false_alarms: tuple[int, int]
    false_alarms_interval: Interval | None
    auc: float


def auroc(scores: Float[np.ndarray, "rows"], positive: Bool[np.ndarray, "rows"]) -> float:
    """Return the area under the ROC curve (Mann-Whitney); NaN when all rows are of one kind."""
    check_scores(scores)
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    return float((rankdata(scores)[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def average_precision(
    scores: Float[np.ndarray, "rows"],
    positive: Bool[np.ndarray, "rows"],
    weights: Float[np.ndarray, "rows"] | None = None,
) -> float:
    """Return the area under the precision-recall curve as a step function; NaN when no row is positive.

    Args:
        scores: score of each row.
        positive: kind of each row.
        weights: number of rows that each stands for, where rows of some scores were drawn more often; all alike
            without.
    """
    recall, precision = precision_recall(scores, positive, weights)
    return float("nan") if len(recall) == 0 else float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall(
    scores: Float[np.ndarray, "rows"],
    positive: Bool[np.ndarray, "rows"],
    weights: Float[np.ndarray, "rows"] | None = None,
) -> tuple[Float[np.ndarray, "thresholds"], Float[np.ndarray, "thresholds"]]:
    """Return recall and precision at each distinct score as the threshold, from the highest down; arguments as for
    `average_precision`.

    Returns:
        Recall and precision; both empty when no row is positive.
    """
    check_scores(scores)
    if not positive.any():
        return np.empty(0), np.empty(0)
    if weights is not None and not (np.isfinite(weights).all() and (weights > 0).all()):
        raise ConfigurationError(
            f"The weights {weights[:5].tolist()} ... are not all above 0: each says how many rows a labelled one stands "
            "for, which is the size of its part of the data over its labels."
        )
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # rows with the same score are found together
    counts = np.ones(len(scores)) if weights is None else weights
    true_positives = np.cumsum((positive * counts)[order])[last]
    return true_positives / true_positives[-1], true_positives / np.cumsum(counts[order])[last]


def check_scores(scores: Float[np.ndarray, "rows"]) -> None:
    """Refuse scores without an order: ranks of NaN are arbitrary, and an area under a curve would not show it."""
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise NonFiniteError(
            f"{len(wrong):,} of {len(scores):,} scores are not finite, first that of row {wrong[0]} "
            f"({scores[wrong[0]]}). They have no rank: find where they were computed, or leave their rows out and "
            "say so."
        )


def auroc_estimate(
    scores: Float[np.ndarray, "rows"],
    positive: Bool[np.ndarray, "rows"],
    clusters: Sequence[Hashable],
    unit: str,
    *,
    level: float = 0.95,
) -> Estimate:
    """Estimate the area under the ROC curve, with DeLong's interval over clusters on the logit scale.

    Args:
        scores: score of each row.
        positive: kind of each row.
        clusters: cluster of each row.
        unit: what a cluster is, in words for a page.
        level: nominal coverage.

    Raises:
        EmptyDataError: all rows are of one kind.
        NonFiniteError: a score is NaN or infinite.
    """
    check_level(level)
    area = auroc(scores, positive)
    member, count = _members(clusters, len(scores))
    _check_defined(area, len(scores), count, unit)
    with_positive, with_negative = (np.bincount(member[kind], minlength=count) for kind in (positive, ~positive))
    carriers = int((with_positive > 0).sum()), int((with_negative > 0).sum())
    if min(carriers) < FEWEST:
        return Estimate(area, None, count, unit, _too_few(f"{unit}s with rows of each kind", min(carriers)))
    # Placements: for each row, the share of rows of the other kind that it is on the right side of; ties count half.
    ranks = rankdata(scores)
    above, below = (ranks[kind] - rankdata(scores[kind]) for kind in (positive, ~positive))
    n_positive, n_negative = positive.sum(), (~positive).sum()
    right = (
        np.bincount(member[positive], above / n_negative, count),
        np.bincount(member[~positive], 1 - below / n_positive, count),
    )
    first, second = (right[0] - area * with_positive) / n_positive, (right[1] - area * with_negative) / n_negative
    factors = (carriers[0] / (carriers[0] - 1), carriers[1] / (carriers[1] - 1), count / (count - 1))
    variance = factors[0] * (first**2).sum() + factors[1] * (second**2).sum() + 2 * factors[2] * (first * second).sum()
    beyond = min(
        int((sums < number - _ROUNDING).sum())
        for sums, number in zip(right, (with_positive, with_negative), strict=True)
    )
    if area < 0.5:  # in the mirrored order few clusters are in order, and these bound the area
        beyond = min(int((sums > _ROUNDING).sum()) for sums in right)
    trials = min(*carriers, count // 2) + EVIDENCE * beyond
    method = f"DeLong with clusters, t on the logit scale: {unit}"
    interval = _share_interval(area, max(0.0, float(variance)), min(carriers) - 1, trials, level, method)
    return Estimate(area, interval, count, unit)


def average_precision_estimate(
    scores: Float[np.ndarray, "rows"],
    positive: Bool[np.ndarray, "rows"],
    clusters: Sequence[Hashable],
    unit: str,
    *,
    level: float = 0.95,
) -> Estimate:
    """Estimate the average precision, with a jackknife interval over clusters on the logit scale; arguments as for
    `auroc_estimate`."""
    check_level(level)
    precision = average_precision(scores, positive)
    member, count = _members(clusters, len(scores))
    _check_defined(float("nan") if positive.all() else precision, len(scores), count, unit)
    carriers = [len(np.unique(member[kind])) for kind in (positive, ~positive)]
    if min(carriers) < FEWEST:
        return Estimate(precision, None, count, unit, _too_few(f"{unit}s with rows of each kind", min(carriers)))
    variance = _jackknife(lambda rows: average_precision(scores[rows], positive[rows]), member, count)
    late = positive & (scores <= scores[~positive].max())  # bad rows that some good row is not below
    # The precision is a mean over positive rows, so these are its trials where nearly all of them are found first.
    trials = carriers[0] + EVIDENCE * len(np.unique(member[late]))
    method = f"jackknife over clusters, t on the logit scale: {unit}"
    return Estimate(
        precision, _share_interval(precision, variance, min(carriers) - 1, trials, level, method), count, unit
    )


def correlation_estimate(
    x: Float[np.ndarray, "rows"],
    y: Float[np.ndarray, "rows"],
    clusters: Sequence[Hashable],
    unit: str,
    *,
    ranks: bool = False,
    level: float = 0.95,
) -> Estimate:
    """Estimate Pearson's correlation, or Spearman's (`ranks`), with an interval over clusters on Fisher's scale.

    The wider of Fisher's interval for that many independent clusters and a jackknife over clusters is taken: the one
    misses heavy tails, the other has no width where all points lie on a line.

    Args:
        x: one variable.
        y: the other one.
        clusters: cluster of each row.
        unit: what a cluster is, in words for a page.
        ranks: whether to correlate ranks.
        level: nominal coverage.

    Raises:
        EmptyDataError: a variable does not vary.
        NonFiniteError: a value is NaN or infinite.
    """
    from scipy.special import ndtri, stdtrit

    check_level(level)
    check_scores(x)
    check_scores(y)

    def statistic(rows: Int[np.ndarray, "chosen"]) -> float:
        return pearson(rankdata(x[rows]), rankdata(y[rows])) if ranks else pearson(x[rows], y[rows])

    member, count = _members(clusters, len(x))
    value = statistic(np.arange(len(x)))
    _check_defined(value, len(x), count, unit)
    if count < FEWEST:
        return Estimate(value, None, count, unit, _too_few(f"{unit}s", count))
    largest = 1 - 6 / (
        count * (count**2 - 1)
    )  # half-way between a perfect ranking and the next one: atanh(1) is infinite
    shown = float(np.clip(value, -largest, largest))
    independent = math.sqrt((1 + shown**2 / 2 if ranks else 1) / (count - 3))
    parts = [
        np.arctanh(np.clip(part, -largest, largest))
        for part in _left_out(statistic, member, count)
        if not np.isnan(part)
    ]
    spread = math.sqrt((len(parts) - 1) ** 2 / len(parts) * float(np.var(parts, ddof=1)))

    def at(level: float) -> Interval:
        tail = (1 - level) / 2
        half = max(-float(ndtri(tail)) * independent, -float(stdtrit(len(parts) - 1, tail)) * spread)
        low, high = (float(np.tanh(np.arctanh(shown) + side * half)) for side in (-1, 1))
        return Interval(low, max(high, value) if value > 0 else high, level, f"Fisher's scale, clusters: {unit}", at)

    return Estimate(value, at(level), count, unit)


def mean_estimate(
    values: Float[np.ndarray, "rows"], clusters: Sequence[Hashable], unit: str, *, level: float = 0.95
) -> Estimate:
    """Estimate the mean over rows with a t interval over clusters; arguments as for `auroc_estimate`."""
    from scipy.special import stdtrit

    check_level(level)
    check_scores(values)
    member, count = _members(clusters, len(values))
    if not len(values):
        raise EmptyDataError("A mean needs at least one row.")
    mean = float(values.mean())
    residuals = np.bincount(member, values - mean, count) / len(values)
    if count < 2 or not np.ptp(values):
        why = (
            f"not estimable: a single {unit} shows no spread"
            if count < 2
            else f"not estimable: all {len(values)} rows have the same value"
        )
        return Estimate(mean, None, count, unit, why)
    half = -float(stdtrit(count - 1, (1 - level) / 2)) * math.sqrt(count / (count - 1) * float((residuals**2).sum()))
    return Estimate(mean, Interval(mean - half, mean + half, level, f"t over clusters: {unit}"), count, unit)


def pearson(x: Float[np.ndarray, "rows"], y: Float[np.ndarray, "rows"]) -> float:
    """Return the Pearson correlation; NaN if one of the variables does not vary.

    Raises:
        NonFiniteError: a value is NaN or infinite.
    """
    for values in (x, y):
        check_scores(values)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _members(clusters: Sequence[Hashable], rows: int) -> tuple[Int[np.ndarray, "rows"], int]:
    """Return the number of each row's cluster, and how many clusters there are."""
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters))}
    if len(clusters) != rows:
        raise ConfigurationError(f"There are {rows} rows and {len(clusters)} clusters: give the cluster of each row.")
    return np.array([numbers[cluster] for cluster in clusters], dtype=np.int64), len(numbers)


def _check_defined(value: float, rows: int, count: int, unit: str) -> None:
    if np.isnan(value):
        raise EmptyDataError(
            f"The statistic is not defined on these {rows} rows of {count} clusters ({unit}): it needs rows of both "
            "kinds, or values that differ. Take more rows."
        )


def _too_few(what: str, number: int) -> str:
    return f"not estimable: {number} {what}, and fewer than {FEWEST} do not show how much they differ"


def _left_out(
    statistic: Callable[[Int[np.ndarray, "chosen"]], float], member: Int[np.ndarray, "rows"], count: int
) -> Float[np.ndarray, "groups"]:
    """Return the statistic with each cluster left out; of more than `GROUPS` clusters, with each group of clusters."""
    shuffled = np.random.default_rng(0).permutation(count) if count > GROUPS else np.arange(count)
    group = (shuffled % min(count, GROUPS))[member]
    return np.array([statistic(np.flatnonzero(group != left_out)) for left_out in range(min(count, GROUPS))])


def _jackknife(
    statistic: Callable[[Int[np.ndarray, "chosen"]], float], member: Int[np.ndarray, "rows"], count: int
) -> float:
    parts = _left_out(statistic, member, count)
    return float((len(parts) - 1) ** 2 / len(parts) * np.var(parts, ddof=1))


def _share_interval(share: float, variance: float, degrees: int, trials: int, level: float, method: str) -> Interval:
    """Return the t interval of a share on the logit scale, nowhere inside the exact limits of so many trials."""
    from scipy.special import betainccinv, betaincinv, expit, logit, stdtrit

    hits, tail = share * trials, (1 - level) / 2
    low = (
        float(betaincinv(hits, trials - hits + 1, tail)) if share > 0 else 0.0
    )  # Clopper and Pearson's, for fractional counts
    high = float(betainccinv(hits + 1, trials - hits, tail)) if share < 1 else 1.0
    if 0 < share < 1:
        half = -float(stdtrit(degrees, (1 - level) / 2)) * math.sqrt(variance) / (share * (1 - share))
        low, high = min(low, float(expit(logit(share) - half))), max(high, float(expit(logit(share) + half)))
    return Interval(low, high, level, method)
