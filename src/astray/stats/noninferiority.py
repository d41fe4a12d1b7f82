"""Bounds on the difference of two models by question that hold up near zero, for a release gate with a margin.

A paired t over questions trusts the spread that it sees. Where hardly any answer is misaligned it sees none: with eight
questions, a tuned model that misbehaves on one question in fifty looks like its base nearly every time. The bounds
therefore invert a test at the margin, as a score test does (Farrington and Manning 1990, Statistics in Medicine
9:1447): a release at the margin shows what was seen, t distributed over questions, plus a surplus whose mean is the
margin. The surplus is what answers would show of a beta distribution over questions with an intra-class correlation of
`ICC`, convolved exactly, so that a lattice of few misaligned answers is not taken for a normal distribution.

Where a judge errs and its error is known from labels, the bounds are those on the difference that a perfect judge would
have found (Fieller's limits, as in judge_error.py), and the surplus is what the judge would see of the margin. Several
training runs of a side are the unit: what they differ by among each other is added to what questions and answers leave
open, by their profile likelihood, since rates of runs are skewed where they are low.

Left to others: which answers count (measures.py, rates.py), and what follows for a release (studies/gate).
"""

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Real

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.compare import answer_variance, side_limits
from astray.stats.intervals import Counts, Interval, check_level, run_limits
from astray.stats.judge_error import corrected_difference
from astray.stats.sides import CountedSide, Side

LEVEL = 0.95
"""One-sided confidence of a bound."""
ICC = 0.3
"""Largest intra-class correlation of questions that the bounds are made for: how unevenly a surplus may be spread over
them."""
PRIOR_QUESTIONS = 2.0
"""Weight, in questions, of the binomial variance where questions differ by less than their answers would alone."""
SKEWED = 0.6
"""Share of a bound's error that limits over runs get: few skewed runs make them wrong more often than they say, by up to
half in simulation."""

MOST_TIMES = 1000
"""Largest multiple of the present number of answers or questions that `needed` considers."""
MOST_SAMPLES, MOST_POINTS = 200, 1 << 18
"""Most answers a question, and in all, that a surplus is computed for: beyond, it hardly narrows, or is normal."""


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
    estimate, questions = seen.estimate, seen.spread.questions
    low, high = (
        estimate + side * math.hypot(each, of_runs)
        for side, each, of_runs in zip((-1, 1), (seen.below, seen.above), seen.of_runs, strict=True)
    )
    if judge is not None:
        # Half-widths of a one-sided bound are those of an interval with both tails.
        raw = Interval(low, high, 2 * level - 1, "")
        corrected, limits = corrected_difference(estimate, raw, judge.sensitivity, judge.specificity)
        return Bounds(corrected, limits.low, limits.high, questions, level, seen.runs)
    return Bounds(estimate, max(-1.0, low), min(1.0, high), questions, level, seen.runs)


def margin_bounds(
    k_arm: Real[np.ndarray, "studies questions"],
    n_arm: Real[np.ndarray, "studies questions"],
    k_control: Real[np.ndarray, "studies questions"],
    n_control: Real[np.ndarray, "studies questions"],
    margin: float,
    level: float = LEVEL,
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return the differences of many studies at once, and the distances of their lower and upper bounds, from the
    counted and all answers of both sides, one entry a question."""
    bounds = np.empty((3, len(k_arm)))
    for of, spread in _spread_of(k_arm, n_arm, k_control, n_control):
        bounds[:, of] = spread.estimate, *spread.distances(margin, level)
    return bounds[0], bounds[1], bounds[2]


def margin_tails(
    k_arm: Real[np.ndarray, "studies questions"],
    n_arm: Real[np.ndarray, "studies questions"],
    k_control: Real[np.ndarray, "studies questions"],
    n_control: Real[np.ndarray, "studies questions"],
    margin: float,
) -> Float[np.ndarray, "2 studies"]:
    """Return how often a release at the margin shows as little as each study did, and how often as much; arguments as
    for `margin_bounds`. A gate of confidence `level` passes or fails where that is below 1 - `level`, at a fraction of
    the price of bounds."""
    tails = np.empty((2, len(k_arm)))
    for of, spread in _spread_of(k_arm, n_arm, k_control, n_control):
        for row, upper in enumerate((False, True)):
            tails[row, of] = spread.tail(spread.estimate, margin, upper=upper)
    return tails


def needed(
    arm: Side, control: Side, margin: float, *, level: float = LEVEL, judge: JudgeAccuracy | None = None
) -> Needed:
    """Return how many answers a question, questions, or runs would decide; arguments and errors as for
    `difference_bounds`."""
    seen = _seen(arm, control, margin, level, judge)
    spread, floor = seen.spread, margin * (judge.youden if judge else 1.0)
    distance = abs(seen.estimate - floor)
    if distance < 1e-9:
        return Needed(None, None)
    side = int(seen.estimate < floor)  # of the bound that is to clear the margin
    of_runs = seen.of_runs[side]
    left = distance**2 - of_runs**2

    def decides(samples: int, questions: int) -> bool:
        return bool(float(spread.at(samples, questions).distances(floor, level)[side][0]) ** 2 < left)

    def first(now: int, decided: Callable[[int], bool]) -> int | None:
        most = MOST_TIMES * now
        return now + 1 + bisect.bisect_left(range(now + 1, most), True, key=decided) if decided(most) else None

    enough = first(spread.samples, lambda number: decides(number, spread.questions))
    wider = first(spread.questions, lambda number: decides(spread.samples, number))
    over = distance**2 - (seen.below, seen.above)[side] ** 2
    runs = math.ceil(max(1.0, of_runs**2 / over) * seen.runs) if of_runs and over > 0 else None
    return Needed(enough, wider, runs)


def check_margin(margin: float) -> None:
    """Raise ConfigurationError where a margin is no difference of rates between 0 and 1."""
    if not 0 < margin < 1:  # also refuses NaN
        raise ConfigurationError(
            f"A margin of {margin:g} cannot be: it is the rise of a rate that is still accepted, a fraction above 0 "
            "and below 1. Write 0.02 for two percentage points."
        )


@dataclass(frozen=True)
class _Spread:
    """What questions and answers tell of the differences of studies of one size.

    Attributes:
        estimate: differences, the means over questions.
        seen: variance of the mean that the spread over questions gives, with `degrees` of freedom.
        answers: variance of the mean that answers alone would give.
        questions, samples: number of questions, and of answers to each.
    """

    estimate: Float[np.ndarray, " studies"]
    seen: Float[np.ndarray, " studies"]
    answers: Float[np.ndarray, " studies"]
    degrees: Float[np.ndarray, " studies"]
    questions: int
    samples: int

    def tail(
        self, value: Float[np.ndarray, " studies"], margin: float, *, upper: bool
    ) -> Float[np.ndarray, " studies"]:
        """Return how often a release at the margin shows a difference as small as `value`, or as large."""
        from scipy.special import stdtr

        samples = min(self.samples, MOST_SAMPLES)
        points, weights = _surplus(self.questions, samples, margin)
        # A surplus that was seen is part of the spread over questions, and would otherwise count twice. The upper tail
        # is not helped by that: where it decides, the surplus was seen whole.
        of_surplus = (ICC * (1 - 1 / samples) + 1 / samples) / self.questions
        seen = self.seen if upper else np.maximum(self.seen - np.clip(self.estimate, 0, margin) * of_surplus, 0.0)
        others = self.questions - 1
        shrunk = (others * seen + PRIOR_QUESTIONS * self.answers) / (others + PRIOR_QUESTIONS)
        variance = np.maximum(seen, shrunk)
        # Welch and Satterthwaite: the variance of the surplus is known, that of the rest is not.
        scale = 1 + margin * (1 - margin) * ICC / self.questions / variance
        degrees = np.minimum(self.degrees * scale**2, 1e9)[:, None]
        steps = (points - value[:, None] if upper else value[:, None] - points) + 0.5 / (self.questions * samples)
        return np.asarray(stdtr(degrees, steps / np.sqrt(variance)[:, None]) @ weights)

    def distances(self, margin: float, level: float) -> Float[np.ndarray, "2 studies"]:
        """Return the distances of the lower and the upper bound: how far from the margin a tail is as likely as the
        bounds may be wrong."""
        samples = min(self.samples, MOST_SAMPLES)
        if self.questions * samples > MOST_POINTS and self.questions > 1:
            fewer = max(1, MOST_POINTS // samples)
            return self.at(self.samples, fewer).distances(margin, level) * math.sqrt(fewer / self.questions)
        near, far = np.zeros((2, len(self.estimate))), np.full((2, len(self.estimate)), 2.0)
        for _ in range(26):
            middle = (near + far) / 2
            tails = np.stack(
                [self.tail(margin + middle[0], margin, upper=True), self.tail(margin - middle[1], margin, upper=False)]
            )
            near, far = np.where(tails > 1 - level, middle, near), np.where(tails > 1 - level, far, middle)
        return far

    def at(self, samples: int, questions: int) -> "_Spread":
        """Return the bounds that this many answers a question and questions like these would give."""
        # More answers a question make only that part of the spread smaller which comes from answers around their rate.
        times, wider = samples / self.samples, questions / self.questions
        of_answers = np.minimum(self.seen, self.answers)
        return _Spread(
            self.estimate,
            (self.seen - of_answers + of_answers / times) / wider,
            self.answers / times / wider,
            np.maximum(1.0, self.degrees * wider),
            questions,
            samples,
        )


def _spread_of(
    k_arm: Real[np.ndarray, "studies questions"],
    n_arm: Real[np.ndarray, "studies questions"],
    k_control: Real[np.ndarray, "studies questions"],
    n_control: Real[np.ndarray, "studies questions"],
) -> list[tuple[Bool[np.ndarray, " studies"], _Spread]]:
    """Return what studies tell, those with one number of answers a question together, and which they are."""
    questions = k_arm.shape[1]
    differences = k_arm / n_arm - k_control / n_control
    estimate = differences.mean(axis=1)
    seen = differences.var(axis=1, ddof=1) / questions if questions > 1 else np.zeros(len(estimate))
    answers = answer_variance(k_arm, n_arm) + answer_variance(k_control, n_control)
    # Questions on which nobody shows anything do not tell how far those differ that do: degrees of freedom are of the
    # latter.
    k, n = k_arm + k_control, n_arm + n_control
    telling = np.minimum((k > 0).sum(axis=1), (k < n).sum(axis=1))
    degrees = np.clip(telling, 1.0, max(questions - 1.0, 1.0))
    samples = np.maximum(np.rint(1 / (1 / n_arm).mean(axis=1)), 1).astype(int)
    return [
        (of := samples == number, _Spread(estimate[of], seen[of], answers[of], degrees[of], questions, int(number)))
        for number in np.unique(samples)
    ]


@lru_cache(64)
def _surplus(
    questions: int, samples: int, margin: float
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, " points"]]:
    """Return values and probabilities of the mean share of counted answers, with beta-distributed rates of questions.

    Values are exact up to the 48th answer, and put together in bins of 3% beyond.
    """
    from scipy.special import betaln

    size, k = questions * samples, np.arange(samples + 1)
    a, b = margin * (1 / ICC - 1), (1 - margin) * (1 / ICC - 1)
    ways = -betaln(samples - k + 1, k + 1) - math.log(samples + 1)
    of_question = np.exp(ways + betaln(k + a, samples - k + b) - betaln(a, b))
    transform = 1 << size.bit_length()
    chances = np.fft.irfft(np.fft.rfft(of_question, transform) ** questions, transform)[: size + 1].clip(0.0)
    count = np.arange(size + 1)
    bins = np.where(count < 48, count, 48 + 24 * np.log2(np.maximum(count, 48) / 48)).astype(int)
    weights, sums = np.bincount(bins, chances), np.bincount(bins, chances * count)
    likely = weights > 1e-9
    return sums[likely] / weights[likely] / size, weights[likely] / weights[likely].sum()


@dataclass(frozen=True)
class _JudgedDifference:
    """Difference as judged.

    Attributes:
        spread: what questions and answers tell, all runs together.
        below: distance of the lower bound that questions and answers leave open.
        above: distance of the upper one.
        of_runs: distances of both bounds that runs of a side leave open by what they differ among each other.
        runs: of the side that has most.
    """

    spread: _Spread
    below: float
    above: float
    of_runs: tuple[float, float]
    runs: int

    @property
    def estimate(self) -> float:
        """Return the mean over common questions."""
        return float(self.spread.estimate[0])


def _seen(arm: Side, control: Side, margin: float, level: float, judge: JudgeAccuracy | None) -> _JudgedDifference:
    sides = [CountedSide.of(side) for side in (arm, control)]
    check_level(level)
    check_margin(margin)
    names = [name for name, (_, n) in sides[0].questions.items() if n and sides[1].questions.get(name, (0, 0))[1]]
    if not names:
        raise EmptyDataError(
            "The two have no common question with answers to count on both sides, so there is nothing to compare."
        )
    counts = np.array([[*sides[0].questions[name], *sides[1].questions[name]] for name in names], dtype=float).T
    k_arm, n_arm, k_control, n_control = (count[None] for count in counts)
    floor = margin * judge.youden if judge else margin
    spread = _spread_of(k_arm, n_arm, k_control, n_control)[0][1]
    below, above = (float(distance[0]) for distance in spread.distances(floor, level))
    apart = [side.runs_on(names) for side in sides]
    return _JudgedDifference(spread, below, above, run_distances(apart, level), max(side.runs for side in sides))


def run_distances(sides: Sequence[Float[np.ndarray, "2 runs"]], level: float) -> tuple[float, float]:
    """Return the distances of both bounds that the spread of runs leaves open, from what each run of both sides showed.

    The larger of two counts: t over the rates of runs, and what their profile likelihood adds to that of one rate for
    all. The former alone lets too many releases pass where rates of runs are skewed.
    """
    from scipy.special import stdtrit

    several = [(side, k, n) for side, (k, n) in enumerate(sides) if len(n) > 1]
    if not several:
        return 0.0, 0.0
    t = float(stdtrit(min(len(n) for _, _, n in several) - 1.0, level))
    squares = np.array([sum(t**2 * float(np.var(k / n, ddof=1)) / len(n) for _, k, n in several), 0.0, 0.0])
    for side, k, n in several:
        pooled = (np.array([[k.sum()]]), np.array([[n.sum()]]))
        sure = 1 - 2 * SKEWED * (1 - level)
        limits = (run_limits(k[None], n[None])(sure), side_limits(*pooled)(sure))
        over, alone = ([abs(float(limit[0]) - float((k / n).mean())) for limit in pair] for pair in limits)
        own = [max(0.0, one**2 - other**2) for one, other in zip(over, alone, strict=True)]
        squares[1:] += own[::-1] if side else own  # a high rate of the control makes the difference low
    return math.sqrt(max(squares[0], squares[1])), math.sqrt(max(squares[0], squares[2]))
