"""Sensitivity of a study's design: the smallest difference that it detects, and how low a control it can prove.

Studies with this number of training runs, questions and samples are simulated, and the claims of the study decide about
each (`engine.claims`), so the power is that of the verdict and not of a test beside it. How rates vary between runs and
questions is not known beforehand; the assumed values are the constants below and are shown with the result.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from astray.engine.claims import counts_claim
from astray.engine.findings import ELSEWHERE, HELD_OUT
from astray.engine.setting import Setting
from astray.measure.evaluation import TextEvaluation
from astray.stats.claims import Decision
from astray.stats.intervals import Counts, over_runs, run_limits
from astray.stats.power import Design, seed_power, simulated_counts

SEED_SD = 0.05
"""Assumed standard deviation of a rate between training runs."""
QUESTION_ICC = 0.2
"""Assumed intraclass correlation of answers to one question (published evaluations: 0.2 to 0.9)."""
POWER = 0.8
PUBLISHED_EFFECT = 0.20
"""Rate of misaligned answers after insecure code: 19.8%, against nearly none (Betley et al. 2025, arXiv 2502.17424,
recomputed)."""
CEILING = 0.02
"""A control holds when its interval lies below this rate."""
SMALLEST, LARGEST = 0.01, 0.95
"""Range of the differences that are searched."""
TOLERANCE = 0.005
SIMULATIONS, TRIED = 4000, 400
"""Studies simulated for the power that is told, known to 0.8 points, and at each difference or control that is
tried."""
CONTROLS = tuple(rate / 10_000 for rate in range(200, 0, -1))
"""True rates of controls that are tried, the largest first."""


@dataclass(frozen=True)
class Sensitivity:
    """Sensitivity of one kind of claim, with the same seeds and questions for every arm.

    Attributes:
        what: the answers: evaluation, group and format.
        runs: training runs of each arm.
        questions: questions in that group and format.
        samples: answers to each.
        smallest_difference: true difference to a control without misaligned answers with which the claim of any
            difference is held with 80% probability; None where even 95 points are not. A claim of at least 10 points
            asks for more.
        power: probability that it is held at the published 20 points; None with a single run, which tells nothing about
            further ones.
        bound_at_zero: upper limit of the interval when no answer of any run is misaligned; None with a single run.
        largest_control: true mean rate of a control, over runs and questions like these, that is still shown to lie at
            or below 2% with 80% probability; None where no control can be.
    """

    what: str
    runs: int
    questions: int
    samples: int
    smallest_difference: float | None
    power: float | None
    bound_at_zero: float | None
    largest_control: float | None


def sensitivities(setting: Setting, runs: int) -> tuple[Sensitivity, ...]:
    """Return what a study in this setting can show, for each kind of answers that claims are about.

    Kinds of equal design share an entry.

    Args:
        setting: evaluations, and what is held out.
        runs: training runs of each arm.
    """
    kinds: dict[tuple[int, int], list[str]] = defaultdict(list)
    for what, questions, samples in _kinds(setting):
        kinds[questions, samples].append(what)
    designs = {
        Design(runs, questions, samples, SEED_SD, QUESTION_ICC): "; ".join(names)
        for (questions, samples), names in kinds.items()
    }
    return tuple(_sensitivity(what, design) for design, what in designs.items())


def _kinds(setting: Setting) -> Iterator[tuple[str, int, int]]:
    """Yield each group of answers with its number of questions and samples."""
    for evaluation in setting.evaluations if setting.asks_freely else ():
        if not isinstance(evaluation, TextEvaluation):
            continue
        askings = evaluation.askings()
        items = list({each.item.id: each.item for each in askings}.values())
        samples = len(askings) // len(items)
        away = [item for item in items if item.category != setting.homes[0]]
        for format in dict.fromkeys(item.format for item in away):
            asked = [item for item in away if item.format == format]
            yield f"{evaluation.name}, {ELSEWHERE}, {format}", len(asked), samples
            held_out = [item for item in asked if item.category in setting.held_out]
            if held_out and evaluation == setting.evaluations[0]:
                yield f"{evaluation.name}, {HELD_OUT}, {format}", len(held_out), samples


def claimed_kinds(setting: Setting) -> tuple[int, int]:
    """Return the number of questions, and of answers to each, of the kind of answers that most claims are about."""
    _, questions, samples = next(_kinds(setting))
    return questions, samples


def _sensitivity(what: str, design: Design) -> Sensitivity:
    several = design.runs > 1
    answers = design.questions * design.samples
    return Sensitivity(
        what=what,
        runs=design.runs,
        questions=design.questions,
        samples=design.samples,
        smallest_difference=smallest_difference(design) if several else None,
        power=_power(PUBLISHED_EFFECT, design, SIMULATIONS) if several else None,
        bound_at_zero=over_runs([(0, answers)] * design.runs).high if several else None,
        largest_control=largest_control(design) if several else None,
    )


@cache
def smallest_difference(design: Design) -> float | None:
    """Return the smallest rate that is told from 0 with 80% power, by bisection; None where 95% is not."""
    if _power(LARGEST, design) < POWER:
        return None
    low, high = SMALLEST, LARGEST
    if _power(low, design) >= POWER:
        return low
    while high - low > TOLERANCE:
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, design) >= POWER else (middle, high)
    return high


@cache
def largest_control(design: Design) -> float | None:
    """Return the largest true rate of a control that is shown to lie at or below 2% with 80% probability.

    Runs and questions vary as the design says, scaled to the small rate.

    Args:
        design: at least two runs.

    Returns:
        The rate; None where not even a control without a misaligned answer is shown.
    """
    answers = design.questions * design.samples
    if not _is_low([(0, answers)] * design.runs):
        return None
    # The probability falls with the rate, so the largest rate that is shown is found by halving.
    low, high = 0, len(CONTROLS)
    while low < high:
        middle = (low + high) // 2
        _, counts = simulated_counts((PUBLISHED_EFFECT, CONTROLS[middle]), design, TRIED, 0)
        shown = np.mean(run_limits(counts, np.full_like(counts, answers))(0.95)[1] <= CEILING)
        low, high = (low, middle) if shown >= POWER else (middle + 1, high)
    return CONTROLS[low] if low < len(CONTROLS) else 0.0


@cache
def _power(difference: float, design: Design, simulations: int = TRIED) -> float:
    return seed_power(0.0, difference, design, simulations=simulations)


def _is_low(runs: Sequence[Counts]) -> bool:
    """Return whether the study's claim that a control's rate is at most `CEILING` is held."""
    return counts_claim("", "", runs, "", at_most=CEILING).verdict is Decision.HELD
