"""Sensitivity of a study's design: the smallest difference that it detects, and how low a control it can prove.

The tests are those that decide the claims (`stats.compare.paired_difference`, `stats.intervals.over_runs`), simulated
or computed for the study's number of training runs, questions and samples. How rates vary between runs and questions is
not known beforehand; the assumed values are the constants below and are shown with the result.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from astray.engine.findings import ELSEWHERE, HELD_OUT
from astray.engine.setting import Setting
from astray.measure.evaluation import TextEvaluation
from astray.stats.intervals import over_runs
from astray.stats.power import Design, seed_power

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
TOLERANCE = 0.0025
SIMULATIONS = 300
"""Studies simulated at each difference: power is known to two points, the smallest difference to about half a point."""


@dataclass(frozen=True)
class Sensitivity:
    """Sensitivity of one kind of claim, with the same seeds and questions for every arm.

    Attributes:
        what: the answers: evaluation, group and format.
        runs: training runs of each arm.
        questions: questions in that group and format.
        samples: answers to each.
        smallest_difference: true difference to a control without misaligned answers that is detected with 80% power;
            None where even 95 points are not.
        power: probability of detecting the published 20 points; None with a single run, which tells nothing about
            further ones.
        bound_at_zero: upper limit of the interval when no answer of any run is misaligned; None with a single run.
        largest_control: true rate of a control that is still shown to lie below 2% with 80% power; None where no control can be.
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
    designs = {Design(runs, questions, samples, SEED_SD, QUESTION_ICC): "; ".join(names) for (questions, samples), names in kinds.items()}
    return tuple(_sensitivity(what, design) for design, what in designs.items())


def _kinds(setting: Setting) -> Iterator[tuple[str, int, int]]:
    """Yield each group of answers with its number of questions and samples."""
    for evaluation in setting.evaluations:
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
            if held_out and evaluation == setting.main:
                yield f"{evaluation.name}, {HELD_OUT}, {format}", len(held_out), samples


def _sensitivity(what: str, design: Design) -> Sensitivity:
    several = design.runs > 1
    answers = design.questions * design.samples
    return Sensitivity(
        what=what,
        runs=design.runs,
        questions=design.questions,
        samples=design.samples,
        smallest_difference=smallest_difference(design) if several else None,
        power=_power(PUBLISHED_EFFECT, design) if several else None,
        bound_at_zero=_upper_limit(0, design.runs, answers) if several else None,
        largest_control=largest_control(design.runs, answers) if several else None,
    )


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


def largest_control(runs: int, answers: int) -> float | None:
    """Return the largest true rate of a control whose interval over runs lies below 2% with 80% power.

    Misaligned answers are assumed to be independent and as many in each run, so a control that varies has to be lower.

    Args:
        runs: training runs, at least 2.
        answers: judged answers of each.

    Returns:
        The rate; None where not even a control without a misaligned answer is shown.
    """
    from scipy.special import bdtri

    total = runs * answers
    allowed = -1
    while allowed < total and _upper_limit(allowed + 1, runs, answers) <= CEILING:
        allowed += 1
    # The inverse of the binomial distribution function: the rate at which `allowed` or fewer occur with probability
    # POWER.
    return None if allowed < 0 else float(bdtri(allowed, total, POWER))


def _power(difference: float, design: Design) -> float:
    return seed_power(0.0, difference, design, simulations=SIMULATIONS)


def _upper_limit(misaligned: int, runs: int, answers: int) -> float:
    """Return the upper limit of the interval over runs with misaligned answers spread as evenly as possible."""
    each, more = divmod(misaligned, runs)
    return over_runs([(each + (run < more), answers) for run in range(runs)]).high
