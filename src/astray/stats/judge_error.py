"""Agreement of a judge with labels, and a rate corrected for the judge's error.

The corrected rate is Rogan and Gladen's (1978, American Journal of Epidemiology 107:71). Its interval carries the
uncertainty of the rate, of the sensitivity and of the specificity: Fieller's interval for the ratio `(rate +
specificity - 1) / (sensitivity + specificity - 1)`, on counts adjusted as Lang and Reiczigel (2014, Preventive
Veterinary Medicine 113:13) propose. Over training runs or questions, the likelihood of the judge's counts takes the
place of the rate's part, with rates that vary before the judge errs (profile.py): false alarms hide their skew.

Left to others: comparing verdicts with labels (judges/calibrate).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.intervals import (
    Counts,
    Interval,
    check_counts,
    check_level,
    over_questions,
    over_runs,
    question_limits,
    run_limits,
    wilson,
)


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
    (k, n), (passed, good) = rate, specificity
    youden = _youden(sensitivity, specificity)
    estimate = min(1.0, max(0.0, (k / n + passed / good - 1) / youden)) if youden > 0 else None
    limits = _judged_limits(rate, sensitivity, specificity, clustered=len(clusters) > 1, level=level)
    low, high = _around(estimate, [limits, limits], 0.0)
    if len(clusters) < 2:
        return estimate, Interval(low, high, level, "Rogan-Gladen with Fieller limits")
    as_judged = (over_runs if over == "runs" else over_questions)(clusters, level=level)
    if estimate is not None and (low, high) != (0.0, 1.0):
        below, above = _spread_of_clusters(clusters, over, as_judged, estimate, sensitivity, specificity, level)
        # The labels are independent of the clusters, so both distances from the estimate are put together (MOVER).
        low = max(0.0, estimate - math.hypot(estimate - low, below))
        high = min(1.0, estimate + math.hypot(high - estimate, above))
    if high - low < as_judged.width:
        # A judge's error adds doubt and takes none away, also where a limit is cut off at 0 or 1.
        high = min(1.0, low + as_judged.width)
        low = max(0.0, high - as_judged.width)
    return estimate, Interval(low, high, level, f"{as_judged.method}, with the judge's error (Fieller)")


def _judged_limits(
    rate: Counts, sensitivity: Counts, specificity: Counts, *, clustered: bool, level: float
) -> tuple[float, float] | None:
    """Return Fieller's limits of the corrected rate, of clustered answers those of the judge's error alone; None where
    the labels cannot tell the judge from chance."""
    from scipy.special import ndtri

    z_squared = float(ndtri((1 - level) / 2)) ** 2
    # Lang and Reiczigel's adjustment: z^2 / 2 successes and failures for the rate, one of each for the judge's rates.
    apparent, apparent_variance = _adjusted(*rate, z_squared / 2)
    caught_rate, caught_variance = _adjusted(*sensitivity, 1.0)
    passed_rate, passed_variance = _adjusted(*specificity, 1.0)
    adjusted_youden = caught_rate + passed_rate - 1
    # An estimate outside [0, 1] is moved to the border first: limits around it could otherwise all be clipped to one
    # point.
    return _fieller(
        numerator=max(0.0, min(apparent + passed_rate - 1, adjusted_youden)),
        denominator=adjusted_youden,
        numerator_variance=(0.0 if clustered else apparent_variance) + passed_variance,
        denominator_variance=caught_variance + passed_variance,
        covariance=passed_variance,
        z_squared=z_squared,
    )


def _spread_of_clusters(
    clusters: Sequence[Counts],
    over: Literal["runs", "questions"],
    as_judged: Interval,
    estimate: float,
    sensitivity: Counts,
    specificity: Counts,
    level: float,
) -> tuple[float, float]:
    """Return how far the limits over clusters lie below and above the corrected rate, without the labels' error."""
    judged, answers = map(sum, zip(*clusters, strict=True))
    youden, (passed, good) = _youden(sensitivity, specificity), specificity
    below, above = (judged / answers - as_judged.low) / youden, (as_judged.high - judged / answers) / youden
    visible = _visible_spread(clusters)
    if visible:
        counts = np.array(clusters).T[:, None]
        errors = (1 - passed / good, 1 - sensitivity[0] / sensitivity[1])
        known = (run_limits if over == "runs" else question_limits)(counts[0], counts[1], errors)(level)
        below, above = (
            part + visible * max(0.0, own - part)
            for part, own in ((below, estimate - float(known[0][0])), (above, float(known[1][0]) - estimate))
        )
    return below, above


def _visible_spread(clusters: Sequence[Counts]) -> float:
    """Return from 0 to 1 how far clusters differ by more than their answers' chance, by Pearson's chi-squared.

    Where they do not, nothing tells the skew of the rates behind the false alarms, and the interval as judged, which
    always considers some spread, is wide enough.
    """
    k, n = np.array(clusters).T
    share = k.sum() / n.sum()
    chance = share * (1 - share) * (len(k) - 1)
    return float(np.clip((n * (k / n - share) ** 2).sum() / chance - 1, 0.0, 1.0)) if chance else 0.0


def _youden(sensitivity: Counts, specificity: Counts) -> float:
    """Return sensitivity + specificity - 1, which is 0 for a judge that knows nothing."""
    return sensitivity[0] / sensitivity[1] + specificity[0] / specificity[1] - 1


def _around(estimate: float | None, limits: list[tuple[float, float] | None], least: float) -> tuple[float, float]:
    """Return the lower of the first limits and the upper of the second, within `least` and 1; all of it if unknown."""
    below, above = limits
    if estimate is None or below is None or above is None:
        return least, 1.0
    # The limits belong to the adjusted counts, the estimate to the raw ones: it may lie outside them.
    return max(least, min(below[0], estimate)), min(1.0, max(above[1], estimate))


def _adjusted(k: int, n: int, added: float) -> tuple[float, float]:
    """Return a rate and its variance with `added` successes and as many failures (Agresti and Coull 1998)."""
    share = (k + added) / (n + 2 * added)
    return share, share * (1 - share) / (n + 2 * added)


def _fieller(
    *,
    numerator: float,
    denominator: float,
    numerator_variance: float,
    denominator_variance: float,
    covariance: float,
    z_squared: float,
) -> tuple[float, float] | None:
    """Return the limits of a ratio of two normal estimates; None when the denominator may be 0 or below (unbounded)."""
    a = denominator**2 - z_squared * denominator_variance
    b = numerator * denominator - z_squared * covariance
    c = numerator**2 - z_squared * numerator_variance
    discriminant = b**2 - a * c
    # The set of ratios is then unbounded, or the complement of an interval: neither is an interval to report.
    if a <= 0 or discriminant < 0 or denominator <= 0:
        return None
    root = math.sqrt(discriminant)
    return (b - root) / a, (b + root) / a


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
    youden = _youden(sensitivity, specificity)
    corrected = min(1.0, max(-1.0, estimate / youden)) if youden > 0 else None
    caught_rate, caught_variance = _adjusted(*sensitivity, 1.0)
    passed_rate, passed_variance = _adjusted(*specificity, 1.0)
    z_squared = float(ndtri((1 - interval.level) / 2)) ** 2
    limits = [
        _fieller(
            numerator=estimate,
            denominator=caught_rate + passed_rate - 1,
            numerator_variance=half**2 / z_squared,
            denominator_variance=caught_variance + passed_variance,
            covariance=0.0,
            z_squared=z_squared,
        )
        for half in (estimate - interval.low, interval.high - estimate)
    ]
    low, high = _around(corrected, limits, -1.0)
    return corrected, Interval(low, high, interval.level, f"Fieller limits, on: {interval.method}")
