"""Power and sample size: how many answers, and how many training runs, a comparison needs.

`power` and `required_n` enumerate the test that `compare.exact_difference` makes; for rare behaviour the usual normal
formula asks for half of what is needed. `seed_power` simulates a whole design of runs, questions and samples and
applies the verdict that a study would reach. `n_to_decide` extrapolates from a given interval.

Left to others: the tests themselves on real counts (compare.py).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from astray.errors import ConfigurationError
from astray.stats.intervals import Counts

Verdict = Callable[[Sequence[Counts], Sequence[Counts]], bool]
"""Whether a study finds the difference, from the counts of the arm's and the control's runs in the order of their
seeds."""

NEGLIGIBLE = 1e-9
"""Probability of the counts that the enumeration leaves out on each side of each arm."""
LARGEST_N = 100_000
"""Number of answers per arm beyond which `required_n` gives up: no evaluation asks that many."""
MOST_TIMES = 100
"""Largest multiple of the present number of units that `n_to_decide` considers."""
TEETH = 40
"""Number of sample sizes below the first sufficient one that are tried: power rises with n in saw teeth."""


def power(p_control: float, p_arm: float, n: int, alpha: float = 0.05) -> float:
    """Return the probability that Fisher's exact two-sided test of n answers per arm finds the difference.

    Args:
        p_control: true rate of the control.
        p_arm: true rate of the arm.
        n: answers in each arm, at least 1; independent.
        alpha: level of the test.

    Raises:
        ConfigurationError: a rate or level outside its range, or n below 1.
    """
    _check_rates(p_control, p_arm)
    _check_open("level", alpha)
    if n < 1:
        raise ConfigurationError(f"{n} answers an arm cannot be: n has to be at least 1.")
    return _enumerated_power(p_control, p_arm, n, alpha)


def required_n(p_control: float, p_arm: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the smallest number of answers per arm with which Fisher's exact test reaches the given power.

    Args:
        p_control: true rate of the control.
        p_arm: true rate of the arm, another one.
        power: wanted probability of finding the difference.
        alpha: level of the test.

    Raises:
        ConfigurationError: equal rates, a value outside its range, or a difference that needs more than `LARGEST_N`
            answers.

    Example:
        `required_n(0.0, 0.01)` is 790: to see one answer in a hundred against none.
    """
    _check_rates(p_control, p_arm)
    _check_open("level", alpha)
    _check_open("power", power)
    if p_control == p_arm:
        raise ConfigurationError(f"Both rates are {p_arm}: no number of answers shows a difference that is not there.")
    enough = 2
    while _enumerated_power(p_control, p_arm, enough, alpha) < power:
        enough *= 2
        if enough > LARGEST_N:
            raise ConfigurationError(
                f"{p_control} against {p_arm} needs more than {LARGEST_N:,} answers an arm: plan for a larger "
                "difference."
            )
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if _enumerated_power(p_control, p_arm, middle, alpha) < power:
            too_few = middle
        else:
            enough = middle
    # Power is not monotone in n, so the bisection may miss a smaller n that is enough.
    below = range(max(2, enough - TEETH), enough)
    return next((n for n in below if _enumerated_power(p_control, p_arm, n, alpha) >= power), enough)


@dataclass(frozen=True)
class Design:
    """Comparison of an arm with its control: both trained with the same seeds and asked the same questions.

    Attributes:
        runs: training runs (seeds) of each arm, at least 2.
        questions: questions asked of each run.
        samples: answers to each question.
        seed_sd: standard deviation of the rate between runs of the arm, over all questions like these; the control's is
            scaled down with its own binomial deviation.
        question_icc: intraclass correlation of a run's answers to one question, 0 to below 1; published evaluations
            show 0.2 to 0.9.
    """

    runs: int
    questions: int
    samples: int
    seed_sd: float
    question_icc: float


def seed_power(
    p_control: float,
    p_arm: float,
    design: Design,
    *,
    verdict: Verdict | None = None,
    level: float = 0.95,
    simulations: int = 2000,
    seed: int = 0,
) -> float:
    """Simulate the probability that a study finds the difference.

    Args:
        p_control: true mean rate of the control.
        p_arm: true mean rate of the arm.
        design: runs, questions and samples, and how rates vary between them.
        verdict: what counts as found; by default the claim that the arm's rate is above the control's (below, where it
            is), held by the interval of `compare.paired_difference`.
        level: of that interval.
        simulations: simulated studies; 2,000 give a standard error of at most 1.1 percentage points.
        seed: of the simulation.

    Raises:
        ConfigurationError: a value outside its range, or a standard deviation no rate can have.
    """
    _check_rates(p_control, p_arm)
    _check_design(design, p_arm)
    arms, controls = simulated_counts((p_arm, p_control), design, simulations, seed)
    answers = design.questions * design.samples
    if verdict is None:
        sides = (arms, controls) if p_arm >= p_control else (controls, arms)
        return float(np.mean(_above(*sides, answers, level)))
    finds, pairs = verdict, zip(arms.tolist(), controls.tolist(), strict=True)
    return float(
        np.mean([finds([(k, answers) for k in arm], [(k, answers) for k in control]) for arm, control in pairs])
    )


def simulated_counts(
    means: Sequence[float], design: Design, simulations: int, seed: int
) -> list[Int[np.ndarray, "simulations runs"]]:
    """Draw misaligned answers of every run of several arms with these mean rates; the design's spread is that of the
    first.

    The rate of a run follows a beta distribution with the mean and the standard deviation that were asked for. A
    question's log odds are the run's plus a normal deviation with the intraclass correlation that was asked for, the
    same in all runs and, up to its scale, in all arms; the run's are such that its rate over all questions is the drawn
    one. Adding deviations to the run's own log odds instead would pull its rate, and the spread of runs, towards a
    half.
    """
    counts, hardness, state = _first_arm(means[0], design, simulations, seed)
    generator = np.random.default_rng()
    generator.bit_generator.state = state
    # The spread was asked for at the first mean; others get the same correlation, not the same deviation.
    icc = _run_icc(means[0], design)
    return [counts, *(_drawn(generator, mean, icc, hardness, design) for mean in means[1:])]


# Kept, since a search for a rate of the second arm draws the same first one at each rate that it tries.
@lru_cache(maxsize=2)
def _first_arm(
    mean: float, design: Design, simulations: int, seed: int
) -> tuple[Int[np.ndarray, "simulations runs"], Float[np.ndarray, "simulations 1 questions"], Mapping[str, Any]]:
    """Return the first arm's counts, the questions' deviations, and the state of the generator after both."""
    generator = np.random.default_rng(seed)
    hardness = generator.standard_normal((simulations, 1, design.questions))  # shared: all arms get the same questions
    counts = _drawn(generator, mean, _run_icc(mean, design), hardness, design)
    return counts, hardness, generator.bit_generator.state


def _run_icc(mean: float, design: Design) -> float:
    return design.seed_sd**2 / size if (size := mean * (1 - mean)) else 0.0


def _drawn(
    generator: np.random.Generator,
    mean: float,
    run_icc: float,
    hardness: Float[np.ndarray, "simulations 1 questions"],
    design: Design,
) -> Int[np.ndarray, "simulations runs"]:
    run_rates = _beta_rates(generator.random((len(hardness), design.runs, 1)), mean, run_icc)
    rates = _question_rates(run_rates, hardness, mean, design.question_icc)
    return np.asarray(generator.binomial(design.samples, rates).sum(axis=-1))


def _above(
    higher: Int[np.ndarray, "simulations runs"], lower: Int[np.ndarray, "simulations runs"], answers: int, level: float
) -> Bool[np.ndarray, "simulations"]:
    """Return in which studies the claim that one arm's rate is above the other's is held, by the limits of
    `paired_difference`."""
    from astray.stats.compare import difference_limits

    asked = np.full_like(higher, answers)
    _, limits = difference_limits((higher, asked), (lower, asked), higher.shape[1])
    return np.asarray(limits(level)[0] >= 0)


def n_to_decide(
    estimate: float, limits: tuple[float, float], n: int, region: tuple[float | None, float | None], level: float = 0.95
) -> int | None:
    """Return the number of units with which an interval would clear the borders that it crosses.

    Estimate and spread are assumed to stay as they are: the half-width is proportional to t / sqrt(n), t on n - 1
    degrees of freedom, which over answers, of which there are many, is the normal quantile.

    Args:
        estimate: the point estimate.
        limits: lower and upper limit of its interval.
        n: units that the interval is from.
        region: lower and upper border of the claimed region; None where there is none.
        level: of the interval.

    Returns:
        The number; None when no border is crossed, there is a single unit, or `MOST_TIMES` the units would not do.

    Example:
        `n_to_decide(0.10, (-0.02, 0.22), 5, (0.0, None))` is 7.
    """
    from scipy.special import stdtrit

    crossed = [border for border in region if border is not None and limits[0] < border < limits[1]]
    if n < 2 or not crossed:
        return None
    shrunk = min(
        abs(border - estimate) / (limits[1] - estimate if border > estimate else estimate - limits[0])
        for border in crossed
    )
    # All candidates at once: t quantiles have no closed inverse in the number of units.
    counts = np.arange(n, MOST_TIMES * n + 1)
    widths = -stdtrit(counts - 1, (1 - level) / 2) / np.sqrt(counts)
    enough = counts[widths <= shrunk * widths[0]]
    return int(enough[0]) if enough.size else None


def _enumerated_power(p_control: float, p_arm: float, n: int, alpha: float) -> float:
    from scipy.stats import binom

    control, arm = _likely_counts(n, p_control), _likely_counts(n, p_arm)
    joint = np.outer(binom.pmf(control, n, p_control), binom.pmf(arm, n, p_arm))
    return float(joint[_rejected(control, arm, n, alpha)].sum())


def _likely_counts(n: int, p: float) -> Int[np.ndarray, " counts"]:
    from scipy.stats import binom

    # Counts outside these quantiles cannot change the power in any shown digit.
    return np.arange(max(0, int(binom.ppf(NEGLIGIBLE, n, p))), min(n, int(binom.isf(NEGLIGIBLE, n, p))) + 1)


def _rejected(
    control: Int[np.ndarray, " control"], arm: Int[np.ndarray, " arm"], n: int, alpha: float
) -> Bool[np.ndarray, "control arm"]:
    """Return whether Fisher's test rejects each pair of counts: the smaller count is at or below the critical one."""
    sums = np.arange(control[0] + arm[0], control[-1] + arm[-1] + 1)
    critical = _critical_counts(sums, n, alpha)
    return np.minimum.outer(control, arm) <= critical[np.add.outer(control, arm) - sums[0]]


def _critical_counts(sums: Int[np.ndarray, " sums"], n: int, alpha: float) -> Int[np.ndarray, " sums"]:
    """Return, for each sum of both sides, the largest smaller count that Fisher's test rejects; -1 for none.

    With equal arms the hypergeometric distribution given the sum s is symmetric about s / 2, so the two-sided p-value
    is twice the tail. Probabilities are built from the middle count downwards by their ratio; eight standard deviations
    are enough.
    """
    from scipy.special import gammaln

    def log_choose(total: int, part: Int[np.ndarray, "sums 1"]) -> Float[np.ndarray, "sums 1"]:
        return gammaln(total + 1.0) - gammaln(part + 1.0) - gammaln(total - part + 1.0)

    depth = 4 * math.isqrt(int(sums[-1])) + 10
    s = sums[:, None]
    counts = s // 2 - np.arange(depth)
    ratios = counts * (n - s + counts) / ((n - counts + 1) * (s - counts + 1))
    below = np.cumprod(np.where(ratios > 0, ratios, 0.0), axis=1)[:, :-1]
    middle = np.exp(log_choose(n, s // 2) + log_choose(n, s - s // 2) - log_choose(2 * n, s))
    probabilities = middle * np.concatenate([np.ones_like(middle), below], axis=1)
    tails = np.cumsum(probabilities[:, ::-1], axis=1)[:, ::-1]
    # The tolerance counts a p-value equal to alpha up to rounding as a rejection.
    rejects = (2 * tails <= alpha * (1 + 1e-9)) & (counts >= np.maximum(0, s - n))
    first = np.argmax(rejects, axis=1)
    return np.where(rejects.any(axis=1), sums // 2 - first, -1)


def _beta_rates(uniform: Float[np.ndarray, "..."], mean: float, icc: float) -> Float[np.ndarray, "..."]:
    """Return rates of a beta distribution with this mean and intraclass correlation, at the given quantiles."""
    from scipy.stats import beta

    if icc == 0 or mean in (0.0, 1.0):
        return np.full_like(uniform, mean)
    size = 1 / icc - 1
    return np.asarray(beta.ppf(uniform, mean * size, (1 - mean) * size))


def _question_rates(
    run_rates: Float[np.ndarray, "simulations runs 1"],
    hardness: Float[np.ndarray, "simulations 1 questions"],
    mean: float,
    icc: float,
) -> Float[np.ndarray, "simulations runs questions"]:
    """Return the rate of each run on each question: the mean over all questions is the run's rate."""
    from scipy.special import expit

    if icc == 0 or mean in (0.0, 1.0):
        return np.broadcast_to(run_rates, np.broadcast_shapes(run_rates.shape, hardness.shape))
    sd = _question_sd(mean, icc)
    places = np.linspace(-_FURTHEST, _FURTHEST, 1201)
    # Tabulated and inverted by interpolation: a root for each simulated run would take far longer.
    over_questions = expit(places[:, None] + sd * _NODES) @ _WEIGHTS
    return np.asarray(expit(np.interp(run_rates, over_questions, places) + sd * hardness))


_NODES: Float[np.ndarray, "nodes"] = np.linspace(-6, 6, 241)
_WEIGHTS: Float[np.ndarray, "nodes"] = np.exp(-(_NODES**2) / 2) / np.exp(-(_NODES**2) / 2).sum()
"""Normal quantities by the trapezoidal rule, which is exact to rounding for them."""
_FURTHEST = 60.0
"""Largest log odds, and half of it the largest standard deviation of questions."""


@cache
def _question_sd(mean: float, icc: float) -> float:
    """Return the standard deviation of questions' log odds with which their rates have this mean and intraclass
    correlation."""
    from scipy.optimize import brentq
    from scipy.special import expit

    def excess(sd: float) -> float:
        location = brentq(
            lambda place: float(expit(place + sd * _NODES) @ _WEIGHTS) - mean, -4 * _FURTHEST, 4 * _FURTHEST
        )
        return float((expit(location + sd * _NODES) - mean) ** 2 @ _WEIGHTS - icc * mean * (1 - mean))

    return float(brentq(excess, 0.0, _FURTHEST / 2)) if excess(_FURTHEST / 2) > 0 else _FURTHEST / 2


def _check_rates(p_control: float, p_arm: float) -> None:
    for p in (p_control, p_arm):
        if not 0 <= p <= 1:
            raise ConfigurationError(f"A rate of {p} cannot be: write a fraction between 0 and 1 (5% is 0.05).")


def _check_open(what: str, value: float) -> None:
    if not 0 < value < 1:
        raise ConfigurationError(
            f"A {what} of {value} cannot be: write a fraction between 0 and 1, such as 0.05 or 0.8."
        )


def _check_design(design: Design, p_arm: float) -> None:
    if design.runs < 2 or design.questions < 1 or design.samples < 1:
        raise ConfigurationError(
            f"{design} cannot be compared over training runs: give at least 2 runs, 1 question and 1 sample."
        )
    if not 0 <= design.question_icc < 1:
        raise ConfigurationError(
            f"An intraclass correlation of {design.question_icc} cannot be: write a fraction from 0 to below 1, such "
            "as 0.2."
        )
    largest = math.sqrt(p_arm * (1 - p_arm))
    if not 0 <= design.seed_sd < largest and design.seed_sd != 0:
        raise ConfigurationError(
            f"Rates with mean {p_arm} cannot have a standard deviation of {design.seed_sd} between runs: it is below "
            f"{largest:.3f}."
        )
