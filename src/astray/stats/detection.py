"""Measures of how well a score separates two kinds of rows: areas under curves, with cluster bootstrap intervals.

Average precision is the area under the precision-recall curve as a step function; a random score has the share of
positive rows. The area under the ROC curve is the probability that a positive row scores above a negative one; ties
count half.

Sources: Davis and Goadrich 2006 (why precision-recall where positives are rare, ICML); Field and Welsh 2007 (cluster bootstrap, JRSS B 69:369).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata

from astray.errors import EmptyDataError, NonFiniteError
from astray.stats.intervals import Interval, check_level


@dataclass(frozen=True)
class Estimate:
    """Statistic with its interval.

    Attributes:
        value: on all rows.
        interval: confidence interval on it.
        n: number of clusters that were resampled.
        unit: what a cluster is.
    """

    value: float
    interval: Interval
    n: int
    unit: str


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


def average_precision(scores: Float[np.ndarray, "rows"], positive: Bool[np.ndarray, "rows"]) -> float:
    """Return the area under the precision-recall curve as a step function; NaN when no row is positive."""
    recall, precision = precision_recall(scores, positive)
    return float("nan") if len(recall) == 0 else float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall(
    scores: Float[np.ndarray, "rows"], positive: Bool[np.ndarray, "rows"]
) -> tuple[Float[np.ndarray, "thresholds"], Float[np.ndarray, "thresholds"]]:
    """Return recall and precision at each distinct score as the threshold, from the highest down.

    Returns:
        Recall and precision; both empty when no row is positive.
    """
    check_scores(scores)
    if not positive.any():
        return np.empty(0), np.empty(0)
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # rows with the same score are found together
    found = np.cumsum(positive[order])[last]
    return found / positive.sum(), found / (np.flatnonzero(last) + 1)


def check_scores(scores: Float[np.ndarray, "rows"]) -> None:
    """Refuse scores without an order: ranks of NaN are arbitrary, and an area under a curve would not show it."""
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise NonFiniteError(
            f"{len(wrong):,} of {len(scores):,} scores are not finite, first that of row {wrong[0]} ({scores[wrong[0]]}). "
            "They have no rank: find where they were computed, or leave their rows out and say so."
        )


def with_interval(
    statistic: Callable[[Int[np.ndarray, "drawn"]], float],
    clusters: Sequence[Hashable],
    unit: str,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Estimate a statistic of rows with a percentile bootstrap interval over clusters.

    Args:
        statistic: from row indices (with repetitions) to a value; NaN where a draw does not define it, and such a draw
            is left out.
        clusters: for each row the cluster it belongs to; whole clusters are drawn.
        unit: what a cluster is, in words for a page.
        resamples: number of draws.
        level: nominal coverage.
        seed: of the draws.

    Raises:
        EmptyDataError: the statistic is not defined on the rows, or on fewer than half of the draws.
    """
    check_level(level)
    members: dict[Hashable, list[int]] = {}
    for row, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(row)
    groups = [np.array(rows) for rows in members.values()]
    value = statistic(np.arange(len(clusters)))
    rng = np.random.default_rng(seed)
    draws = np.array([statistic(np.concatenate([groups[k] for k in rng.integers(len(groups), size=len(groups))])) for _ in range(resamples)])
    defined = draws[~np.isnan(draws)]  # a draw of clusters may hold rows of one kind only
    if np.isnan(value) or 2 * len(defined) < resamples:
        raise EmptyDataError(
            f"The statistic is not defined on these {len(clusters)} rows of {len(groups)} clusters ({unit}): it needs rows of both kinds, "
            "or values that differ. Take more rows."
        )
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), Interval(float(low), float(high), level, f"percentile bootstrap over clusters: {unit}"), len(groups), unit)
