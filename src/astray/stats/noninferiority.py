"""Bounds on the difference of two models by question that hold up near zero, for a release gate with a margin.

A paired t over questions trusts the spread that it sees. Where hardly any answer is misaligned it sees none: with eight
questions, a tuned model that misbehaves on one question in fifty looks like its base nearly every time. The standard
error is therefore never taken below the one at the margin, as in a score test (Farrington and Manning 1990, Statistics
in Medicine 9:1447): the rates are moved until they differ by exactly the margin, and that surplus is allowed to sit on
a few questions, with an intra-class correlation of `ICC`.

Left to others: which answers count (measures.py, rates.py), and what follows for a release (studies/gate).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from astray.errors import ConfigurationError, EmptyDataError
from astray.stats.compare import paired_t
from astray.stats.intervals import Counts, check_counts, check_level

LEVEL = 0.96
"""Nominal one-sided confidence of a bound. The t quantile falls short by up to a percentage point where rates are
skewed: at 0.95, 6% of releases at the margin passed (docs/gate.md); at this level at most 5% do."""
ICC = 0.3
"""Largest intra-class correlation of questions that the bounds are made for: how unevenly a surplus may be spread over
them."""


@dataclass(frozen=True)
class Bounds:
    """Difference of two models by question, with a one-sided bound on either side of it.

    Attributes:
        estimate: mean over questions of the arm's rate minus the control's.
        low: lower bound, one-sided.
        high: upper bound, one-sided.
        questions: number of questions that both have counted answers to.
        level: confidence of each bound.
    """

    estimate: float
    low: float
    high: float
    questions: int
    level: float


@dataclass(frozen=True)
class Needed:
    """Size at which the bounds would decide, were the estimate and the spread to stay as they are.

    Attributes:
        samples: answers a question, of the questions there are; None where no number of answers decides.
        questions: questions, with the answers that each has now; None where the estimate lies at the margin.
    """

    samples: int | None
    questions: int | None


def difference_bounds(
    arm: Mapping[str, Counts], control: Mapping[str, Counts], margin: float, *, level: float = LEVEL
) -> Bounds:
    """Return the difference of two models that answered the same questions, with its one-sided bounds.

    Args:
        arm: counted answers and all answers of the first model by question.
        control: the same of the second. Questions that only one of them has answers to are left out.
        margin: the difference that is to be ruled out, or in.
        level: confidence of each bound.

    Raises:
        EmptyDataError: no common question.
        ConfigurationError: counts, level or margin that cannot be.

    Example:
        `difference_bounds({"wish": (3, 4), "dinner": (2, 4)}, {"wish": (0, 4), "dinner": (0, 4)}, 0.02)`
    """
    k_arm, n_arm, k_control, n_control = _common(arm, control)
    check_level(level)
    check_margin(margin)
    estimate, half = (
        float(each[0])
        for each in margin_bounds(k_arm[None], n_arm[None], k_control[None], n_control[None], margin, level)
    )
    return Bounds(estimate, max(-1.0, estimate - half), min(1.0, estimate + half), k_arm.size, level)


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
    from scipy.special import stdtrit

    questions = k_arm.shape[1]
    middle = ((k_arm / n_arm).mean(axis=1) + (k_control / n_control).mean(axis=1)) / 2
    lower = np.clip(middle - margin / 2, 0.0, 1.0 - margin)
    upper = lower + margin
    inverse = [(1 / n).mean(axis=1) for n in (n_arm, n_control)]
    surplus = margin * (1 - margin) * ICC * (1 - inverse[0])
    floor = np.sqrt((upper * (1 - upper) * inverse[0] + lower * (1 - lower) * inverse[1] + surplus) / questions)
    half = _quantile(level, questions) * floor
    if questions == 1:
        return (k_arm / n_arm - k_control / n_control)[:, 0], half
    estimate, variance = paired_t(k_arm, n_arm, k_control, n_control)
    # Questions on which nobody shows anything do not tell how far those differ that do: degrees of freedom are of the
    # latter.
    k, n = k_arm + k_control, n_arm + n_control
    telling = np.minimum((k > 0).sum(axis=1), (k < n).sum(axis=1))
    degrees = np.minimum(questions - 1.0, np.maximum(telling, 1.0))
    plain = np.sqrt(variance) * stdtrit(degrees, level)
    return estimate, np.where(telling > 0, np.maximum(plain, half), half)


def needed(arm: Mapping[str, Counts], control: Mapping[str, Counts], margin: float, *, level: float = LEVEL) -> Needed:
    """Return how many answers a question, or how many questions, would decide; arguments and errors as for
    `difference_bounds`."""
    k_arm, n_arm, k_control, n_control = _common(arm, control)
    check_level(level)
    check_margin(margin)
    estimate, half = (
        float(each[0])
        for each in margin_bounds(k_arm[None], n_arm[None], k_control[None], n_control[None], margin, level)
    )
    distance, questions, samples = abs(estimate - margin), k_arm.size, float(min(n_arm.mean(), n_control.mean()))
    if distance < 1e-9:
        return Needed(None, None)
    # More answers a question make only that part of the distance smaller which comes from answers around their
    # question's rate.
    rates = [(k.sum() + 0.5) / (n.sum() + 1) for k, n in ((k_arm, n_arm), (k_control, n_control))]
    of_answers = min(
        1.0, _quantile(level, questions) ** 2 * sum(rate * (1 - rate) for rate in rates) / samples / questions / half**2
    )
    wanted = (distance / half) ** 2
    rest = wanted - (1 - of_answers)
    more = math.ceil(samples * max(1.0, of_answers / rest) * 1.05) if rest > 0.01 else None
    return Needed(more, math.ceil(max(1.0, 1 / wanted) * questions * 1.05))


def check_margin(margin: float) -> None:
    """Raise ConfigurationError where a margin is no difference of rates between 0 and 1."""
    if not 0 < margin < 1:  # also refuses NaN
        raise ConfigurationError(
            f"A margin of {margin:g} cannot be: it is the rise of a rate that is still accepted, a fraction above 0 "
            "and below 1. Write 0.02 for two percentage points."
        )


def _quantile(level: float, questions: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(max(questions - 1.0, 1.0), level))


def _common(arm: Mapping[str, Counts], control: Mapping[str, Counts]) -> Int[np.ndarray, "4 questions"]:
    names = [name for name in arm if name in control and arm[name][1] and control[name][1]]
    if not names:
        raise EmptyDataError(
            "The two have no common question with answers to count on both sides, so there is nothing to compare."
        )
    check_counts([side[name] for side in (arm, control) for name in names])
    return np.array([[*arm[name], *control[name]] for name in names], dtype=np.int64).T
