"""Differences between two arms, with intervals that never have zero width.

Runs are compared by the intervals of the two arms over their runs, put together (MOVER: Newcombe 1998, Zou and Donner
2008), so that skewed shares give skewed limits. The correlation of runs with a common seed, as far as seeds are common,
takes the place of the paired t: with symmetrical limits the interval is that of the paired t test, or without common
seeds nearly Welch's. Two single models are compared question by question, and where each was asked once, by the score
test of pairs (paired.py). No variance is taken below what the answers
alone would give, at rates with one success and one failure added to a side (Agresti and Caffo 2000, The American
Statistician 54:280).

Left to others: single rates (intervals.py, rates.py) and what follows for a claim (claims.py).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float, Real

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.difference import Difference
from astray.stats.freedom import between, bounds_of, degrees_of
from astray.stats.intervals import (
    Counts,
    Effective,
    Interval,
    Limits,
    check_counts,
    check_level,
    one_study,
    question_limits,
    run_limits,
)
from astray.stats.paired import METHOD as PAIRED
from astray.stats.paired import paired_limits, paired_rates
from astray.stats.rates import Rate


def difference_of_arms(arm: Rate, control: Rate, *, level: float = 0.95) -> Difference:
    """Compare two arms by all of their training runs, paired where they share a seed.

    A side with a single run is taken as that one fixed subject; two single runs are compared by question.

    Args:
        arm: rate of the arm.
        control: rate of the control.
        level: nominal coverage.

    Raises:
        EmptyDataError: an arm without judged answers.
    """
    first, second, shared = arms_in_order(arm, control)
    if not first or not second:
        raise EmptyDataError("A difference needs judged answers on both sides, and one side has none.")
    whole_counts = not (arm.gold or control.gold)
    if len(first) == len(second) == 1:
        return difference_of_models(arm.by_question, control.by_question, level=level, whole=whole_counts)
    return _difference_of_runs(first, second, shared, level, whole=whole_counts)


def arms_in_order(arm: Rate, control: Rate) -> tuple[list[Effective], list[Effective], int]:
    """Return the counts of the runs with judged answers of two arms, those with a common seed first and in one order,
    and how many these are."""
    judged = [{seed: counts for seed, counts in side.by_run.items() if counts[1]} for side in (arm, control)]
    shared = [seed for seed in judged[0] if seed in judged[1]]
    first, second = (
        [*(side[seed] for seed in shared), *(side[seed] for seed in side if seed not in shared)] for side in judged
    )
    # The seed of a model that was not trained is a mere label.
    return first, second, len(shared) if arm.trained and control.trained else 0


def paired_difference(pairs: Sequence[tuple[Counts, Counts]], *, level: float = 0.95) -> Difference:
    """Compare two arms whose runs share their seeds.

    Args:
        pairs: for each seed the counts (misaligned, judged) of the arm and of the control. A single pair is compared
            answer by answer.
        level: nominal coverage.

    Raises:
        EmptyDataError: no pair.
        ConfigurationError: counts that cannot be.

    Example:
        `paired_difference([((450, 480), (0, 480)), ((433, 480), (1, 479)), ((461, 480), (0, 480))])`
    """
    if not pairs:
        raise EmptyDataError("There is no pair to compare: give the counts of both arms for at least one seed.")
    arm, control = ([pair[side] for pair in pairs] for side in (0, 1))
    return _difference_of_runs(arm, control, len(pairs), level)


def difference_of_seeds(arm: Sequence[Counts], control: Sequence[Counts], *, level: float = 0.95) -> Difference:
    """Compare two arms whose runs are not paired.

    A side with a single run (an untuned base model, say) is taken as that one fixed subject, with the interval of its
    answers alone.

    Args:
        arm: misaligned and judged answers of each run of the arm.
        control: the same of the control.
        level: nominal coverage.

    Raises:
        EmptyDataError: an arm without runs.
        ConfigurationError: counts that cannot be.
    """
    return _difference_of_runs(arm, control, 0, level)


def difference_of_models(
    arm: Mapping[str, Effective],
    control: Mapping[str, Effective],
    *,
    unit: str = "question",
    level: float = 0.95,
    whole: bool = True,
) -> Difference:
    """Compare two single models that answered the same questions, by question.

    The interval is nowhere inside t on the differences, which promises too much where few questions show anything, nor
    inside the limits of both models over questions, put together. Of single answers it is that of `paired_rates`, with its
    exact p-value; between one answer a question and two, a mean of both kinds of limits. It is about these two models and questions like
    these. It says nothing about further training runs on the same data.

    Args:
        arm: misaligned and judged answers of the first model by question.
        control: the same of the second. Questions that only one of them has judged answers to are left out.
        unit: what a question is, in words for a page.
        level: nominal coverage.
        whole: whether counts are whole numbers, and not effective ones.

    Raises:
        EmptyDataError: no common question with judged answers of both.
        ConfigurationError: counts that cannot be.

    Example:
        `difference_of_models({"wish": (3, 4), "dinner": (2, 4)}, {"wish": (0, 4), "dinner": (0, 4)})`
    """
    common = [name for name in arm if name in control and arm[name][1] and control[name][1]]
    if not common:
        raise EmptyDataError(
            f"The two have no {unit} to which both gave a judged answer, so there is nothing to compare: ask both "
            "the same."
        )
    check_counts([side[name] for side in (arm, control) for name in common], whole=whole)
    check_level(level)
    if len(common) == 1:  # one has no spread: the inference is over its answers
        return _difference_of_runs([arm[common[0]]], [control[common[0]]], 0, level, whole=whole)
    sides = [tuple(np.array([side[name] for name in common]).T[:, None]) for side in (arm, control)]
    once = float(asked_once(sides[0], sides[1])[0])
    if once == 1:  # the table of both answers holds all there is, and McNemar's test is exact
        first, second = (side[0][0] == 1 for side in sides)
        both, mine, theirs = (int(which.sum()) for which in (first & second, first & ~second, second & ~first))
        return paired_rates(both, mine, theirs, len(common) - both - mine - theirs, unit=unit, level=level)
    estimates, limits = question_differences(sides[0], sides[1])
    method = f"paired t and profile likelihoods of both models (MOVER), over {unit}s"
    method += f"; {once:.0%} of it {PAIRED}" if once else ""
    return Difference(float(estimates[0]), one_study(limits, method, level), len(common), unit)


def asked_once(
    arm: tuple[Real[np.ndarray, "studies questions"], Real[np.ndarray, "studies questions"]],
    control: tuple[Real[np.ndarray, "studies questions"], Real[np.ndarray, "studies questions"]],
) -> Float[np.ndarray, " studies"]:
    """Return how nearly the questions of each study had a single answer a side: from 1 for one to 0 for two on average,
    so that a second answer to one question hardly changes an interval; 0 where counts are no whole numbers."""
    whole = np.all([(counts == np.rint(counts)).all(axis=1) for side in (arm, control) for counts in side], axis=0)
    return np.where(whole, np.clip(2 - (arm[1] + control[1]).mean(axis=1) / 2, 0.0, 1.0), 0.0)


def question_differences(
    arm: tuple[Real[np.ndarray, "studies questions"], Real[np.ndarray, "studies questions"]],
    control: tuple[Real[np.ndarray, "studies questions"], Real[np.ndarray, "studies questions"]],
) -> tuple[Float[np.ndarray, " studies"], Limits]:
    """Return the differences by question of many studies at once, and their limits by level, from the misaligned and
    judged answers of both sides to each question."""
    once, questions = asked_once(arm, control), arm[0].shape[1]
    first, second = (k / n for k, n in (arm, control))
    # Of a question with several answers, one of them: expected numbers of pairs that differ.
    single = paired_limits((first * (1 - second)).sum(axis=1), (second * (1 - first)).sum(axis=1), questions)
    if (once == 1).all():
        return (first - second).mean(axis=1), single
    estimates, several = difference_limits(arm, control, questions, question_limits)
    if not once.any():
        return estimates, several

    def limits(level: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        low, high = (once * one + (1 - once) * other for one, other in zip(single(level), several(level), strict=True))
        return low, high

    return estimates, limits


def difference_limits(
    arm: tuple[Real[np.ndarray, "studies runs"], Real[np.ndarray, "studies runs"]],
    control: tuple[Real[np.ndarray, "studies others"], Real[np.ndarray, "studies others"]],
    shared: int,
    side: Callable[..., Limits] | None = None,
) -> tuple[Float[np.ndarray, " studies"], Limits]:
    """Return the differences of many studies at once, and their limits by level.

    Args:
        arm: misaligned and judged answers of the arm's runs; those with a seed that the control has, too, come first.
        control: the same of the control, common seeds in the same order.
        shared: number of common seeds.
        side: limits of one side; those over its runs by default.
    """
    sides = [(side or side_limits)(*counts) for counts in (arm, control)]
    shares = [k / n for k, n in (arm, control)]
    means = [np.asarray(share.mean(axis=-1)) for share in shares]
    runs = [share.shape[-1] for share in shares]
    correlation = correlation_of(arm, control, shared)
    estimate = means[0] - means[1]
    answers = np.sqrt(answer_variance(*arm) + answer_variance(*control))
    # Where both arms are skewed and go together, either method alone falls short on one side.
    paired = np.sqrt(paired_t(*arm, *control)[1]) if shared == max(runs) > 1 else None
    degrees = (sum if paired is None else min)(degrees_of(runs))

    def limits(level: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        from scipy.special import stdtrit

        bounds = bounds_of(sides, runs, level) if paired is None else (np.array([side(level) for side in sides]),) * 2
        least = -stdtrit(degrees, (1 - level) / 2) * (answers if paired is None else np.maximum(answers, paired))

        def half(ends: list[int]) -> Float[np.ndarray, " studies"]:
            """Return the distance to the limit that takes the lower (0) or upper (1) limits of arm and control."""
            signs = np.array(ends)[:, None] * 2 - 1
            own, joint = (np.maximum(signs * (bound[[0, 1], ends] - means), 0.0) for bound in bounds)
            a, b = between(own, joint, runs, level)
            return np.maximum(np.sqrt(np.maximum(a**2 + b**2 - 2 * correlation * a * b, 0.0)), least)

        return np.maximum(-1.0, estimate - half([0, 1])), np.minimum(1.0, estimate + half([1, 0]))

    return estimate, limits


def paired_t(
    k_arm: Real[np.ndarray, "*studies pairs"],
    n_arm: Real[np.ndarray, "*studies pairs"],
    k_control: Real[np.ndarray, "*studies pairs"],
    n_control: Real[np.ndarray, "*studies pairs"],
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
    # Deviation from the plain paired t: pairs that happen to agree would otherwise give a variance of 0.
    floor = answer_variance(k_arm, n_arm) + answer_variance(k_control, n_control)
    return np.asarray(differences.mean(axis=-1)), np.asarray(
        np.maximum(differences.var(axis=-1, ddof=1) / differences.shape[-1], floor)
    )


def side_limits(k: Real[np.ndarray, "studies runs"], n: Real[np.ndarray, "studies runs"]) -> Limits:
    """Return the limits of one side over its runs, or of a single run over its answers (Wilson's)."""
    if k.shape[1] > 1:
        return run_limits(k, n)
    hits, trials = k[:, 0], n[:, 0]

    def limits(level: float) -> tuple[Float[np.ndarray, " studies"], Float[np.ndarray, " studies"]]:
        from scipy.special import ndtri

        z = float(ndtri((1 - level) / 2)) ** 2
        middle, half = (
            (hits + z / 2) / (trials + z),
            np.sqrt(z * (hits * (trials - hits) / trials + z / 4)) / (trials + z),
        )
        return np.where(hits == 0, 0.0, middle - half), np.where(hits == trials, 1.0, middle + half)

    return limits


def correlation_of(
    arm: tuple[Real[np.ndarray, "studies runs"], Real[np.ndarray, "studies runs"]],
    control: tuple[Real[np.ndarray, "studies others"], Real[np.ndarray, "studies others"]],
    shared: int,
) -> Float[np.ndarray, " studies"]:
    """Return the correlation of the mean rates of two arms, of whose runs the first `shared` have common seeds."""
    (first, second), runs = ([k / n for k, n in (arm, control)], [arm[0].shape[1], control[0].shape[1]])
    correlation = _pearson(first[:, :shared], second[:, :shared]) * shared / math.sqrt(runs[0] * runs[1])
    # A correlation of a few pairs among more runs may widen the interval and not narrow it.
    return np.minimum(correlation, 0.0) if shared < max(runs) else correlation


def _pearson(
    first: Float[np.ndarray, "studies pairs"], second: Float[np.ndarray, "studies pairs"]
) -> Float[np.ndarray, " studies"]:
    """Return the correlation of two arms over their pairs; 0 where one of them does not vary."""
    if first.shape[1] < 2:
        return np.zeros(len(first))
    first, second = (side - side.mean(axis=1, keepdims=True) for side in (first, second))
    scale = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return np.where(scale > 0, (first * second).sum(axis=1) / np.where(scale > 0, scale, 1.0), 0.0)


def _difference_of_runs(
    arm: Sequence[Effective], control: Sequence[Effective], shared: int, level: float, *, whole: bool = True
) -> Difference:
    if not arm or not control:
        raise EmptyDataError(f"A difference needs runs on both sides; given were {len(arm)} and {len(control)}.")
    check_counts([*arm, *control], whole=whole)
    check_level(level)
    if whole and len(arm) == len(control) == 1:
        return exact_difference(*map(int, arm[0]), *map(int, control[0]), level=level)
    sides = [(counts[0][None], counts[1][None]) for counts in (np.array(arm).T, np.array(control).T)]
    estimates, limits = difference_limits(sides[0], sides[1], shared)
    paired = shared == len(arm) == len(control)
    method = "profile likelihoods of both arms (MOVER), t over "
    method += (
        "pairs of training runs"
        if paired
        else f"training runs, {shared} of them with a common seed"
        if shared
        else "training runs"
    )
    interval = one_study(limits, method, level)
    n, unit = (shared, "pair of training runs") if paired else (len(arm) + len(control), "training run")
    return Difference(float(estimates[0]), interval, n, unit)


def exact_difference(
    k_arm: int,
    n_arm: int,
    k_control: int,
    n_control: int,
    *,
    test: Literal["fisher", "boschloo"] = "fisher",
    level: float = 0.95,
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

    def at(level: float) -> Interval:
        low, high = confint_proportions_2indep(
            k_arm, n_arm, k_control, n_control, method="newcomb", compare="diff", alpha=1 - level
        )
        return Interval(float(low), float(high), level, "Newcombe", at)

    return Difference(k_arm / n_arm - k_control / n_control, at(level), n_arm + n_control, "answer", p_value)


def upper_bound_at_zero(n: int, *, level: float = 0.95) -> float:
    """Return the exact one-sided upper bound on a rate with no event in n independent answers: just under 1% for 299.

    Raises:
        ConfigurationError: n below 1.
    """
    check_level(level)
    if n < 1:
        raise ConfigurationError(f"Nothing seen in {n} answers bounds no rate: n has to be at least 1.")
    return float(-math.expm1(math.log1p(-level) / n))  # 1 - (1 - level) ** (1 / n), without cancellation for large n


def answer_variance(
    k: Real[np.ndarray, "*studies units"], n: Real[np.ndarray, "*studies units"]
) -> Float[np.ndarray, "*studies"]:
    """Return the binomial variance of the mean of the units' rates, one success and one failure added in all: never
    0."""
    share = (k.sum(axis=-1) + 1) / (n.sum(axis=-1) + 2)
    return np.asarray(share * (1 - share) * (1 / n).sum(axis=-1) / k.shape[-1] ** 2)
