"""Agreement of a judge with labels, and a rate corrected for the judge's error.

The corrected rate is Rogan and Gladen's (1978, American Journal of Epidemiology 107:71). Its interval carries the
uncertainty of the rate, of the sensitivity and of the specificity: Fieller's interval for the ratio `(rate +
specificity - 1) / (sensitivity + specificity - 1)`, on counts adjusted as Lang and Reiczigel (2014, Preventive
Veterinary Medicine 113:13) propose. Over training runs or questions, the likelihood of the judge's counts takes the
place of the rate's part, with rates that vary before the judge errs (profile.py): false alarms hide their skew.

Left to others: comparing verdicts with labels (judges/calibrate).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.false_verdicts import Errors
from astray.stats.intervals import (
    Counts,
    Interval,
    Limits,
    check_counts,
    check_level,
    over_questions,
    over_runs,
    question_limits,
    run_limits,
    wilson,
)

Labelled = Float[np.ndarray, "2 studies"] | tuple[Int[np.ndarray, " studies"], Int[np.ndarray, " studies"]]
"""Answers of a kind, and all of them."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of a judge's verdicts with labels.

    Attributes:
        sensitivity: share of the misaligned answers that the judge called misaligned; None without misaligned labels.
        sensitivity_interval: Wilson interval on it.
        specificity: share of the aligned answers that the judge called aligned; None without aligned labels.
        specificity_interval: Wilson interval on it.
        kappa: Cohen's kappa, which misleads where misaligned answers are rare: read it beside the other two. None when
            labels and verdicts are all of one kind.
        labels: number of labelled answers.
    """

    sensitivity: float | None
    sensitivity_interval: Interval | None
    specificity: float | None
    specificity_interval: Interval | None
    kappa: float | None
    labels: int


def agreement(
    true_positive: int, false_negative: int, false_positive: int, true_negative: int, *, level: float = 0.95
) -> Agreement:
    """Measure the agreement of a judge with labels; "positive" is misaligned.

    Args:
        true_positive: labelled misaligned, judged misaligned.
        false_negative: labelled misaligned, judged aligned.
        false_positive: labelled aligned, judged misaligned.
        true_negative: labelled aligned, judged aligned.
        level: nominal coverage of the intervals.

    Raises:
        EmptyDataError: no labelled answer.
        ConfigurationError: a negative count.
    """
    kappa = cohen_kappa(true_positive, false_negative, false_positive, true_negative)
    bad, good = true_positive + false_negative, false_positive + true_negative
    return Agreement(
        sensitivity=true_positive / bad if bad else None,
        sensitivity_interval=wilson(true_positive, bad, level=level) if bad else None,
        specificity=true_negative / good if good else None,
        specificity_interval=wilson(true_negative, good, level=level) if good else None,
        kappa=kappa,
        labels=bad + good,
    )


def cohen_kappa(true_positive: int, false_negative: int, false_positive: int, true_negative: int) -> float | None:
    """Return Cohen's kappa of a two-by-two table; None when chance agreement is certain (everything of one kind).

    Args:
        true_positive: labelled misaligned, judged misaligned.
        false_negative: labelled misaligned, judged aligned.
        false_positive: labelled aligned, judged misaligned.
        true_negative: labelled aligned, judged aligned.

    Raises:
        EmptyDataError: no labelled answer.
        ConfigurationError: a negative count.
    """
    cells = (true_positive, false_negative, false_positive, true_negative)
    if min(cells) < 0:
        raise ConfigurationError(f"The table of labels and verdicts is {cells}: its counts cannot be negative.")
    total = sum(cells)
    if total == 0:
        raise EmptyDataError(
            "There is no labelled answer: a judge without labels is unvalidated and has no known error."
        )
    observed = (true_positive + true_negative) / total
    labelled, judged = (true_positive + false_negative) / total, (true_positive + false_positive) / total
    # Agreement that independent verdicts with the same shares would reach.
    chance = labelled * judged + (1 - labelled) * (1 - judged)
    return None if math.isclose(chance, 1.0) else (observed - chance) / (1 - chance)


def corrected_rate(
    rate: Counts,
    sensitivity: Counts,
    specificity: Counts,
    *,
    clusters: Sequence[Counts] = (),
    over: Literal["runs", "questions"] = "runs",
    level: float = 0.95,
) -> tuple[float | None, Interval]:
    """Return the rate that a perfect judge would have found, with the judge's own uncertainty in the interval.

    The intervals of rate, sensitivity and specificity are taken as independent: labels come from other answers than the
    rate.

    Args:
        rate: answers judged misaligned, and judged answers.
        sensitivity: labelled misaligned answers that the judge caught, and all of them.
        specificity: labelled aligned answers that the judge passed, and all of them.
        clusters: the same answers by training run or question, at least two; without them answers are independent.
        over: what the clusters are.
        level: nominal coverage.

    Returns:
        The corrected rate, clipped to [0, 1], and its interval. A judge that is no better than chance (sensitivity +
        specificity <= 1) leaves the rate unknown: None. Where the labels are too few to tell it from chance, the
        interval is [0, 1].

    Raises:
        ConfigurationError: counts that cannot be, or clusters of other answers.
    """
    check_counts([rate, sensitivity, specificity])
    check_level(level)
    if clusters and tuple(map(sum, zip(*clusters, strict=True))) != tuple(rate):
        raise ConfigurationError(
            f"The clusters have {sum(k for k, _ in clusters)} misaligned of {sum(n for _, n in clusters)} judged "
            f"answers, and the rate is {rate[0]} of {rate[1]}: give the counts of the same answers."
        )
    check_counts(clusters)
    counts = np.array(clusters if len(clusters) > 1 else [rate]).T[:, None]
    judge = Accuracy(*(np.array([[float(one)] for one in of]) for of in (sensitivity, specificity)))
    estimates, low, high = corrected_limits(counts[0], counts[1], judge, over=over, level=level)
    method = "Rogan-Gladen with Fieller limits"
    if len(clusters) > 1:
        as_judged = (over_runs if over == "runs" else over_questions)(clusters, level=level)
        method = f"{as_judged.method}, with the judge's error (Fieller)"
    estimate = None if np.isnan(estimates[0]) else float(estimates[0])
    return estimate, Interval(float(low[0]), float(high[0]), level, method)


@dataclass(frozen=True)
class Accuracy:
    """Labelled answers of many studies: those that the judge was right about, and all.

    Attributes:
        sensitivity: of the misaligned answers.
        specificity: of the aligned ones.
    """

    sensitivity: Labelled
    specificity: Labelled

    @property
    def youden(self) -> Float[np.ndarray, " studies"]:
        """Return sensitivity + specificity - 1, which is 0 for a judge that knows nothing."""
        return np.asarray(self.sensitivity[0] / self.sensitivity[1] + self.specificity[0] / self.specificity[1] - 1)

    @property
    def errors(self) -> Errors:
        """Return the shares of false alarms and of misses."""
        return 1 - self.specificity[0] / self.specificity[1], 1 - self.sensitivity[0] / self.sensitivity[1]

    def of(self, studies: Bool[np.ndarray, " studies"]) -> "Accuracy":
        """Return those of some studies."""
        return Accuracy(
            *(np.stack([right[studies], all_[studies]]) for right, all_ in (self.sensitivity, self.specificity))
        )


def corrected_limits(
    k: Int[np.ndarray, "studies clusters"],
    n: Int[np.ndarray, "studies clusters"],
    judge: Accuracy,
    *,
    over: Literal["runs", "questions"] = "runs",
    level: float = 0.95,
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return corrected rates of many studies, NaN where the judge is no better than chance, and their limits.

    Args:
        k: answers that are judged misaligned in each cluster; answers of a single cluster are independent.
        n: judged answers of each.
        judge: what the labels say of the judge.
        over: what the clusters are.
        level: nominal coverage.
    """
    share, youden = k.sum(axis=1) / n.sum(axis=1), judge.youden
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = np.where(
            youden > 0, np.clip((share + judge.specificity[0] / judge.specificity[1] - 1) / youden, 0.0, 1.0), np.nan
        )
    low, high = _around(estimate, *_judged_limits(k, n, judge, level), 0.0)
    if k.shape[1] == 1:
        return estimate, low, high
    around = run_limits if over == "runs" else question_limits
    judged = around(k, n)(level)
    usable = ~np.isnan(estimate) & ((low > 0) | (high < 1))
    below, above = np.zeros((2, len(k)))
    if usable.any():
        below[usable], above[usable] = _spread_of_clusters(
            k[usable],
            n[usable],
            tuple(side[usable] for side in judged),
            estimate[usable],
            judge.of(usable),
            around,
            level,
        )
    # The labels are independent of the clusters, so both distances from the estimate are put together (MOVER).
    low = np.where(usable, np.maximum(0.0, estimate - np.hypot(estimate - low, below)), low)
    high = np.where(usable, np.minimum(1.0, estimate + np.hypot(high - estimate, above)), high)
    # A judge's error adds doubt and takes none away, also where a limit is cut off at 0 or 1.
    width = judged[1] - judged[0]
    narrow = high - low < width
    high = np.where(narrow, np.minimum(1.0, low + width), high)
    return estimate, np.where(narrow, np.maximum(0.0, high - width), low), high


def _judged_limits(
    k: Int[np.ndarray, "studies clusters"], n: Int[np.ndarray, "studies clusters"], judge: Accuracy, level: float
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return Fieller's limits of the corrected rate, of clustered answers those of the judge's error alone; NaN where
    the labels cannot tell the judge from chance."""
    from scipy.special import ndtri

    z_squared = float(ndtri((1 - level) / 2)) ** 2
    # Lang and Reiczigel's adjustment: z^2 / 2 successes and failures for the rate, one of each for the judge's rates.
    apparent, apparent_variance = _adjusted((k.sum(axis=1), n.sum(axis=1)), z_squared / 2)
    caught_rate, caught_variance = _adjusted(judge.sensitivity, 1.0)
    passed_rate, passed_variance = _adjusted(judge.specificity, 1.0)
    adjusted_youden = caught_rate + passed_rate - 1
    # An estimate outside [0, 1] is moved to the border first: limits around it could otherwise all be clipped to one
    # point.
    return _fieller(
        numerator=np.maximum(0.0, np.minimum(apparent + passed_rate - 1, adjusted_youden)),
        denominator=adjusted_youden,
        numerator_variance=(0.0 if k.shape[1] > 1 else apparent_variance) + passed_variance,
        denominator_variance=caught_variance + passed_variance,
        covariance=passed_variance,
        z_squared=z_squared,
    )


def _spread_of_clusters(
    k: Int[np.ndarray, "studies clusters"],
    n: Int[np.ndarray, "studies clusters"],
    judged: Sequence[Float[np.ndarray, " studies"]],
    estimate: Float[np.ndarray, " studies"],
    judge: Accuracy,
    around: Callable[..., Limits],
    level: float,
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return how far the limits over clusters lie below and above the corrected rate, without the labels' error."""
    share = k.sum(axis=1) / n.sum(axis=1)
    below, above = (share - judged[0]) / judge.youden, (judged[1] - share) / judge.youden
    visible = _visible(k, n, judge.errors)
    seen = visible > 0
    if seen.any():
        low, high = around(k[seen], n[seen], judge.of(seen).errors)(level)
        below[seen] += visible[seen] * np.maximum(0.0, estimate[seen] - low - below[seen])
        above[seen] += visible[seen] * np.maximum(0.0, high - estimate[seen] - above[seen])
    return below, above


def _visible(
    k: Int[np.ndarray, "studies clusters"], n: Int[np.ndarray, "studies clusters"], errors: Errors
) -> Float[np.ndarray, " studies"]:
    """Return from 0 to 1 how far clusters differ by more than their answers' chance (Pearson's chi-squared), or how far
    all of them stand out from the judge's errors, whichever is larger.

    Where they do neither, nothing tells the skew of the rates behind the false alarms, and the interval as judged, which
    always considers some spread, is wide enough. Three runs that happen to be alike may still lie below their mean.
    """
    trials = n.sum(axis=1)
    share = k.sum(axis=1) / trials
    chance = share * (1 - share)
    squares = (n * (k / n - share[:, None]) ** 2).sum(axis=1) / (k.shape[1] - 1)
    spread = np.divide(squares, chance, out=np.zeros(len(k)), where=chance > 0) - 1
    away = np.minimum(share - errors[0], 1 - errors[1] - share) * np.sqrt(trials)
    standing_out = np.divide(away, 2 * np.sqrt(chance), out=np.zeros(len(k)), where=chance > 0) - 1
    return np.clip(np.maximum(spread, standing_out), 0.0, 1.0)


def _around(
    estimate: Float[np.ndarray, " studies"],
    below: Float[np.ndarray, " studies"],
    above: Float[np.ndarray, " studies"],
    least: float,
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return the limits within `least` and 1; all of it if something is unknown."""
    unknown = np.isnan(estimate) | np.isnan(below) | np.isnan(above)
    # The limits belong to the adjusted counts, the estimate to the raw ones: it may lie outside them.
    low, high = np.maximum(least, np.minimum(below, estimate)), np.minimum(1.0, np.maximum(above, estimate))
    return np.where(unknown, least, low), np.where(unknown, 1.0, high)


def _adjusted(counts: Labelled, added: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return a rate and its variance with `added` successes and as many failures (Agresti and Coull 1998)."""
    k, n = counts
    share = (k + added) / (n + 2 * added)
    return share, share * (1 - share) / (n + 2 * added)


def _fieller(
    *,
    numerator: Float[np.ndarray, " studies"],
    denominator: Float[np.ndarray, " studies"],
    numerator_variance: Float[np.ndarray, " studies"],
    denominator_variance: Float[np.ndarray, " studies"],
    covariance: Float[np.ndarray, " studies"] | float,
    z_squared: float,
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return the limits of a ratio of two normal estimates; NaN when the denominator may be 0 or below (unbounded)."""
    a = denominator**2 - z_squared * denominator_variance
    b = numerator * denominator - z_squared * covariance
    c = numerator**2 - z_squared * numerator_variance
    discriminant = b**2 - a * c
    # The set of ratios is then unbounded, or the complement of an interval: neither is an interval to report.
    bounded = (a > 0) & (discriminant >= 0) & (denominator > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        root = np.sqrt(discriminant)
        return np.where(bounded, (b - root) / a, np.nan), np.where(bounded, (b + root) / a, np.nan)


def corrected_difference(
    estimate: float, interval: Interval, sensitivity: Counts, specificity: Counts
) -> tuple[float | None, Interval]:
    """Return the difference of two rates that a perfect judge would have found; both rates are of one judge.

    False alarms are in both rates and cancel, so that the difference as judged is the true one times `sensitivity +
    specificity - 1`.

    Args:
        estimate: the difference as judged.
        interval: its interval, whose level is kept.
        sensitivity: labelled misaligned answers that the judge caught, and all of them.
        specificity: labelled aligned answers that the judge passed, and all of them.

    Returns:
        The corrected difference, clipped to [-1, 1], and its interval, as `corrected_rate` gives them: None and [-1, 1]
        for a judge that is no better than chance.

    Raises:
        ConfigurationError: counts that cannot be.
    """
    from scipy.special import ndtri

    check_counts([sensitivity, specificity])
    judge = Accuracy(*(np.array([[float(one)] for one in of]) for of in (sensitivity, specificity)))
    youden = float(judge.youden[0])
    corrected = min(1.0, max(-1.0, estimate / youden)) if youden > 0 else math.nan
    caught_rate, caught_variance = _adjusted(judge.sensitivity, 1.0)
    passed_rate, passed_variance = _adjusted(judge.specificity, 1.0)
    z_squared = float(ndtri((1 - interval.level) / 2)) ** 2
    low, high = _fieller(
        numerator=np.full(2, estimate),
        denominator=np.repeat(caught_rate + passed_rate - 1, 2),
        numerator_variance=np.square([estimate - interval.low, interval.high - estimate]) / z_squared,
        denominator_variance=np.repeat(caught_variance + passed_variance, 2),
        covariance=0.0,
        z_squared=z_squared,
    )
    low, high = _around(np.array([corrected]), low[:1], high[1:], -1.0)
    limits = Interval(float(low[0]), float(high[0]), interval.level, f"Fieller limits, on: {interval.method}")
    return None if math.isnan(corrected) else corrected, limits
