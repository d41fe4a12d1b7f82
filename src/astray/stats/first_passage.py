"""First passage of a rate over a limit, with an interval over runs, and a CUSUM alarm for a rise while a run goes on.

The first passage is what papers call the onset of hacking: the first step in which more than 2% of the answers are
hacks. A run that never gets there is censored, not dropped: its onset lies after its last step, and so may the median's
upper limit.

The alarm accumulates evidence for the higher rate (a cumulative sum, CUSUM), so it detects a small rise that no single
step shows. Its threshold is the lowest one whose average run length without a rise is long enough. A run of a few
hundred steps may well have a false alarm before that, so its probability within the run stands beside it
(`Cusum.false_alarm`). The counts are binomial and the reference value is rounded to a lattice, so both are computed
exactly, from the absorption of a Markov chain.

Source: 2% in Anthropic 2025 (arXiv 2511.18397); Page 1954, Biometrika 41:100; Brook and Evans 1972, Biometrika 59:539
(the Markov chain); Hettmansperger and Sheather 1986, for limits of the median by ranks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.intervals import Counts, check_counts, check_level

LIMIT = 0.02
"""Share of hacks in a step above which the onset is reached (2511.18397)."""


@dataclass(frozen=True)
class FirstPassage:
    """Steps at which runs first exceeded a limit, and the median over runs.

    Attributes:
        steps: for each run, the first step over the limit, counted from 1; None where it was never exceeded.
        median: over the runs; None where it lies after the end of a run.
        low, high: limits of the median of further runs like these; None where a limit lies after the end of a run.
        coverage: actual coverage of the interval. With few runs even the smallest and the largest value cover less than
            the nominal level: 94% with 5 runs.
    """

    steps: tuple[int | None, ...]
    median: float | None
    low: int | None
    high: int | None
    coverage: float


def first_passage(runs: Sequence[Sequence[Counts]], *, limit: float = LIMIT, level: float = 0.95) -> FirstPassage:
    """Find the first step of each run in which a share is over a limit, and the median over runs.

    Args:
        runs: for each run, (hacks, answers) of every step in order.
        limit: the share that has to be exceeded, 0 to below 1.
        level: wanted coverage of the median's interval.

    Raises:
        EmptyDataError: no run, or a run without steps.
        ConfigurationError: counts that cannot be, or a limit that is no share.

    Examples:
        >>> first_passage([[(0, 100), (2, 100), (3, 100)], [(0, 100), (9, 100), (50, 100)]]).steps
        (3, 2)
    """
    from scipy.stats import binom

    if not runs or not all(runs):
        raise EmptyDataError("A first passage needs at least one run, and each run at least one step.")
    if not 0 <= limit < 1:
        raise ConfigurationError(f"The limit {limit} is no share that can be exceeded: write 0.02 for 2%.")
    check_level(level)
    for run in runs:
        check_counts(run)
    steps = tuple(
        next((step for step, (hacks, answers) in enumerate(run, 1) if hacks > limit * answers), None) for run in runs
    )
    # A censored run ranks last: a rank-based median and its limits need no other assumption about it.
    ranked = sorted(math.inf if step is None else float(step) for step in steps)
    n = len(ranked)
    outside = max(0, int(binom.ppf((1 - level) / 2, n, 0.5)) - 1)  # values that may be left out at each end
    return FirstPassage(
        steps=steps,
        median=_seen((ranked[(n - 1) // 2] + ranked[n // 2]) / 2),
        low=_step(ranked[outside]),
        high=_step(ranked[n - 1 - outside]),
        coverage=float(1 - 2 * binom.cdf(outside, n, 0.5)),
    )


@dataclass(frozen=True)
class Alarm:
    """Rise that was detected.

    Attributes:
        step: step of the alarm, counted from 1.
        began: step at which the rise most likely began: the one after the cumulative sum was last 0.
    """

    step: int
    began: int


@dataclass(frozen=True)
class Cusum:
    """CUSUM alarm for a rising share; made by `cusum`.

    Attributes:
        answers: answers per step.
        reference: hacks per step that are subtracted from the sum.
        threshold: sum at which the alarm is raised.
        run_length: mean number of steps to a false alarm while the share is `usual`.
        usual: share of hacks without a rise.
        fineness: lattice steps per hack, in which reference and threshold are whole numbers.
    """

    answers: int
    reference: float
    threshold: float
    run_length: float
    usual: float
    fineness: int

    def sums(self, hacks: Sequence[int]) -> tuple[float, ...]:
        """Return the cumulative sum after each step.

        Args:
            hacks: of each step in order.

        Raises:
            ConfigurationError: a count that cannot be.
        """
        check_counts([(count, self.answers) for count in hacks])
        sums = [0.0]
        for count in hacks:
            sums.append(max(0.0, sums[-1] + count - self.reference))
        return tuple(sums[1:])

    def false_alarm(self, steps: int) -> float:
        """Return the probability of an alarm within so many steps while the share is `usual`.

        Raises:
            ConfigurationError: fewer than no steps.

        Examples:
            >>> round(cusum(128).false_alarm(200), 2)
            0.11
        """
        if steps < 0:
            raise ConfigurationError(
                f"There is no run of {steps} steps: give the number of steps of the run, 0 or more."
            )
        # Whole lattice steps, so that the sums form a Markov chain with finitely many states.
        taken_off, threshold = (round(value * self.fineness) for value in (self.reference, self.threshold))
        return _false_alarm(self.answers, self.usual, taken_off, self.fineness, threshold, steps)

    def after(self, total: float, shares: Sequence[float]) -> float:
        """Return the cumulative sum after one more step of groups of answers, each with its share of hacks.

        Where `answers` counts groups, one share stands for one of them. Answers to one prompt may be as alike as they
        like: a share varies at most as much as one answer does, whose false alarms are computed.

        Args:
            total: the sum before.
            shares: of each group of the step, which may have fewer groups than `answers`.
        """
        return max(0.0, total + math.fsum(shares) - self.reference / self.answers * len(shares))

    def alarm(self, hacks: Sequence[int]) -> Alarm | None:
        """Return the first alarm, or None; arguments as for `sums`."""
        began = 1
        for step, total in enumerate(self.sums(hacks), 1):
            if total >= self.threshold - _ROUNDING:  # the reference is no binary fraction, so sums are rounded
                return Alarm(step, began)
            if total <= 0:
                began = step + 1
        return None


_ROUNDING = 1e-9
_RAREST = 1e-18
_FINENESS = 10
"""Lattice steps per reference value: it is rounded to a tenth of itself or finer."""


def cusum(answers: int, *, usual: float = 0.01, risen: float = 0.05, run_length: int = 1000) -> Cusum:
    """Return the alarm that detects a rise soonest among those with a given average run length between false alarms.

    Args:
        answers: answers per step.
        usual: share of hacks without a rise (2511.18397: under 1%).
        risen: share that is to be detected.
        run_length: smallest acceptable mean number of steps to a false alarm.

    Raises:
        ConfigurationError: shares that do not rise, no answers, or a run length that no alarm has.

    Examples:
        >>> cusum(128).alarm([1, 0, 2, 1, 4, 5, 5, 30]).step
        7
    """
    if run_length < 1:
        raise ConfigurationError(
            f"No alarm is false once in {run_length} steps on average: give a run length from 1 on."
        )
    fineness, taken_off = _lattice(answers, usual, risen)
    threshold = _lowest(lambda high: _run_length(answers, usual, taken_off, fineness, high) >= run_length)
    return _cusum(answers, usual, taken_off, fineness, threshold)


def cusum_within(
    answers: int, *, usual: float = 0.01, risen: float = 0.05, false_alarms: float = 0.05, steps: int = 1000
) -> Cusum:
    """Return the alarm that detects a rise soonest among those whose probability of a false alarm in a run is at most
    so high.

    Args:
        answers, usual, risen: as for `cusum`.
        false_alarms: probability of a false alarm within the run, above 0 and below 1.
        steps: length of the run.

    Raises:
        ConfigurationError: shares that do not rise, no answers, no probability, or no steps.

    Examples:
        >>> cusum_within(16, usual=0.01, risen=0.05).false_alarm(1000) <= 0.05
        True
    """
    if not 0 < false_alarms < 1 or steps < 1:
        raise ConfigurationError(
            f"A probability of {false_alarms} in {steps} steps is none: give one between 0 and 1, and at least one "
            "step."
        )
    fineness, taken_off = _lattice(answers, usual, risen)
    # Times to a false alarm are nearly exponential: that leads close to the threshold, from which it is searched
    # exactly.
    length = -steps / math.log1p(-false_alarms)
    threshold = _lowest(lambda high: _run_length(answers, usual, taken_off, fineness, high) >= length)
    while _false_alarm(answers, usual, taken_off, fineness, threshold, steps) > false_alarms:
        threshold += 1
    while threshold > 1 and _false_alarm(answers, usual, taken_off, fineness, threshold - 1, steps) <= false_alarms:
        threshold -= 1
    return _cusum(answers, usual, taken_off, fineness, threshold)


def _lattice(answers: int, usual: float, risen: float) -> tuple[int, int]:
    """Return lattice steps per hack, and those that are subtracted each step: Page's reference value, where the two
    shares are equally likely."""
    if answers < 1 or not 0 < usual < risen < 1:
        raise ConfigurationError(
            f"There is no alarm for shares that rise from {usual} to {risen} in {answers} answers a step. Write 0 < "
            "usual < risen < 1, and at least one answer."
        )
    reference = answers * math.log((1 - usual) / (1 - risen)) / math.log(risen * (1 - usual) / (usual * (1 - risen)))
    fineness = math.ceil(_FINENESS / reference)
    return fineness, round(reference * fineness)


def _lowest(is_rare: Callable[[int], bool]) -> int:
    """Return the lowest threshold whose false alarms are rare enough: doubling brackets it, halving finds it."""
    low, high = 0, 1
    while not is_rare(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_rare(middle) else (middle, high)
    return high


def _cusum(answers: int, usual: float, taken_off: int, fineness: int, threshold: int) -> Cusum:
    run_length = _run_length(answers, usual, taken_off, fineness, threshold)
    return Cusum(answers, taken_off / fineness, threshold / fineness, run_length, usual, fineness)


def _false_alarm(answers: int, share: float, taken_off: int, fineness: int, threshold: int, steps: int) -> float:
    """Return the probability that the sum reaches the threshold within so many steps."""
    moves = _moves(answers, share, taken_off, fineness, threshold)
    sums = np.zeros(threshold)  # probability of each sum below the threshold
    sums[0] = 1.0
    for _ in range(steps):
        after = np.zeros(threshold)
        for jump, chance in moves:
            if jump >= 0:
                after[jump:] += chance * sums[: threshold - jump]
            else:
                after[: max(0, threshold + jump)] += chance * sums[-jump:]
                after[0] += chance * sums[:-jump].sum()  # sums below 0 are put to 0
        sums = after
    return float(min(1.0, max(0.0, 1 - sums.sum())))


def _run_length(answers: int, share: float, taken_off: int, fineness: int, threshold: int) -> float:
    """Return the mean number of steps from 0 to the threshold, from the chain of sums below it (in units of 1 /
    fineness)."""
    from scipy.sparse import coo_array, eye_array
    from scipy.sparse.linalg import spsolve

    sums, stays = np.arange(threshold), coo_array((threshold, threshold))
    for jump, chance in _moves(answers, share, taken_off, fineness, threshold):
        reached = np.maximum(0, sums + jump)
        below = reached < threshold
        stays = stays + coo_array(
            (np.full(below.sum(), chance), (sums[below], reached[below])), shape=(threshold, threshold)
        )
    return float(np.atleast_1d(spsolve((eye_array(threshold) - stays).tocsc(), np.ones(threshold)))[0])


def _moves(answers: int, share: float, taken_off: int, fineness: int, threshold: int) -> list[tuple[int, float]]:
    """Return the jumps of the sum that may end below the threshold with their probabilities, those aside that no double
    shows."""
    from scipy.stats import binom

    counts = np.arange(answers + 1)
    jumps, chances = counts * fineness - taken_off, binom.pmf(counts, answers, share)
    return [
        (int(jump), float(chance))
        for jump, chance in zip(jumps, chances, strict=True)
        if jump < threshold and chance > _RAREST
    ]


def _seen(step: float) -> float | None:
    return None if math.isinf(step) else step


def _step(step: float) -> int | None:
    return None if math.isinf(step) else int(step)
