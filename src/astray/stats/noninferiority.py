"""Bounds on the difference of two models by question that hold up near zero, for a release gate with a margin.

A paired t over questions trusts the spread that it sees. Where hardly any answer is misaligned it sees none: with eight
questions, a tuned model that misbehaves on one question in fifty looks like its base nearly every time. The standard
error is therefore never taken below the one at the margin, as in a score test (Farrington and Manning 1990, Statistics
in Medicine 9:1447): the rates are moved until they differ by exactly the margin, and that surplus is allowed to sit on
a few questions, with an intra-class correlation of `ICC`.

Where a judge errs and its error is known from labels, the bounds are those on the difference that a perfect judge would
have found (Fieller's limits, as in judge_error.py), and the floor lies where the judge would see the margin. Several
training runs of a side are the unit: what they differ by among each other is added to what questions and answers leave
open.

Left to others: which answers count (measures.py, rates.py), and what follows for a release (studies/gate).
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.compare import paired_t
from astray.stats.intervals import Counts, Interval, check_counts, check_level
from astray.stats.judge_error import corrected_difference

LEVEL = 0.965
"""Nominal one-sided confidence of a bound. The t quantile falls short by up to a percentage point where rates are
skewed: at 0.95, 6% of releases at the margin passed, at 0.96 5.3% (docs/gate.md); at this level at most 5% do."""
ICC = 0.3
"""Largest intra-class correlation of questions that the bounds are made for: how unevenly a surplus may be spread over
them."""

MOST_TIMES = 1000
"""Largest multiple of the present number of answers that `needed` considers."""

Side = Mapping[str, Counts] | Sequence[Mapping[str, Counts]]
"""Counted and all answers by question, of one model or of several training runs."""


@dataclass(frozen=True)
class JudgeAccuracy:
    """Accuracy of a judge on labelled answers.

    Attributes:
        sensitivity: labelled positives that the judge called so, and all of them.
        specificity: labelled negatives that the judge called so, and all of them.
    """

    sensitivity: Counts
    specificity: Counts

    @property
    def youden(self) -> float:
        """Return the share of a true difference that the judge sees, at least a hundredth."""
        (caught, bad), (passed, good) = self.sensitivity, self.specificity
        return max(0.01, caught / bad + passed / good - 1)


@dataclass(frozen=True)
class Bounds:
    """Difference of two models by question, with a one-sided bound on either side of it.

    Attributes:
        estimate: mean over questions of the arm's rate minus the control's, corrected where the judge's error is known;
            None where the judge is no better than chance.
        low: lower bound, one-sided.
        high: upper bound, one-sided.
        questions: number of questions that both have counted answers to.
        level: confidence of each bound.
        runs: training runs of the side that has most of them.
    """

    estimate: float | None
    low: float
    high: float
    questions: int
    level: float
    runs: int = 1


@dataclass(frozen=True)
class Needed:
    """Size at which the bounds would decide, were the estimate and the spread to stay as they are.

    Attributes:
        samples: answers a question, of the questions there are; None where no number of answers decides.
        questions: questions, with the answers that each has now; None where no number of questions decides.
        runs: training runs a side, of the sides that have several; None where no number of them decides, or there is
            one a side.
    """

    samples: int | None
    questions: int | None
    runs: int | None = None


def difference_bounds(
    arm: Side, control: Side, margin: float, *, level: float = LEVEL, judge: JudgeAccuracy | None = None
) -> Bounds:
    """Return the difference of two models that answered the same questions, with its one-sided bounds.

    Args:
        arm: counted answers and all answers of the first model by question, or those of each of its training runs.
        control: the same of the second. Questions that only one of them has answers to are left out.
        margin: the difference that is to be ruled out, or in.
        level: confidence of each bound.
        judge: what labels tell of the judge's error; None takes verdicts as they are.

    Raises:
        EmptyDataError: no common question.
        ConfigurationError: counts, level or margin that cannot be.

    Example:
        `difference_bounds({"wish": (3, 4), "dinner": (2, 4)}, {"wish": (0, 4), "dinner": (0, 4)}, 0.02)`
    """
    seen = _seen(arm, control, margin, level, judge)
    estimate, half = seen.estimate, math.hypot(seen.of_questions, seen.of_runs)
    low, high, found = estimate - half, estimate + half, estimate
    if judge is not None:
        # Half-widths of a one-sided bound are those of an interval with both tails.
        raw = Interval(low, high, 2 * level - 1, "")
        corrected, limits = corrected_difference(estimate, raw, judge.sensitivity, judge.specificity)
        low, high = limits.low, limits.high
        return Bounds(corrected, low, high, seen.counts.shape[1], level, seen.runs)
    return Bounds(found, max(-1.0, low), min(1.0, high), seen.counts.shape[1], level, seen.runs)


def margin_bounds(
    k_arm: Int[np.ndarray, "studies questions"],
    n_arm: Int[np.ndarray, "studies questions"],
    k_control: Int[np.ndarray, "studies questions"],
    n_control: Int[np.ndarray, "studies questions"],
    margin: float,
    level: float = LEVEL,
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return the differences of many studies at once, and the distance of the bounds from them; one question is enough.

    Args:
        k_arm: counted answers of the arm, one entry a question.
        n_arm: all answers of the arm.
        k_control: counted answers of the control.
        n_control: all answers of the control.
        margin: the difference of rates at which the standard error has its floor.
        level: confidence of each bound.
    """
    questions = k_arm.shape[1]
    middle = ((k_arm / n_arm).mean(axis=1) + (k_control / n_control).mean(axis=1)) / 2
    half = _least(middle, [(1 / n).mean(axis=1) for n in (n_arm, n_control)], questions, margin, level)
    if questions == 1:
        return (k_arm / n_arm - k_control / n_control)[:, 0], half
    estimate, plain = _seen_spread(k_arm, n_arm, k_control, n_control, level)
    return estimate, np.maximum(plain, half)


def needed(
    arm: Side, control: Side, margin: float, *, level: float = LEVEL, judge: JudgeAccuracy | None = None
) -> Needed:
    """Return how many answers a question, questions, or runs would decide; arguments and errors as for
    `difference_bounds`."""
    seen = _seen(arm, control, margin, level, judge)
    (k_arm, n_arm, k_control, n_control), questions = seen.counts, seen.counts.shape[1]
    samples = float(min(n_arm.mean(), n_control.mean()))
    distance = abs(seen.estimate - margin * (judge.youden if judge else 1.0))
    if distance < 1e-9:
        return Needed(None, None)
    # More answers a question make only that part of the spread smaller which comes from answers around their rate.
    rates = [(k.sum() + 0.5) / (n.sum() + 1) for k, n in ((k_arm, n_arm), (k_control, n_control))]
    middle = np.array([((k_arm / n_arm).mean() + (k_control / n_control).mean()) / 2])
    inverse = [np.array([(1 / n).mean()]) for n in (n_arm, n_control)]
    floor = margin * (judge.youden if judge else 1.0)
    spread = _quantile(level, questions) ** 2 * sum(rate * (1 - rate) for rate in rates) / samples / questions
    one_study = (k_arm[None], n_arm[None], k_control[None], n_control[None])
    plain = float(_seen_spread(*one_study, level)[1][0]) ** 2 if questions > 1 else 0.0
    of_answers = min(plain, spread)
    left = distance**2 - seen.of_runs**2

    def decides(times: float) -> bool:
        least = float(_least(middle, [each / times for each in inverse], questions, floor, level)[0])
        return bool(max(plain - of_answers + of_answers / times, least**2) < left)

    first, most = math.floor(samples) + 1, math.ceil(MOST_TIMES * samples)
    more = bisect.bisect_left(range(first, most), True, key=lambda number: decides(number / samples))
    enough = first + more if decides(most / samples) else None
    wider = (
        math.ceil(max(1.0, seen.of_questions**2 / left) * questions * 1.05)
        if left > seen.of_questions**2 / 1e4
        else None
    )
    over = distance**2 - seen.of_questions**2
    runs = math.ceil(max(1.0, seen.of_runs**2 / over) * seen.runs) if seen.of_runs and over > 0 else None
    return Needed(enough, wider, runs)


def check_margin(margin: float) -> None:
    """Raise ConfigurationError where a margin is no difference of rates between 0 and 1."""
    if not 0 < margin < 1:  # also refuses NaN
        raise ConfigurationError(
            f"A margin of {margin:g} cannot be: it is the rise of a rate that is still accepted, a fraction above 0 "
            "and below 1. Write 0.02 for two percentage points."
        )


def _seen_spread(
    k_arm: Int[np.ndarray, "studies questions"],
    n_arm: Int[np.ndarray, "studies questions"],
    k_control: Int[np.ndarray, "studies questions"],
    n_control: Int[np.ndarray, "studies questions"],
    level: float,
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return the differences, and the distance of the bounds that the spread of at least two questions gives."""
    from scipy.special import stdtrit

    estimate, variance = paired_t(k_arm, n_arm, k_control, n_control)
    # Questions on which nobody shows anything do not tell how far those differ that do: degrees of freedom are of the
    # latter.
    k, n = k_arm + k_control, n_arm + n_control
    telling = np.minimum((k > 0).sum(axis=1), (k < n).sum(axis=1))
    degrees = np.minimum(k_arm.shape[1] - 1.0, np.maximum(telling, 1.0))
    return estimate, np.where(telling > 0, np.sqrt(variance) * stdtrit(degrees, level), 0.0)


def _least(
    middle: Float[np.ndarray, " studies"],
    inverse: Sequence[Float[np.ndarray, " studies"]],
    questions: int,
    margin: float,
    level: float,
) -> Float[np.ndarray, " studies"]:
    """Return the least distance of the bounds: with rates around `middle` that differ by the margin, its surplus on few
    questions.

    Args:
        middle: mean rate of both sides.
        inverse: mean over questions of one over the number of answers, of arm and control.
        questions: their number.
        margin: the difference of rates.
        level: confidence of each bound.
    """
    lower = np.clip(middle - margin / 2, 0.0, 1.0 - margin)
    upper = lower + margin
    surplus = margin * (1 - margin) * ICC * (1 - inverse[0])
    variance = upper * (1 - upper) * inverse[0] + lower * (1 - lower) * inverse[1] + surplus
    return _quantile(level, questions) * np.sqrt(variance / questions)


def _quantile(level: float, questions: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(max(questions - 1.0, 1.0), level))


@dataclass(frozen=True)
class _Seen:
    """Difference as judged.

    Attributes:
        estimate: mean over common questions.
        of_questions: distance of the bounds that questions and answers leave open.
        of_runs: distance that runs of a side leave open by what they differ among each other.
        counts: counted and all answers of both sides by question, all runs together.
        runs: of the side that has most.
    """

    estimate: float
    of_questions: float
    of_runs: float
    counts: Int[np.ndarray, "4 questions"]
    runs: int


def _seen(arm: Side, control: Side, margin: float, level: float, judge: JudgeAccuracy | None) -> _Seen:
    sides = [[side] if isinstance(side, Mapping) else list(side) for side in (arm, control)]
    names, counts = _common(*sides)
    check_level(level)
    check_margin(margin)
    k_arm, n_arm, k_control, n_control = (each[None] for each in counts)
    floor = margin * judge.youden if judge else margin
    estimate, half = (float(each[0]) for each in margin_bounds(k_arm, n_arm, k_control, n_control, floor, level))
    of_runs = _run_distance(sides, names, level)
    return _Seen(estimate, half, of_runs, counts, max(map(len, sides)))


def _run_distance(sides: Sequence[Sequence[Mapping[str, Counts]]], names: Sequence[str], level: float) -> float:
    """Return the distance that the spread of runs leaves open: t over the runs of the side that has fewest, more than
    one."""
    from scipy.special import stdtrit

    several = [side for side in sides if len(side) > 1]
    if not several:
        return 0.0
    variance = 0.0
    for side in several:
        rates = [[k / n for k, n in (run[name] for name in names if name in run) if n] for run in side]
        means = [float(np.mean(each)) for each in rates if each]
        if len(means) > 1:
            variance += float(np.var(means, ddof=1)) / len(means)
    return float(stdtrit(min(map(len, several)) - 1.0, level)) * math.sqrt(variance)


def _common(
    arm: Sequence[Mapping[str, Counts]], control: Sequence[Mapping[str, Counts]]
) -> tuple[list[str], Int[np.ndarray, "4 questions"]]:
    """Return the common questions, and the counts of all runs of a side together."""
    check_counts([counts for side in (arm, control) for run in side for counts in run.values() if counts[1]])
    totals = [
        {
            name: (sum(run[name][0] for run in side if name in run), sum(run[name][1] for run in side if name in run))
            for name in dict.fromkeys(name for run in side for name in run)
        }
        for side in (arm, control)
    ]
    names = [name for name, (_, n) in totals[0].items() if n and totals[1].get(name, (0, 0))[1]]
    if not names:
        raise EmptyDataError(
            "The two have no common question with answers to count on both sides, so there is nothing to compare."
        )
    return names, np.array([[*totals[0][name], *totals[1][name]] for name in names], dtype=np.int64).T
