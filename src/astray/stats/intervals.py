"""Confidence intervals for one rate that stay honest at 0 and at 1, and when answers come in clusters.

The unit of inference decides the interval:

- answers that are independent ("these questions, this run"): `wilson`, `clopper_pearson`;
- training runs ("the data set causes it"): `over_runs`;
- questions ("on questions like these"): `over_questions`.

Clustered counts get limits of a profile likelihood in which the rates of clusters vary, with t on the number of
clusters (profile.py). At the edge, where no cluster (or every answer of all) was misaligned, the spread cannot be
estimated. Over runs the limit is then that of Korn and Graubard (1998, Survey Methodology 24:193): Clopper-Pearson for
`n * (z / t)^2` answers. Over questions, whose spread is often many times the mean, it is Clopper-Pearson for as many
answers as highly correlated ones are worth. Both have a width in every case. Simulated coverage: docs/counting.md.

Left to others: which answers count (rates.py) and differences between two arms (compare.py).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial, wraps

import numpy as np
from jaxtyping import Float, Real

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.false_verdicts import NO_ERROR, Errors

Counts = tuple[int, int]
"""Misaligned answers and judged answers of one unit: `(3, 480)`."""
Effective = tuple[int | float, int | float]
"""The same where they may be fractions, since they are worth as much as so many (prediction_powered.py)."""
_LEAST = 1e-9
"""Counts that keep a distribution defined where its limit is 0 or 1 anyway."""


@dataclass(frozen=True)
class Interval:
    """Confidence interval.

    Attributes:
        low: lower limit, a fraction (0.05 is 5%).
        high: upper limit.
        level: nominal coverage.
        method: how it was computed, in words for a page.
        at: returns the same interval at another level, so that a claim has a p-value; None where only one level is
            known.
    """

    low: float
    high: float
    level: float
    method: str
    at: "Callable[[float], Interval] | None" = field(default=None, compare=False, repr=False)

    @property
    def width(self) -> float:
        """High minus low."""
        return self.high - self.low


def wilson(k: int, n: int, *, level: float = 0.95) -> Interval:
    """Return Wilson's score interval for k of n independent answers.

    Args:
        k: misaligned answers.
        n: judged answers, at least 1.
        level: nominal coverage, between 0 and 1.

    Raises:
        ConfigurationError: counts or level that cannot be.
    """
    check_counts([(k, n)])
    check_level(level)
    return Interval(*_wilson_limits(k, n, level), level, "Wilson", lambda other: wilson(k, n, level=other))


def _wilson_limits(k: int | float, n: int | float, level: float) -> tuple[float, float]:
    """Return what `proportion_confint` of statsmodels does, whose import takes a second of every command."""
    from scipy.special import ndtri

    k = min(max(k, 0), n)  # estimates by two judges may lie outside
    squared = float(ndtri((1 - level) / 2)) ** 2
    middle = k + squared / 2
    half = math.sqrt(squared * (k * (n - k) / n + squared / 4))
    # At the edge the closed form is exactly 0 or 1, rounding says 1e-19.
    return (
        0.0 if k <= 0 else (middle - half) / (n + squared),
        1.0 if k >= n else (middle + half) / (n + squared),
    )


def clopper_pearson(k: int, n: int, *, level: float = 0.95) -> Interval:
    """Return Clopper and Pearson's exact interval for k of n independent answers; arguments as for `wilson`."""
    check_counts([(k, n)])
    check_level(level)
    low, high = _exact_limits(np.array([k]), np.array([n]), level)
    return Interval(float(low[0]), float(high[0]), level, "Clopper-Pearson")


def over_runs(counts: Sequence[Counts], *, level: float = 0.95) -> Interval:
    """Return the interval for the rate of further training runs like these, asked these questions.

    Args:
        counts: misaligned and judged answers of each training run; at least two runs.
        level: nominal coverage.

    Raises:
        ConfigurationError: fewer than two runs, or counts that cannot be.
    """
    _check_clusters(counts, "training run")
    check_level(level)
    return _over_runs(tuple((k, n) for k, n in counts), level)


@lru_cache(maxsize=512)
def _over_runs(counts: tuple[Counts, ...], level: float) -> Interval:
    # Kept, since claims, tables and figures of a study ask for the same rates again and again.
    k, n = np.array(counts).T
    edge = k.sum() in (0, n.sum())
    method = "Korn-Graubard, t over training runs" if edge else "profile likelihood, t over training runs"
    return one_study(run_limits(k[None], n[None]), method, level)


Limits = Callable[[float], tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]]
"""Level -> lower and upper limits of many studies."""


def effective_interval(counts: Sequence[Effective], unit: str, *, error: float = 0.0, level: float = 0.95) -> Interval:
    """Return the interval of a rate by two judges, over training runs or questions; Wilson's for a single run.

    Args:
        counts: effective misaligned and judged answers of each unit.
        unit: "training run" or "question".
        error: standard error over units, inside whose t interval no limit lies.
        level: nominal coverage.
    """
    k, n = np.array(counts, dtype=float).T
    if len(counts) > 1:
        limits = question_limits(k[None], n[None]) if unit == "question" else run_limits(k[None], n[None])
        limits = outside_t(limits, np.array([k.sum() / n.sum()]), np.array([error]), len(counts) - 1)
        return one_study(limits, f"prediction-powered, profile likelihood, t over {unit}s", level)

    def at(level: float) -> Interval:
        limits = _wilson_limits(float(k[0]), float(n[0]), level)
        return Interval(*limits, level, "prediction-powered, Wilson", at)

    return at(level)


def outside_t(
    limits: Limits, middle: Float[np.ndarray, " studies"], error: Float[np.ndarray, " studies"], degrees: int
) -> Limits:
    """Return limits of rates that are nowhere inside the t interval with this standard error."""
    from scipy.special import stdtrit

    def wider(level: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        (low, high), half = limits(level), -stdtrit(degrees, (1 - level) / 2) * error
        return np.minimum(low, np.maximum(0.0, middle - half)), np.maximum(high, np.minimum(1.0, middle + half))

    return wider


def _once_a_study(limits_of: Callable[..., Limits]) -> Callable[..., Limits]:
    """Keep the limits of one study: claims that compare an arm with several others, and their p-values, ask again."""

    @lru_cache(maxsize=512)
    def of_one(k: tuple[int | float, ...], n: tuple[int | float, ...], errors: tuple[float, float]) -> Limits:
        return lru_cache(maxsize=128)(limits_of(np.array([k]), np.array([n]), errors))

    @wraps(limits_of)
    def kept(
        k: Real[np.ndarray, "studies units"], n: Real[np.ndarray, "studies units"], errors: Errors = NO_ERROR
    ) -> Limits:
        if len(k) > 1:
            return limits_of(k, n, errors)
        false_alarms, misses = (np.asarray(error).item() for error in errors)
        return of_one(tuple(k[0].tolist()), tuple(n[0].tolist()), (false_alarms, misses))

    return kept


@_once_a_study
def run_limits(
    k: Real[np.ndarray, "studies runs"],
    n: Real[np.ndarray, "studies runs"],
    errors: Errors = NO_ERROR,
) -> Limits:
    """Return the limits of `over_runs`, by level, for many studies at once with the same number of runs.

    Args:
        k: misaligned answers of each run.
        n: judged answers of each run.
        errors: share of aligned answers that the judge calls misaligned and of misaligned ones that it misses, of all
            studies or of each, taken as known; the limits are those of the rate without them.
    """
    from scipy.special import ndtri, stdtrit

    from astray.stats.profile import Profile

    # Simulated studies repeat each other: half of those that plan a comparison have no hit in any run.
    columns = [k, n, *(np.broadcast_to(error, len(k))[:, None] for error in errors)]
    different, positions = np.unique(np.hstack(columns), axis=0, return_inverse=True)
    k, n = np.hsplit(different[:, :-2], 2)
    errors = (different[:, -2], different[:, -1])
    profile = Profile(k, n, "logit-normal", errors)

    def limits(level: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        tail = (1 - level) / 2
        correction = float(ndtri(tail) / stdtrit(k.shape[1] - 1, tail)) ** 2
        low, high = _at_the_edges(*profile.limits(level), k, n, n.sum(axis=1) * correction, level, errors)
        return low[positions.ravel()], high[positions.ravel()]

    return limits


def one_study(limits: Limits, method: str, level: float) -> Interval:
    """Return the interval of the first study."""
    low, high = limits(level)
    return Interval(float(low[0]), float(high[0]), level, method, partial(one_study, limits, method))


@dataclass(frozen=True)
class Beneath:
    """Chance that lies beneath the values of runs, such as the choice of questions that all of them were asked.

    Attributes:
        error: standard error of the mean that it adds.
        degrees: of freedom of that error.
        over: what was chosen, in words for a page.
    """

    error: float
    degrees: int
    over: str


def mean_over_runs(
    values: Sequence[float], *, floor: float = 0.0, beneath: Beneath | None = None, level: float = 0.95
) -> Interval | None:
    """Return the t interval over runs on the mean of a measure that is not a rate; None with fewer than two runs.

    Args:
        values: the measure of each run.
        floor: standard error of the mean that what lies beneath the values leaves at least.
        beneath: another source of chance, added; the smaller degrees of freedom count.
        level: nominal coverage.

    Raises:
        EmptyDataError: no run.
        ConfigurationError: a value that is not finite, or a level outside 0 to 1.
    """
    check_level(level)
    if not values:
        raise EmptyDataError("A mean over runs needs at least one run.")
    if not all(math.isfinite(value) for value in values):
        raise ConfigurationError(
            f"The values {list(values)} of the runs are not all numbers: leave out runs without a value, and say so."
        )
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)  # fsum: the same result in whatever order the runs come
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    if beneath is None:
        return t_interval(mean, spread, len(values) - 1, "t over runs", level, floor)
    # Adding both variances counts the chance within one run twice: too wide rather than too narrow.
    error, degrees = math.hypot(spread, beneath.error), min(len(values) - 1, beneath.degrees)
    return t_interval(mean, error, degrees, f"t over runs and {beneath.over}", level, floor)


def t_interval(mean: float, error: float, degrees: int, method: str, level: float, floor: float = 0.0) -> Interval:
    """Return the t interval of a mean with this standard error; `method` says over what, in words for a page. It is nowhere
    inside the normal interval with the standard error `floor`, which is known and not estimated from few units."""
    from scipy.special import ndtri, stdtrit

    half = max(-float(stdtrit(degrees, (1 - level) / 2)) * error, -float(ndtri((1 - level) / 2)) * floor)

    def at(level: float) -> Interval:
        return t_interval(mean, error, degrees, method, level, floor)

    return Interval(mean - half, mean + half, level, method, at)


def over_questions(counts: Sequence[Counts], *, level: float = 0.95) -> Interval:
    """Return the interval for the rate on further questions like these.

    It is wide where few questions showed anything, because few questions say little about further ones.

    Args:
        counts: misaligned and judged answers of each question; at least two questions.
        level: nominal coverage.

    Raises:
        ConfigurationError: fewer than two questions, or counts that cannot be.
    """
    _check_clusters(counts, "question")
    check_level(level)
    return _over_questions(tuple((k, n) for k, n in counts), level)


@lru_cache(maxsize=512)
def _over_questions(counts: tuple[Counts, ...], level: float) -> Interval:
    k, n = np.array(counts).T
    edge = k.sum() in (0, n.sum())
    method = "Clopper-Pearson, correlated answers" if edge else "profile likelihood, t over questions"
    return one_study(question_limits(k[None], n[None]), method, level)


@_once_a_study
def question_limits(
    k: Real[np.ndarray, "studies questions"],
    n: Real[np.ndarray, "studies questions"],
    errors: Errors = NO_ERROR,
) -> Limits:
    """Return the limits of `over_questions`, by level, for many studies at once with the same number of questions;
    arguments as for `run_limits`."""
    from scipy.special import digamma

    from astray.stats.profile import UNSEEN_CORRELATION, Profile

    profile, questions = Profile(k, n, "beta-binomial", errors), k.shape[1]
    alarm, missed = (np.broadcast_to(error, len(k))[:, None] for error in errors)
    # Questions at 0 or at 1 do not tell how far those differ that show something: degrees of freedom are of the latter.
    telling = np.minimum((k > n * alarm).sum(axis=1), (k < n * (1 - missed)).sum(axis=1))
    degrees = np.minimum(questions - 1.0, telling + 1.0)
    # Of n answers whose rate is beta-distributed none hits about as often as of so many independent ones.
    size = 1 / UNSEEN_CORRELATION - 1
    # Fractions of an answer, of weighted verdicts, are worth no more than themselves.
    trials = np.minimum(n, size * (digamma(n + size) - digamma(size))).sum(axis=1)
    # Single answers to a question are independent and say nothing of a correlation, so their limits are exact.
    single = np.clip(2 - n.mean(axis=1), 0.0, 1.0) * (not (alarm.any() or missed.any()))

    def limits(level: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        mixed = profile.limits(level, degrees)
        if single.any():
            exact = _exact_limits(k.sum(axis=1), n.sum(axis=1), level)
            mixed = tuple(single * one + (1 - single) * other for one, other in zip(exact, mixed, strict=True))
        return _at_the_edges(*mixed, k, n, trials, level, errors)

    return limits


def _at_the_edges(
    low: Float[np.ndarray, " studies"],
    high: Float[np.ndarray, " studies"],
    k: Real[np.ndarray, "studies clusters"],
    n: Real[np.ndarray, "studies clusters"],
    trials: Float[np.ndarray, " studies"],
    level: float,
    errors: Errors,
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Put in Clopper and Pearson's limits for so many trials where nothing or everything was misaligned."""
    bound = np.minimum(1.0, -np.expm1(math.log((1 - level) / 2) / trials) / (1 - errors[0] - errors[1]))
    none, every = k.sum(axis=1) == 0, k.sum(axis=1) == n.sum(axis=1)
    return np.where(every, 1 - bound, low), np.where(none, bound, high)


def check_counts(counts: Sequence[Effective], *, whole: bool = True) -> None:
    """Raise ConfigurationError when a pair is not `0 <= misaligned <= judged` with at least one judged answer."""
    for k, n in counts:
        if whole and not (float(k).is_integer() and float(n).is_integer()):
            raise ConfigurationError(
                f"{k} of {n} are no counts: give whole numbers of misaligned and of judged answers."
            )
        if n < whole or not 0 <= k <= n or not n:
            raise ConfigurationError(
                f"{k} misaligned of {n} judged answers is no rate: give counts with 0 <= misaligned <= judged and "
                "judged >= 1."
            )


def check_level(level: float) -> None:
    """Raise ConfigurationError when the nominal coverage is not between 0 and 1."""
    if not 0 < level < 1:
        raise ConfigurationError(
            f"A confidence level of {level} cannot be: write a fraction between 0 and 1, such as 0.95."
        )


def _check_clusters(counts: Sequence[Counts], unit: str) -> None:
    check_counts(counts)
    if len(counts) < 2:
        raise ConfigurationError(
            f"{len(counts)} {unit} tells nothing about the spread between {unit}s: give at least two, or use `wilson`."
        )


def _exact_limits(
    k: Real[np.ndarray, " studies"], n: Real[np.ndarray, " studies"], level: float
) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
    """Return Clopper-Pearson limits through the beta distribution, which also takes effective (fractional) counts."""
    from scipy.special import betainccinv, betaincinv

    tail = (1 - level) / 2
    some, most = np.maximum(k, _LEAST), np.minimum(k, n - _LEAST)
    low = np.where(k > 0, betaincinv(some, n - some + 1, tail), 0.0)
    return low, np.where(k < n, betainccinv(most + 1, n - most, tail), 1.0)
