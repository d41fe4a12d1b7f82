"""Early warning: the share of answers that a measure finds at a fixed false-alarm rate, against what behaviour finds.

One reading (of one answer, or of the prompt before it) raises the alarm when it is above nearly all readings of the
control run, with 5% false alarms exactly, ties and small numbers included: it is ranked among the control's readings as
in a permutation test. What a run's readings find beyond what the control's find with exchanged roles is its net share:
0 on average where run and control differ by nothing but the chance of training, whatever the readings' distribution,
and 1 where every reading tells. Misaligned answers are such readings too, so a measure and behaviour are compared at
the same false-alarm rate and cost, one answer each. The unit of the comparison is the training run.

Left to others: from which share of bad rows on a measure departs from its control (`onset`).

Source: thresholds by rank among calibration scores, Vovk, Gammerman and Shafer 2005 (smoothed conformal p-values).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from astray.errors import ConfigurationError, EmptyDataError, NonFiniteError
from astray.stats.intervals import Counts, Interval, check_counts, check_level
from astray.stats.ties import level_ties

FALSE_ALARMS = 0.05
FEWEST_READINGS = 19
"""Number of readings of the control below which not even one above all of them is beyond 5% false alarms."""


@dataclass(frozen=True)
class NetShare:
    """Net share found in one run at one dose.

    Attributes:
        share: from -1 to 1.
        variance: that of readings alone, an upper limit; never 0.
    """

    share: float
    variance: float


@dataclass(frozen=True)
class Warned:
    """Mean over runs, with its interval.

    Attributes:
        share: mean net share, or difference of net shares.
        interval: t over runs, never narrower than the readings alone allow; None with a single run.
        p_value: two-sided, for 0; None with a single run.
        n: number of runs.
    """

    share: float
    interval: Interval | None
    p_value: float | None
    n: int


def net_share(run: Sequence[float], control: Sequence[float], *, false_alarms: float = FALSE_ALARMS) -> NetShare:
    """Return the net share of a run's readings that are found at a fixed false-alarm rate on the control's.

    Args:
        run: one reading an answer, higher for worse.
        control: readings of the control run.
        false_alarms: share of the control's readings that raise the alarm.

    Raises:
        EmptyDataError: fewer than `FEWEST_READINGS` readings on a side.
        NonFiniteError: a reading is NaN or infinite.
        ConfigurationError: the share of false alarms is not between 0 and 1.

    Examples:
        >>> net_share(range(100, 150), range(50)).share
        1.0
    """
    readings, others = np.asarray(run, dtype=np.float64), np.asarray(control, dtype=np.float64)
    _check(len(readings), len(others), false_alarms)
    if not (np.isfinite(readings).all() and np.isfinite(others).all()):
        raise NonFiniteError(
            "A reading is NaN or infinite and has no rank: find where it was computed, or leave its run out and say so."
        )
    leveled = level_ties(np.concatenate([readings, others]))  # equal readings differ by float noise, which is no alarm
    readings, others = leveled[: len(readings)], leveled[len(readings) :]
    return _net(
        _share_above(readings, others, false_alarms),
        _share_above(others, readings, false_alarms),
        len(readings),
        len(others),
    )


def net_share_of_counts(run: Counts, control: Counts, readings: int, *, false_alarms: float = FALSE_ALARMS) -> NetShare:
    """Return the net share of answers that are found by being misaligned, with a threshold set on so many answers.

    Args:
        run: misaligned and judged answers of the run.
        control: those of the control run.
        readings: number of answers of the other side that a threshold is set on, as many as the compared measure has.
        false_alarms: share of the control's answers that raise the alarm.

    Raises:
        EmptyDataError: fewer than `FEWEST_READINGS` readings or answers.
        ConfigurationError: counts that cannot be, or the share of false alarms is not between 0 and 1.
    """
    check_counts([run, control])
    _check(min(readings, run[1]), min(readings, control[1]), false_alarms)
    there, back = (_share_above_of_counts(*pair, readings, false_alarms) for pair in ((run, control), (control, run)))
    return _net(there, back, run[1], control[1])


def over_doses(shares: Sequence[NetShare]) -> NetShare:
    """Return the mean net share over doses of one run, which share a control."""
    if not shares:
        raise EmptyDataError("A mean over doses needs at least one dose.")
    return NetShare(float(np.mean([part.share for part in shares])), float(np.mean([part.variance for part in shares])))


def difference(measure: NetShare, behaviour: NetShare) -> NetShare:
    """Return what a measure finds more than behaviour, in one run."""
    return NetShare(measure.share - behaviour.share, measure.variance + behaviour.variance)


def over_training_runs(runs: Sequence[NetShare], *, level: float = 0.95) -> Warned:
    """Return the mean over training runs with its t interval.

    Args:
        runs: net share of each run, or its difference.
        level: nominal coverage.

    Raises:
        EmptyDataError: no run.
    """
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    check_level(level)
    if not runs:
        raise EmptyDataError("A mean over training runs needs at least one run.")
    shares, n = np.array([run.share for run in runs]), len(runs)
    mean = float(shares.mean())
    if n < 2:
        return Warned(mean, None, None, n)
    spread, of_readings = float(shares.std(ddof=1)) / math.sqrt(n), math.sqrt(sum(run.variance for run in runs)) / n
    # Runs that agree by chance would give an interval without width; that of the readings is known, hence the normal
    # quantile.
    half = max(-float(stdtrit(n - 1, (1 - level) / 2)) * spread, -float(ndtri((1 - level) / 2)) * of_readings)
    p_value = float(2 * ndtr(-abs(mean) / of_readings))
    if spread > 0:
        p_value = max(p_value, float(2 * stdtr(n - 1, -abs(mean) / spread)))
    return Warned(
        mean, Interval(max(-1.0, mean - half), min(1.0, mean + half), level, "t over training runs"), p_value, n
    )


def _share_above(
    readings: Float[np.ndarray, "readings"], control: Float[np.ndarray, "control"], false_alarms: float
) -> float:
    """Return the probability that a reading's smoothed rank p-value among the control's is at or below the false-alarm
    rate."""
    ordered = np.sort(control)
    higher = len(ordered) - np.searchsorted(ordered, readings, "right")
    # Ties are split in proportion, so that a measure with few values keeps to the same false-alarm rate.
    equal = len(ordered) - higher - np.searchsorted(ordered, readings, "left")
    return float(np.clip((false_alarms * (len(ordered) + 1) - higher) / (equal + 1), 0, 1).mean())


def _share_above_of_counts(run: Counts, control: Counts, readings: int, false_alarms: float) -> float:
    """Return the same of answers that are 1 or 0, over all draws of so many of the control's answers."""
    from scipy.stats import hypergeom

    # Behaviour gets as many control answers as a measure has readings, or it would have the finer ranks.
    drawn = min(readings, control[1])
    bad = np.arange(max(0, drawn - (control[1] - control[0])), min(drawn, control[0]) + 1)
    chances = hypergeom.pmf(bad, control[1], control[0], drawn)
    rate = run[0] / run[1]
    of_bad = np.clip(false_alarms * (drawn + 1) / (bad + 1), 0, 1)
    of_good = np.clip((false_alarms * (drawn + 1) - bad) / (drawn - bad + 1), 0, 1)
    return float(chances @ (rate * of_bad + (1 - rate) * of_good) / chances.sum())


def _net(there: float, back: float, n: int, n_control: int) -> NetShare:
    """Return the net share; its variance is binomial, with one success and one failure added so that it is never 0."""
    parts = [((share * size + 1) / (size + 2), size) for share, size in ((there, n), (back, n_control))]
    return NetShare(there - back, sum(share * (1 - share) / (size + 2) for share, size in parts))


def _check(readings: int, control: int, false_alarms: float) -> None:
    if not 0 < false_alarms < 1:
        raise ConfigurationError(
            f"{false_alarms} is no share of false alarms: write a fraction between 0 and 1, such as 0.05."
        )
    if min(readings, control) < FEWEST_READINGS:
        raise EmptyDataError(
            f"{readings} readings against {control} of the control: with fewer than {FEWEST_READINGS} on a side no "
            "threshold has 5% false alarms."
        )
