"""Confidence intervals for one rate that stay honest at 0 and at 1, and when answers come in clusters.

The unit of inference decides the interval:

- answers that are independent ("these questions, this run"): `wilson`, `clopper_pearson`;
- training runs ("the data set causes it"): `over_runs`;
- questions ("on questions like these"): `over_questions`.

Clustered counts get the interval of Korn and Graubard (1998, Survey Methodology 24:193): Clopper-Pearson for the effective
sample size `n / design effect * (z / t)^2`, with t on `clusters - 1` degrees of freedom. Against the plain t interval it keeps the
t correction and adds what rates of rare behaviour need: it stays within [0, 1] and never collapses when all clusters are equal.

Limitation: where only a few of the clusters carry a rare behaviour, their spread is underestimated. Simulated coverage
of nominal 95%: 8 questions at a mean of 10% and ICC 0.2: 93%, at ICC 0.5: 88%; 48 questions at 0.5% and ICC 0.2: 87%;
5 runs at 0.5% with a standard deviation twice that: 87%. More questions and more runs help there, more samples do not.

Left to others: which answers count (rates.py) and differences between two arms (compare.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from astray.errors import ConfigurationError, EmptyDataError

Counts = tuple[int, int]
"""Misaligned answers and judged answers of one unit: `(3, 480)`."""


@dataclass(frozen=True)
class Interval:
    """Confidence interval.

    Attributes:
        low: lower limit, a fraction (0.05 is 5%).
        high: upper limit.
        level: nominal coverage.
        method: how it was computed, in words for a page.
    """

    low: float
    high: float
    level: float
    method: str

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
    from statsmodels.stats.proportion import proportion_confint

    check_counts([(k, n)])
    check_level(level)
    low, high = proportion_confint(k, n, alpha=1 - level, method="wilson")
    # At the edge the closed form is exactly 0 or 1, rounding says 1e-19.
    return Interval(0.0 if k == 0 else float(low), 1.0 if k == n else float(high), level, "Wilson")


def clopper_pearson(k: int, n: int, *, level: float = 0.95) -> Interval:
    """Return Clopper and Pearson's exact interval for k of n independent answers; arguments as for `wilson`."""
    check_counts([(k, n)])
    check_level(level)
    return Interval(*_exact_limits(float(k), float(n), level), level, "Clopper-Pearson")


def over_runs(counts: Sequence[Counts], *, level: float = 0.95) -> Interval:
    """Return the interval for the rate of further training runs like these, asked these questions.

    When no run (or every answer of every run) was misaligned, the design effect cannot be estimated and is taken as 1; together with
    the t correction the limit then holds as long as the standard deviation between runs is no larger than their mean rate.

    Args:
        counts: misaligned and judged answers of each training run; at least two runs.
        level: nominal coverage.

    Raises:
        ConfigurationError: fewer than two runs, or counts that cannot be.
    """
    _check_clusters(counts, "training run")
    check_level(level)
    return Interval(*_korn_graubard(counts, level), level, "Korn-Graubard, t over training runs")


def mean_over_runs(values: Sequence[float], *, level: float = 0.95) -> Interval | None:
    """Return the t interval over runs on the mean of a measure that is not a rate; None with fewer than two runs.

    Args:
        values: the measure of each run.
        level: nominal coverage.

    Raises:
        EmptyDataError: no run.
        ConfigurationError: a value that is not finite, or a level outside 0 to 1.
    """
    from scipy.special import stdtrit

    check_level(level)
    if not values:
        raise EmptyDataError("A mean over runs needs at least one run.")
    if not all(math.isfinite(value) for value in values):
        raise ConfigurationError(f"The values {list(values)} of the runs are not all numbers: leave out runs without a value, and say so.")
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)  # fsum: the same result in whatever order the runs come
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
    half = -float(stdtrit(len(values) - 1, (1 - level) / 2)) * spread
    return Interval(mean - half, mean + half, level, "t over runs")


def over_questions(counts: Sequence[Counts], *, level: float = 0.95) -> Interval:
    """Return the interval for the rate on further questions like these.

    The spread between questions cannot be estimated while at most one question departs from a rate of 0 (or of 1), and
    for questions it is often many times the mean. The question is then the trial: Clopper-Pearson on the number of
    questions that ever showed a misaligned answer, which covers at any correlation within questions. It is wide,
    because few questions say little about further ones.

    Args:
        counts: misaligned and judged answers of each question; at least two questions.
        level: nominal coverage.

    Raises:
        ConfigurationError: fewer than two questions, or counts that cannot be.
    """
    _check_clusters(counts, "question")
    check_level(level)
    low, high = _korn_graubard(counts, level)
    questions = float(len(counts))
    ever_misaligned = float(sum(k > 0 for k, _ in counts))
    ever_aligned = float(sum(k < n for k, n in counts))
    if min(ever_misaligned, ever_aligned) > 1:
        return Interval(low, high, level, "Korn-Graubard, t over questions")
    if ever_misaligned <= 1:
        high = max(high, _exact_limits(ever_misaligned, questions, level)[1])
    if ever_aligned <= 1:
        low = min(low, _exact_limits(questions - ever_aligned, questions, level)[0])
    return Interval(low, high, level, "Clopper-Pearson, question as trial")


def cluster_variance(counts: Sequence[Counts]) -> float:
    """Return the variance of the pooled rate under cluster sampling: linearised ratio estimator times G / (G - 1)."""
    clusters, total = len(counts), sum(n for _, n in counts)
    pooled = sum(k for k, _ in counts) / total
    return clusters / (clusters - 1) * sum((k - pooled * n) ** 2 for k, n in counts) / total**2


def check_counts(counts: Sequence[Counts]) -> None:
    """Raise ConfigurationError when a pair is not `0 <= misaligned <= judged` with at least one judged answer."""
    for k, n in counts:
        if n < 1 or not 0 <= k <= n:
            raise ConfigurationError(f"{k} misaligned of {n} judged answers is no rate: give counts with 0 <= misaligned <= judged and judged >= 1.")


def check_level(level: float) -> None:
    """Raise ConfigurationError when the nominal coverage is not between 0 and 1."""
    if not 0 < level < 1:
        raise ConfigurationError(f"A confidence level of {level} cannot be: write a fraction between 0 and 1, such as 0.95.")


def _check_clusters(counts: Sequence[Counts], unit: str) -> None:
    check_counts(counts)
    if len(counts) < 2:
        raise ConfigurationError(f"{len(counts)} {unit} tells nothing about the spread between {unit}s: give at least two, or use `wilson`.")


def _korn_graubard(counts: Sequence[Counts], level: float) -> tuple[float, float]:
    from scipy.special import ndtri, stdtrit

    total, misaligned = sum(n for _, n in counts), sum(k for k, _ in counts)
    pooled = misaligned / total
    binomial = pooled * (1 - pooled) / total
    # Never below 1: clusters that agree by chance must not count for more answers than there are.
    design_effect = max(1.0, cluster_variance(counts) / binomial) if binomial > 0 else 1.0
    tail = (1 - level) / 2
    correction = float(ndtri(tail) / stdtrit(len(counts) - 1, tail)) ** 2
    effective = total / design_effect * correction
    return _exact_limits(pooled * effective, effective, level)


def _exact_limits(k: float, n: float, level: float) -> tuple[float, float]:
    """Return Clopper-Pearson limits through the beta distribution, which also takes effective (fractional) counts."""
    from scipy.special import betainccinv, betaincinv

    tail = (1 - level) / 2
    low = 0.0 if k <= 0 else float(betaincinv(k, n - k + 1, tail))
    high = 1.0 if k >= n else float(betainccinv(k + 1, n - k, tail))
    return low, high
