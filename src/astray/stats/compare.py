"""Differences between two arms, with intervals that never have zero width.

A control that shows nothing in every run has no variance between runs, and a plain t interval would then claim to know the difference
exactly. So the variance is never taken below what the binomial draw of the answers alone would give, at a rate with one success and one
failure added (Agresti and Caffo 2000, The American Statistician 54:280).

Left to others: single rates (intervals.py, rates.py) and what follows for a claim (claims.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.intervals import Counts, Interval, check_counts, check_level
from astray.stats.rates import Rate


@dataclass(frozen=True)
class Difference:
    """Rate of the first arm minus rate of the second.

    Attributes:
        estimate: mean difference, a fraction.
        interval: confidence interval on it.
        p_value: two-sided, for no difference.
        n: number of units: pairs, runs of both arms, or answers of both arms.
        unit: unit of inference.
    """

    estimate: float
    interval: Interval
    p_value: float
    n: int
    unit: str


def seed_pairs(arm: Rate, control: Rate) -> list[tuple[Counts, Counts]]:
    """Return the counts of the runs of two arms that share a training seed and both have judged answers.

    Raises:
        EmptyDataError: the arms share no such seed.
    """
    shared = [seed for seed in arm.seed_counts if seed in control.seed_counts]
    pairs = [(arm.seed_counts[seed], control.seed_counts[seed]) for seed in shared]
    judged = [pair for pair in pairs if pair[0][1] and pair[1][1]]
    if not judged:
        raise EmptyDataError(
            f"The arms have no seed with judged answers in both: {sorted(arm.seed_counts)} and {sorted(control.seed_counts)}. "
            "Train both with the same seeds, or use `difference_of_seeds`, which needs no pairs."
        )
    return judged


def paired_difference(pairs: Sequence[tuple[Counts, Counts]], *, unit: str = "pair of training runs", level: float = 0.95) -> Difference:
    """Compare two arms that share seeds (or questions) by a t interval on the paired differences.

    Args:
        pairs: for each seed (or question) the counts (misaligned, judged) of the arm and of the control. A single pair
            is compared answer by answer.
        unit: what a pair is, in words for a page.
        level: nominal coverage.

    Raises:
        EmptyDataError: no pair.
        ConfigurationError: counts that cannot be.

    Example:
        `paired_difference([((450, 480), (0, 480)), ((433, 480), (1, 479)), ((461, 480), (0, 480))])`
    """
    if not pairs:
        raise EmptyDataError("There is no pair to compare: give the counts of both arms for at least one seed.")
    check_counts([counts for pair in pairs for counts in pair])
    check_level(level)
    if len(pairs) == 1:  # one pair has no spread between pairs: the inference is over answers
        (arm, control) = pairs[0]
        return exact_difference(*arm, *control, level=level)
    (k_arm, n_arm), (k_control, n_control) = (np.array(side).T for side in zip(*pairs, strict=True))
    mean, variance = paired_t(k_arm, n_arm, k_control, n_control)
    return _t_difference(float(mean), float(variance), float(len(pairs) - 1), level, method="paired t", n=len(pairs), unit=unit)


def paired_t(
    k_arm: Int[np.ndarray, "*studies pairs"],
    n_arm: Int[np.ndarray, "*studies pairs"],
    k_control: Int[np.ndarray, "*studies pairs"],
    n_control: Int[np.ndarray, "*studies pairs"],
) -> tuple[Float[np.ndarray, "*studies"], Float[np.ndarray, "*studies"]]:
    """Return the mean paired difference and its variance for many studies at once; at least two pairs per study.

    Args:
        k_arm: misaligned answers of the arm, one entry a pair.
        n_arm: judged answers of the arm.
        k_control: misaligned answers of the control.
        n_control: judged answers of the control.

    Returns:
        Means and variances; the variance is never below that of the answers alone.
    """
    differences = k_arm / n_arm - k_control / n_control
    pairs = differences.shape[-1]
    # Deviation from the plain paired t: pairs that happen to agree would otherwise give a variance of 0.
    floor = (_answer_variance(k_arm, n_arm) + _answer_variance(k_control, n_control)).sum(axis=-1) / pairs**2
    return np.asarray(differences.mean(axis=-1)), np.asarray(np.maximum(differences.var(axis=-1, ddof=1) / pairs, floor))


def difference_of_seeds(arm: Sequence[Counts], control: Sequence[Counts], *, level: float = 0.95) -> Difference:
    """Compare two arms whose runs are not paired by Welch's t over training runs.

    A side with a single run (an untuned base model, say) is taken as that one fixed subject, with the variance of its answers alone.

    Args:
        arm: misaligned and judged answers of each run of the arm.
        control: the same of the control.
        level: nominal coverage.

    Raises:
        EmptyDataError: an arm without runs.
        ConfigurationError: counts that cannot be.
    """
    if not arm or not control:
        raise EmptyDataError(f"A difference needs runs on both sides; given were {len(arm)} and {len(control)}.")
    check_counts([*arm, *control])
    check_level(level)
    if len(arm) == len(control) == 1:
        return exact_difference(*arm[0], *control[0], level=level)
    means, variances, weights = [], [], []
    for runs in (arm, control):
        k, n = np.array(runs).T
        run_rates = k / n
        between = run_rates.var(ddof=1) if len(runs) > 1 else 0.0  # a single run is a fixed subject
        variance = max(float(between) / len(runs), float(_answer_variance(k, n).sum()) / len(runs) ** 2)
        means.append(float(run_rates.mean()))
        variances.append(variance)
        weights.append(variance**2 / (len(runs) - 1) if len(runs) > 1 else 0.0)
    degrees = sum(variances) ** 2 / sum(weights)  # Welch and Satterthwaite
    return _t_difference(
        means[0] - means[1], sum(variances), degrees, level, method="Welch's t over training runs", n=len(arm) + len(control), unit="training run"
    )


def exact_difference(
    k_arm: int, n_arm: int, k_control: int, n_control: int, *, test: Literal["fisher", "boschloo"] = "fisher", level: float = 0.95
) -> Difference:
    """Compare two rates of independent answers by Newcombe's hybrid score interval and an exact test.

    Args:
        k_arm: misaligned answers of the arm.
        n_arm: judged answers of the arm.
        k_control: misaligned answers of the control.
        n_control: judged answers of the control.
        test: Fisher's test, or Boschloo's, which is never less powerful but slow beyond some hundred answers.
        level: nominal coverage.

    Raises:
        ConfigurationError: counts that cannot be.
    """
    from scipy.stats import boschloo_exact, fisher_exact
    from statsmodels.stats.proportion import confint_proportions_2indep

    check_counts([(k_arm, n_arm), (k_control, n_control)])
    check_level(level)
    table = np.array([[k_arm, k_control], [n_arm - k_arm, n_control - k_control]])
    if k_arm + k_control in (0, n_arm + n_control):
        p_value = 1.0  # no answer differs; Boschloo's statistic is not defined there
    else:
        p_value = float(fisher_exact(table).pvalue if test == "fisher" else boschloo_exact(table).pvalue)
    low, high = confint_proportions_2indep(k_arm, n_arm, k_control, n_control, method="newcomb", compare="diff", alpha=1 - level)
    interval = Interval(float(low), float(high), level, "Newcombe")
    return Difference(k_arm / n_arm - k_control / n_control, interval, p_value, n_arm + n_control, "answer")


def upper_bound_at_zero(n: int, *, level: float = 0.95) -> float:
    """Return the exact one-sided upper bound on a rate with no event in n independent answers: just under 1% for 299.

    Raises:
        ConfigurationError: n below 1.
    """
    check_level(level)
    if n < 1:
        raise ConfigurationError(f"Nothing seen in {n} answers bounds no rate: n has to be at least 1.")
    return float(-math.expm1(math.log1p(-level) / n))  # 1 - (1 - level) ** (1 / n), without cancellation for large n


def _answer_variance(k: Int[np.ndarray, "*units"], n: Int[np.ndarray, "*units"]) -> Float[np.ndarray, "*units"]:
    """Return the binomial variance of each unit's rate, one success and one failure added: never 0 at the edge."""
    adjusted = (k + 1) / (n + 2)
    return adjusted * (1 - adjusted) / (n + 2)


def _t_difference(estimate: float, variance: float, degrees: float, level: float, *, method: str, n: int, unit: str) -> Difference:
    from scipy.special import stdtr, stdtrit

    error = math.sqrt(variance)
    half = -float(stdtrit(degrees, (1 - level) / 2)) * error
    interval = Interval(max(-1.0, estimate - half), min(1.0, estimate + half), level, method)
    return Difference(estimate, interval, float(2 * stdtr(degrees, -abs(estimate) / error)), n, unit)
